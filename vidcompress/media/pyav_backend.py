"""Reading clips with PyAV: list the packets, seek to the nearest key frame, decode forward, keep what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .backends import Clip, Request, register_backend
from .container import ClipFacts, open_clip, read_index
from .errors import MediaError
from .orientation import Matrix, display_matrix, upright
from .packets import PacketIndex, Segment, plan_segments
from .timeline import Timeline
from .video import VideoFrames


class _Missed(Exception):
    """The index did not lead to the frames; the clip has to be read from its start."""


@register_backend("pyav")
class PyAVBackend:
    """FFmpeg's demuxers and decoders, through PyAV: every codec that build knows, AV1 included."""

    def read(self, clip: Clip, request: Request) -> VideoFrames:
        """Decode the requested frames.

        Raises:
            MediaError: not a video, damaged or cut short, or over a limit of `request`.
        """
        index, facts = read_index(clip, request)
        if index is not None:
            try:
                return _read_indexed(clip, request, index, facts)
            except _Missed:
                pass  # hidden frames, fields, broken key flags: rare, and reading everything is always right
        return _read_all(clip, request, facts)


@dataclass(frozen=True)
class Survey:
    """What a backend that brings frames only has to know about a clip.

    Attributes:
        timeline: when its frames are shown.
        facts: of its container.
        matrix: its display matrix.
    """

    timeline: Timeline
    facts: ClipFacts
    matrix: Matrix


def survey(clip: Clip, request: Request) -> Survey:
    """List a clip's packets and decode its first frame (all of them where the packets do not tell the frames).

    Raises:
        MediaError: as `PyAVBackend.read`.
    """
    index, facts = read_index(clip, request)
    if index is None:
        timeline = _count(clip, request, facts)
    else:
        timeline = Timeline.from_index(index, facts, clip.name)
    with open_clip(clip, request) as (container, stream):
        frame = next(container.decode(stream), None)
    if frame is None:
        raise MediaError(f"video={clip.name!r}: no frame could be decoded; it is damaged, fetch it again")
    return Survey(timeline, facts, display_matrix(frame))


def _read_indexed(clip: Clip, request: Request, index: PacketIndex, facts: ClipFacts) -> VideoFrames:
    timeline = Timeline.from_index(index, facts, clip.name)
    chosen = timeline.choose(request)
    keeper = _Keeper(clip, request, len(chosen))
    with open_clip(clip, request) as (container, stream):
        for segment in plan_segments(index, chosen):
            _decode_segment(container, stream, index, segment, keeper)
    return keeper.finish(timeline, chosen, facts)


def _decode_segment(
    container: Any, stream: Any, index: PacketIndex, segment: Segment, keeper: _Keeper
) -> None:
    """Append the segment's targets to `keeper`, in order of presentation."""
    waiting = set(segment.targets)
    for packet in _packets_from(container, stream, index, segment.start):
        for frame in packet.decode():
            if frame.interlaced_frame:
                raise _Missed  # two packets may make one frame
            if frame.pts in waiting:
                if frame.is_corrupt:
                    raise _Missed
                waiting.discard(frame.pts)
                keeper.keep(frame)
        if not waiting:
            return
    raise _Missed


def _packets_from(container: Any, stream: Any, index: PacketIndex, start: int) -> Iterator[Any]:
    """Packets from a key packet on. Demuxers seek by either time stamp; the first packet shows where we are."""
    for stamp in (index.pts[start], index.dts[start]) if start else (index.dts[0],):
        container.seek(int(stamp), stream=stream, backward=True, any_frame=False)
        packets = container.demux(stream)
        first = next(packets, None)
        landed = None if first is None else index.position(first.pts)
        if first is not None and landed is not None and landed <= start:
            yield first
            yield from packets
            return
    raise _Missed


def _count(clip: Clip, request: Request, facts: ClipFacts) -> Timeline:
    """Decode everything to learn when frames are shown."""
    stamps: list[int | None] = []
    with open_clip(clip, request) as (container, stream):
        for frame in container.decode(stream):
            stamps.append(frame.pts)
            request.check_length(clip.name, len(stamps))
    if not stamps:
        raise MediaError(f"video={clip.name!r}: no frame could be decoded; it is damaged, fetch it again")
    return Timeline.from_stamps(stamps, facts, clip.name)


def _read_all(clip: Clip, request: Request, facts: ClipFacts) -> VideoFrames:
    """Decode twice: once to count, once to keep. For streams whose packets do not tell which frames they make."""
    timeline = _count(clip, request, facts)
    chosen = timeline.choose(request)
    with open_clip(clip, request) as (container, stream):
        keeper, wanted = _Keeper(clip, request, len(chosen)), set(chosen)
        for position, frame in enumerate(container.decode(stream)):
            if position in wanted:
                keeper.keep(frame)
            if position >= chosen[-1]:
                break
    return keeper.finish(timeline, chosen, facts)


class _Keeper:
    """Converts the frames that are kept, and only those, into one block of memory."""

    def __init__(self, clip: Clip, request: Request, count: int) -> None:
        self.clip, self.request, self.count, self.filled = clip, request, count, 0
        self.block: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        self.height = self.width = 0
        self.scaled = False

    def keep(self, frame: Any) -> None:
        """Add one decoded frame, upright, in the size of the first one (a stream may change size on the way)."""
        if self.block is None:
            self.height, self.width = frame.height, frame.width
        self.scaled |= (frame.height, frame.width) != (self.height, self.width)
        picture = frame.to_ndarray(format="rgb24", width=self.width, height=self.height)
        picture = upright(picture, display_matrix(frame))
        if self.block is None:
            self.request.check_picture(self.clip.name, *picture.shape[:2])
            self.request.check_memory(self.clip.name, self.count, *picture.shape[:2])
            self.block = np.empty((self.count, *picture.shape), dtype=np.uint8)
        self.block[self.filled] = picture
        self.filled += 1

    def finish(self, timeline: Timeline, chosen: list[int], facts: ClipFacts) -> VideoFrames:
        """Hand the block over."""
        if self.block is None or self.filled != self.count:
            raise MediaError(
                f"video={self.clip.name!r}: {self.filled} of {self.count} frames could be decoded; fetch it again"
            )
        notes = ["frames of other sizes were scaled to that of the first"] if self.scaled else []
        frames = torch.from_numpy(self.block)
        return VideoFrames.on(
            timeline, chosen, frames, "pyav", self.clip.name, [*notes, *stream_notes(facts)]
        )


def stream_notes(facts: ClipFacts) -> list[str]:
    """What the caller should know about the choice of the stream."""
    return [f"the file has several video streams; number {facts.stream} was read"] if facts.others else []

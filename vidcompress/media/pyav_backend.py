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
from .parts import Part, Reread, whole
from .timeline import Timeline
from .video import VideoFrames


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
                return whole(_read_indexed(clip, request, index, facts))
            except Reread:
                pass  # hidden frames, fields, broken key flags: rare, and reading everything is always right
        return whole(_read_all(clip, request, facts))

    def parts(self, clip: Clip, request: Request) -> Iterator[Part]:
        """Decode the requested frames, and yield after each of them what there is.

        Raises:
            MediaError: as `read`, when it is found.
            Reread: the packets did not lead to the frames; only `read` serves the clip.
        """
        index, facts = read_index(clip, request)
        if index is None:
            return _read_all(clip, request, facts)
        return _read_indexed(clip, request, index, facts)


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


def _read_indexed(clip: Clip, request: Request, index: PacketIndex, facts: ClipFacts) -> Iterator[Part]:
    timeline = Timeline.from_index(index, facts, clip.name)
    keeper = _Keeper(clip, request, timeline, timeline.choose(request), facts)
    with open_clip(clip, request) as (container, stream):
        for segment in plan_segments(index, keeper.chosen):
            for frame in _decode_segment(container, stream, index, segment):
                yield keeper.keep(frame)
    yield keeper.finish()


def _decode_segment(container: Any, stream: Any, index: PacketIndex, segment: Segment) -> Iterator[Any]:
    """The frames that are the segment's targets, in order of presentation."""
    waiting = set(segment.targets)
    for packet in _packets_from(container, stream, index, segment.start):
        for frame in packet.decode():
            if frame.interlaced_frame:
                raise Reread  # two packets may make one frame
            if frame.pts in waiting:
                if frame.is_corrupt:
                    raise Reread
                waiting.discard(frame.pts)
                yield frame
        if not waiting:
            return
    raise Reread


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
    raise Reread


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


def _read_all(clip: Clip, request: Request, facts: ClipFacts) -> Iterator[Part]:
    """Decode twice: once to count, once to keep. For streams whose packets do not tell which frames they make."""
    timeline = _count(clip, request, facts)
    keeper = _Keeper(clip, request, timeline, timeline.choose(request), facts)
    wanted = set(keeper.chosen)
    with open_clip(clip, request) as (container, stream):
        for position, frame in enumerate(container.decode(stream)):
            if position in wanted:
                yield keeper.keep(frame)
            if position >= keeper.chosen[-1]:
                break
    yield keeper.finish()


class _Keeper:
    """Converts the frames that are kept, and only those, into one block of memory."""

    def __init__(
        self, clip: Clip, request: Request, timeline: Timeline, chosen: list[int], facts: ClipFacts
    ) -> None:
        self.clip, self.request, self.timeline, self.chosen = clip, request, timeline, chosen
        self.facts, self.count, self.filled = facts, len(chosen), 0
        self.block: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        self.height = self.width = 0
        self.scaled = False
        self.made: VideoFrames | None = None

    def keep(self, frame: Any) -> Part:
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
        if self.made is None:
            self.made = self._clip(self.block)
        return Part(self.made, self.filled)

    def finish(self) -> Part:
        """Hand the whole block over."""
        if self.block is None or self.filled != self.count:
            raise MediaError(
                f"video={self.clip.name!r}: {self.filled} of {self.count} frames could be decoded; fetch it again"
            )
        return Part(self._clip(self.block), self.filled)

    def _clip(self, block: np.ndarray[Any, np.dtype[np.uint8]]) -> VideoFrames:
        notes = ["frames of other sizes were scaled to that of the first"] if self.scaled else []
        notes += stream_notes(self.facts)
        frames, name = torch.from_numpy(block), self.clip.name
        return VideoFrames.on(self.timeline, self.chosen, frames, "pyav", name, notes)


def stream_notes(facts: ClipFacts) -> list[str]:
    """What the caller should know about the choice of the stream."""
    return [f"the file has several video streams; number {facts.stream} was read"] if facts.others else []

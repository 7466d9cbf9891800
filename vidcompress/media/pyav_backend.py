"""Reading clips with PyAV: list the packets, seek to the nearest key frame, decode forward, keep what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from .backends import Clip, Request, register_backend
from .container import ClipFacts, open_clip, read_index
from .errors import MediaError
from .packets import PacketIndex, Segment, plan_segments
from .sampling import choose_indices
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


def _read_indexed(clip: Clip, request: Request, index: PacketIndex, facts: ClipFacts) -> VideoFrames:
    chosen = choose_indices(
        len(index), facts.fps, num_frames=request.num_frames, fps=request.fps, max_frames=request.max_frames
    )
    segments = plan_segments(index, chosen)
    with open_clip(clip, request) as (container, stream):
        keeper = _Keeper(clip, request, len(chosen))
        for segment in segments:
            _decode_segment(container, stream, index, segment, keeper)
    ticks = index.pts[index.shown]
    times = (ticks - ticks[0]) * facts.tick
    return keeper.finish(
        tuple(float(times[i]) for i in chosen), float(times[-1]) + facts.last_duration, facts.fps, len(index)
    )


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


def _read_all(clip: Clip, request: Request, facts: ClipFacts) -> VideoFrames:
    """Decode twice: once to count, once to keep. For streams whose packets do not tell which frames they make."""
    stamps: list[int | None] = []
    with open_clip(clip, request) as (container, stream):
        for frame in container.decode(stream):
            stamps.append(frame.pts)
            request.check_length(clip.name, len(stamps))
    total = len(stamps)
    if total == 0:
        raise MediaError(f"video={clip.name!r}: no frame could be decoded; it is damaged, fetch it again")
    chosen = choose_indices(
        total, facts.fps, num_frames=request.num_frames, fps=request.fps, max_frames=request.max_frames
    )
    with open_clip(clip, request) as (container, stream):
        keeper, wanted = _Keeper(clip, request, len(chosen)), set(chosen)
        for position, frame in enumerate(container.decode(stream)):
            if position in wanted:
                keeper.keep(frame)
            if position >= chosen[-1]:
                break
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) == total and known == sorted(known):  # damaged and joined clips go back in time
        times = [(stamp - known[0]) * facts.tick for stamp in known]
    else:
        times = [position / facts.fps if facts.fps > 0 else float(position) for position in range(total)]
    return keeper.finish(tuple(times[i] for i in chosen), times[-1] + facts.last_duration, facts.fps, total)


class _Keeper:
    """Converts the frames that are kept, and only those, into one block of memory."""

    def __init__(self, clip: Clip, request: Request, count: int) -> None:
        self.clip, self.request, self.count, self.filled = clip, request, count, 0
        self.block: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        self.height = self.width = 0

    def keep(self, frame: Any) -> None:
        """Add one decoded frame, upright, in the size of the first one (a stream may change size on the way)."""
        if self.block is None:
            self.height, self.width = frame.height, frame.width
        picture = frame.to_ndarray(format="rgb24", width=self.width, height=self.height)
        if frame.rotation % 90 == 0:
            picture = np.rot90(picture, k=frame.rotation // 90)
        if self.block is None:
            self.request.check_picture(self.clip.name, *picture.shape[:2])
            self.request.check_memory(self.clip.name, self.count, *picture.shape[:2])
            self.block = np.empty((self.count, *picture.shape), dtype=np.uint8)
        self.block[self.filled] = picture
        self.filled += 1

    def finish(self, times: tuple[float, ...], duration: float, fps: float, total: int) -> VideoFrames:
        """Hand the block over."""
        if self.block is None or self.filled != self.count:
            raise MediaError(
                f"video={self.clip.name!r}: {self.filled} of {self.count} frames could be decoded"
            )
        rate = fps if fps > 0 else (total / duration if duration > 0 else 0.0)
        return VideoFrames(torch.from_numpy(self.block), times, duration, rate, total, "pyav", self.clip.name)

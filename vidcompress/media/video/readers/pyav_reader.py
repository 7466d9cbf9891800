"""Reader of clips with PyAV: list the packets, seek to the nearest key frame, decode forward, keep the targets."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from vidcompress.errors import MediaError
from vidcompress.media.files import Clip
from vidcompress.media.orientation import IDENTITY, TURNED_ONCE, Matrix, display_matrix
from vidcompress.media.video.backends import register_backend
from vidcompress.media.video.container import ClipFacts, open_clip, read_index
from vidcompress.media.video.frame_decoder import Decoder, Look, picture_of
from vidcompress.media.video.frames import FrameBlock, PartialClip, Reread, Timeline, VideoFrames, whole
from vidcompress.media.video.packets import PacketIndex, Segment, plan_segments
from vidcompress.media.video.sampling import Request
from vidcompress.progress import ON_FRAME


@register_backend("pyav")
class PyAVBackend:
    """Reader of FFmpeg's formats through PyAV: every codec of its build, AV1 included."""

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
                pass  # hidden frames, fields, broken key flags: rare, and decoding everything is always right
        return whole(_read_all(clip, request, facts))

    def parts(self, clip: Clip, request: Request) -> Iterator[PartialClip]:
        """Decode the requested frames, and yield the partial clip after each of them.

        Raises:
            MediaError: as `read`, raised when the error is found.
            Reread: the packets did not lead to the frames; only `read` can read the clip.
        """
        index, facts = read_index(clip, request)
        if index is None or request.decode_all:
            return _read_all(clip, request, facts)
        return _read_indexed(clip, request, index, facts)


@dataclass(frozen=True)
class Survey:
    """Survey of a clip: timeline, facts and formats, for backends that return frames only.

    Attributes:
        timeline: times of its frames.
        facts: of its container.
        matrix: display matrix of its first frame.
        looks: formats of the decoded frames, each once.
    """

    timeline: Timeline
    facts: ClipFacts
    matrix: Matrix
    looks: tuple[Look, ...]


def survey(clip: Clip, request: Request, *, first_only: bool = False) -> Survey:
    """List a clip's packets and decode the requested frames, without converting any.

    Args:
        clip: the clip.
        request: the requested frames.
        first_only: decode the first frame only; `looks` is then that of the first frame.

    Raises:
        MediaError: as `PyAVBackend.read`.
    """
    index, facts = read_index(clip, request)
    if index is not None:
        try:
            timeline = Timeline.from_index(index, facts, clip.name)
            chosen = timeline.choose(request)
            seen = _seen(_indexed(clip, request, index, chosen[:1] if first_only else chosen))
            return Survey(timeline, facts, *seen)
        except Reread:
            pass
    timeline = _count(clip, request, facts)
    chosen = timeline.choose(request)
    return Survey(timeline, facts, *_seen(_all(clip, request, chosen[:1] if first_only else chosen)))


def _seen(frames: Iterator[Any]) -> tuple[Matrix, tuple[Look, ...]]:
    matrix, looks = IDENTITY, dict[Look, None]()
    for frame in frames:
        matrix = matrix if looks else display_matrix(frame)
        looks[Look.of(frame)] = None
    return matrix, tuple(looks)


def _read_indexed(
    clip: Clip, request: Request, index: PacketIndex, facts: ClipFacts
) -> Iterator[PartialClip]:
    timeline = Timeline.from_index(index, facts, clip.name)
    keeper = _Keeper(clip, request, timeline, timeline.choose(request), facts)
    for frame in _indexed(clip, request, index, keeper.chosen):
        yield keeper.keep(frame)
    yield keeper.finish()


def _indexed(clip: Clip, request: Request, index: PacketIndex, chosen: list[int]) -> Iterator[Any]:
    """Yield the chosen frames of a clip whose packets identify its frames.

    Raises:
        Reread: they do not.
    """
    with open_clip(clip, request) as (container, stream):
        decoder = Decoder(stream)
        for segment in plan_segments(index, chosen):
            yield from _decode_segment(container, stream, decoder, index, segment)


def _decode_segment(
    container: Any, stream: Any, decoder: Decoder, index: PacketIndex, segment: Segment
) -> Iterator[Any]:
    """Yield the frames that are the segment's targets, in order of presentation."""
    waiting = set(segment.targets)
    for packet in _packets_from(container, stream, decoder, index, segment.start):
        for frame in decoder.decode(packet):
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


def _packets_from(
    container: Any, stream: Any, decoder: Decoder, index: PacketIndex, start: int
) -> Iterator[Any]:
    """Yield packets from a key packet on. Demuxers seek by either time stamp; the first packet shows the position.

    A new container is at the start of its clip; a seek to it would lose data that comes with the first packet only.
    """
    for stamp in (index.pts[start], index.dts[start]) if start else (None,):
        if stamp is not None:
            container.seek(int(stamp), stream=stream, backward=True, any_frame=False)
            decoder.flush()
        packets = container.demux(stream)
        first = next(packets, None)
        landed = None if first is None else index.position(first.pts)
        if first is not None and landed is not None and landed <= start:
            yield first
            yield from packets
            return
    raise Reread


def _decoded(clip: Clip, request: Request) -> Generator[Any, None, None]:
    """Yield every frame of a clip, decoded from its start."""
    with open_clip(clip, request) as (container, stream):
        decoder = Decoder(stream)
        for packet in container.demux(stream):
            yield from decoder.decode(packet)


def _count(clip: Clip, request: Request, facts: ClipFacts) -> Timeline:
    """Decode everything to find the times of the frames."""
    stamps: list[int | None] = []
    for frame in _decoded(clip, request):
        stamps.append(frame.pts)
        request.check_length(clip.name, len(stamps))
    if not stamps:
        raise MediaError(f"video={clip.name!r}: no frame could be decoded; it is damaged, fetch it again")
    return Timeline.from_stamps(stamps, facts, clip.name)


def _read_all(clip: Clip, request: Request, facts: ClipFacts) -> Iterator[PartialClip]:
    """Decode twice: once to count, once to keep. For streams whose packets do not identify their frames."""
    timeline = _count(clip, request, facts)
    keeper = _Keeper(clip, request, timeline, timeline.choose(request), facts)
    for frame in _all(clip, request, keeper.chosen):
        yield keeper.keep(frame)
    yield keeper.finish()


def _all(clip: Clip, request: Request, chosen: list[int]) -> Iterator[Any]:
    """Yield the chosen frames of a clip, counted as they are decoded."""
    positions = set(chosen)
    with closing(_decoded(clip, request)) as frames:
        for position, frame in enumerate(frames):
            if position in positions:
                yield frame
            if position >= chosen[-1]:
                return


class _Keeper:
    """Converter of the kept frames, and only those, into one block of memory."""

    def __init__(
        self, clip: Clip, request: Request, timeline: Timeline, chosen: list[int], facts: ClipFacts
    ) -> None:
        self.clip, self.request, self.timeline, self.chosen = clip, request, timeline, chosen
        self.facts, self.count, self.filled = facts, len(chosen), 0
        self.block: FrameBlock | None = None
        self.scaled, self.matrix = False, IDENTITY
        self.made: VideoFrames | None = None
        self.on_frame = ON_FRAME.get()  # of the thread that opened the clip

    def keep(self, frame: Any) -> PartialClip:
        """Add one decoded frame, upright, in the size of the first one (a stream may change its size)."""
        size = None if self.block is None else self.block.size
        if self.block is None or self.facts.codec not in TURNED_ONCE:
            self.matrix = display_matrix(frame)
        picture, scaled = picture_of(frame, self.matrix, self.clip.name, size)
        self.scaled |= scaled
        if self.block is None:
            self.request.check_picture(self.clip.name, *picture.shape[:2])
            room = self.request.room(self.count)
            self.request.check_memory(self.clip.name, room, *picture.shape[:2])
            self.block = FrameBlock(self.count, room, *picture.shape[:2])
        self.block.put(self.filled, picture)
        self.filled += 1
        if self.on_frame is not None:
            self.on_frame(self.filled, self.count)
        if self.made is None:
            self.made = self._clip(self.block)
        return PartialClip(self.made, self.filled, self.block.ring)

    def finish(self) -> PartialClip:
        """Return the whole clip."""
        if self.block is None or self.filled != self.count:
            raise MediaError(
                f"video={self.clip.name!r}: {self.filled} of {self.count} frames could be decoded; fetch it again"
            )
        return PartialClip(self._clip(self.block), self.filled, self.block.ring)

    def _clip(self, block: FrameBlock) -> VideoFrames:
        notes = ["frames of other sizes were scaled to that of the first"] if self.scaled else []
        notes += stream_notes(self.facts)
        return VideoFrames.on(self.timeline, self.chosen, block.frames, "pyav", self.clip.name, notes)


def stream_notes(facts: ClipFacts) -> list[str]:
    """Return notes on the choice of the stream."""
    return [f"the file has several video streams; number {facts.stream} was read"] if facts.others else []

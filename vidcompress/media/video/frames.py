"""Frames of a clip: the `Timeline` that all backends sample from, `VideoFrames`, and `PartialClip` while decoding."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from vidcompress.checks import is_number, whole_number, word
from vidcompress.errors import MediaError, shown
from vidcompress.media.video.clock_resets import AHEAD_IN, join
from vidcompress.media.video.packets import PacketIndex
from vidcompress.media.video.sampling import Request

if TYPE_CHECKING:
    from vidcompress.media.video.container import ClipFacts

MAX_TICKS = 2**53
"""Longest clip in ticks of its clock, far beyond real clips; above it floats skip whole ticks."""

_CREDIBLE = 2.0
"""Factor by which a stated frame rate may differ from the frames' own times before these replace it."""


@dataclass(frozen=True)
class Timeline:
    """The shown frames of a clip, in order.

    Attributes:
        times: float64 (frame,), seconds from the first frame, not decreasing.
        duration: seconds from the first frame to the end of the last one.
        fps: average frame rate, the stated one unless the times contradict it; 0.0 when it is not known.
        parts: number of clocks in the file; more than one where clips were joined end to end.
    """

    times: np.ndarray[Any, np.dtype[np.float64]]
    duration: float
    fps: float
    parts: int = 1

    @classmethod
    def from_index(cls, index: PacketIndex, facts: ClipFacts, name: str) -> Timeline:
        """Make the timeline of a clip whose packets identify its frames."""
        return cls.from_stamps([int(stamp) for stamp in index.pts[index.shown]], facts, name)

    @classmethod
    def from_stamps(cls, stamps: Sequence[int | None], facts: ClipFacts, name: str) -> Timeline:
        """Make a timeline of presentation times in ticks; frames without one are taken as evenly spaced.

        Where the clock starts again, the frames after it follow those before.

        Raises:
            MediaError: the times span more than `MAX_TICKS`.
        """
        stated = [stamp for stamp in stamps if stamp is not None]
        if stated and max(stated) - min(stated) > MAX_TICKS:
            raise MediaError(
                f"video={name!r} is damaged: its time stamps run from {min(stated)} to {max(stated)}; convert it again"
            )
        parts = 1
        if len(stated) == len(stamps):
            # Python integers: a difference of two 64-bit stamps may not fit 64 bits.
            times = np.array([stamp - stated[0] for stamp in stated], dtype=np.float64) * facts.tick
            times, parts = join(times, facts.last_duration, ahead=facts.container in AHEAD_IN)
        else:
            times = np.arange(len(stamps), dtype=np.float64) / (facts.fps if facts.fps > 0 else 1.0)
        return cls(times, float(times[-1]) + facts.last_duration, _credible(facts.fps, times), parts)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the times."""
        if self.parts == 1:
            return ()
        return (
            f"the file holds {self.parts} parts with time stamps of their own; each part follows the one before it",
        )

    def choose(self, request: Request) -> list[int]:
        """Return the indices of the frames to take, by the rule of the request."""
        return request.choose(len(self), self.fps)

    def at(self, chosen: list[int]) -> tuple[float, ...]:
        """Return the times of the chosen frames, in seconds."""
        return tuple(float(self.times[i]) for i in chosen)


@dataclass(frozen=True)
class VideoFrames:
    """Sampled frames of one clip.

    Attributes:
        frames: uint8 (frame, height, width, channel), channels red, green, blue, values 0 to 255, upright.
        times: presentation time of each frame, in seconds from the first frame of the clip.
        duration: length of the clip in seconds, to the end of its last frame.
        fps: average frame rate of the clip in frames per second (of the source, not of the sample).
        total_frames: frames in the whole clip.
        backend: its reader: "pyav", "decord", "torchcodec", "pillow" (WebP, AVIF, TIFF), or "memory" for pictures and
            arrays, whose times follow from `source_fps`.
        source: the file, or a name for another source.
        notes: remarks on the sampling of the frames.
    """

    frames: torch.Tensor
    times: tuple[float, ...]
    duration: float
    fps: float
    total_frames: int
    backend: str
    source: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.frames, torch.Tensor):
            raise MediaError(f"frames={shown(self.frames)}: pass a uint8 tensor (frame, height, width, 3)")
        shape = tuple(self.frames.shape)
        if self.frames.dtype != torch.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape:
            raise MediaError(
                f"frames: {self.frames.dtype} of shape {shape}; pass uint8 (frame, height, width, 3), 1 frame or more"
            )
        times = self.times if isinstance(self.times, (tuple, list)) else ()
        if len(times) != shape[0] or not all(is_number(time) for time in times):
            raise MediaError(
                f"times={shown(self.times)}: {len(times)} for {shape[0]} frames; pass one per frame, in seconds"
            )
        for name in ("duration", "fps"):
            if not is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise MediaError(f"{name}={shown(getattr(self, name))}: must be a number of at least 0")
        whole_number("total_frames", self.total_frames, error=MediaError)
        word("backend", self.backend, "memory", error=MediaError)
        if not isinstance(self.notes, tuple) or not all(isinstance(note, str) for note in self.notes):
            raise MediaError(f"notes={shown(self.notes)}: must be a tuple of texts")
        if not isinstance(self.source, str):
            raise MediaError(f"source={shown(self.source)}: must be a text that names the clip")

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    def __repr__(self) -> str:
        count, height, width, _ = vars(self).get("_shape") or self.frames.shape
        return (
            f"VideoFrames({shown(self.source)}, {count} of {self.total_frames} frames, {height} x {width}, "
            f"{self.times[0]:.2f} to {self.times[-1]:.2f} of {self.duration:.2f} s, {self.fps:g} fps, {self.backend})"
        )

    @classmethod
    def on(
        cls,
        timeline: Timeline,
        chosen: list[int],
        frames: torch.Tensor,
        backend: str,
        source: str,
        notes: Iterable[str] = (),
    ) -> VideoFrames:
        """Make a clip of the chosen frames of a timeline, uint8 (frame, height, width, 3)."""
        times, notes = timeline.at(chosen), (*notes, *timeline.notes)
        return cls(frames, times, timeline.duration, timeline.fps, len(timeline), backend, source, notes)


class FrameBlock:
    """Block of memory for the decoded frames of a clip: for all of them, or a ring for the newest.

    Args:
        count: frames of the clip.
        room: frames that are held at once, at most `count`.
        height, width: of a frame, in pixels.

    Attributes:
        frames: uint8 (frame, height, width, channel), the frames; black and without memory where there is a ring.
        ring: uint8 (slot, height, width, channel), frame n in slot n modulo `room`; None where all frames are held.
    """

    def __init__(self, count: int, room: int, height: int, width: int) -> None:
        self._memory = torch.empty((room, height, width, 3), dtype=torch.uint8)
        self.ring = self._memory if room < count else None
        black = self._memory.new_zeros(()).expand(count, height, width, 3)
        self.frames = self._memory if self.ring is None else black

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a frame, in pixels."""
        return int(self._memory.shape[1]), int(self._memory.shape[2])

    def put(self, number: int, picture: Any) -> None:
        """Write frame `number`, an array uint8 (height, width, channel); in a ring over the oldest one."""
        self._memory.numpy()[number % len(self._memory)] = picture


class PartialClip(NamedTuple):
    """Partially decoded clip.

    Attributes:
        clip: its metadata and its block of frames, which has the size of the whole clip and is still being filled. With
            `ring` its frames are black and take no memory.
        ready: number of decoded frames, from the first on.
        ring: of a `FrameBlock`, where only the newest frames are held; None where the clip holds all.
    """

    clip: VideoFrames
    ready: int
    ring: torch.Tensor | None = None

    def frames(self, start: int, stop: int) -> torch.Tensor:
        """Return the decoded frames [start, stop); from a ring they must be among the newest, and not wrap."""
        if self.ring is None:
            return self.clip.frames[start:stop]
        slot = start % len(self.ring)
        return self.ring[slot : slot + stop - start]


PartialClips = Generator[PartialClip, None, None]


class FileFrames(VideoFrames):
    """Sampled frames of one clip that are not held in memory: `frames` reads the clip again.

    Args:
        clip: metadata of the clip, and the shape of its frames.
        again: reads the clip as it was read before.

    Raises:
        MediaError: on reading `frames`, as `read_video`, for example where they are over its `max_bytes`.
    """

    def __init__(self, clip: VideoFrames, again: Callable[[], VideoFrames]) -> None:
        state = {name: value for name, value in vars(clip).items() if name != "frames"}
        vars(self).update(state, _shape=clip.frames.shape, _again=again)

    @property
    def frames(self) -> torch.Tensor:
        """The frames, uint8 (frame, height, width, channel), read again at every access."""
        return self.read().frames

    def __len__(self) -> int:
        return len(self.times)

    def read(self) -> VideoFrames:
        """Return the clip with its frames in memory."""
        clip: VideoFrames = vars(self)["_again"]()
        return clip


class Reread(Exception):
    """Error: the packets of a clip did not lead to its frames, so its metadata may be wrong; decode all of it."""

    def __init__(self) -> None:
        super().__init__("the packets of a clip did not lead to its frames; it has to be read from its start")


def whole(parts: Iterable[PartialClip]) -> VideoFrames:
    """Return the whole clip: that of the last of its parts.

    Raises:
        RuntimeError: the last part is not whole, an error of the reader.
    """
    last: PartialClip | None = None
    for part in parts:
        last = part
    if last is None or last.ready != len(last.clip):
        raise RuntimeError("a reader ended before its clip was there; this is a mistake, please report it")
    return last.clip


def noted(made: VideoFrames, request: Request) -> VideoFrames:
    """Add a note to a clip that could not be sampled at the requested rate."""
    note = request.note(made.total_frames, made.fps)
    return replace(made, notes=(*made.notes, *note))


def _credible(stated: float, times: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    span = float(times[-1])
    if len(times) < 2 or span <= 0:
        return stated
    measured = (len(times) - 1) / span
    agree = stated > 0 and 1 / _CREDIBLE <= measured / stated <= _CREDIBLE
    return stated if agree else measured

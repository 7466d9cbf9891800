"""Frame sampling: choice of a clip's frames, in integer arithmetic shared by every backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from vidcompress.checks import (
    DEFAULT_MAX_FRAMES,
    DEFAULT_NUM_FRAMES,
    MAX_DECODED_BYTES,
    MAX_FRAME_PIXELS,
    MAX_SIDE,
    MAX_SOURCE_FRAMES,
    is_whole,
    positive,
    whole_number,
)
from vidcompress.errors import MediaError, SamplingError, shown

NumFrames: TypeAlias = int | Literal["all"]
"""Number of frames of a clip; "all" is every one, up to `max_frames`."""

MAX_SOURCE_FPS = 100_000
"""Highest credible frame rate of a clip where `fps` depends on it: high-speed cameras are below."""


@dataclass(frozen=True)
class SamplingRule:
    """Sampling rule of the LLaVA families: a number of frames from the first to the last, or one of every few.

    Attributes:
        num_frames: frames of a clip file where the caller states none; None for 32.
    """

    num_frames: int | None = None

    def choose(
        self,
        total: int,
        source_fps: float,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> list[int]:
        """Return the indices of the frames to take, ascending, at most `max_frames`; arguments as in `choose_indices`.

        Raises:
            MediaError: as `choose_indices`.
        """
        if num_frames is None and fps is None and self.num_frames is not None:
            num_frames = min(self.num_frames, max_frames)
        return choose_indices(total, source_fps, num_frames=num_frames, fps=fps, max_frames=max_frames)

    @property
    def usual(self) -> int | None:
        """Frames of a long clip file where the caller states none; None where they follow from its length."""
        return self.num_frames or DEFAULT_NUM_FRAMES

    def note(
        self, total: int, source_fps: float, *, fps: float | None, max_frames: int = DEFAULT_MAX_FRAMES
    ) -> tuple[str, ...]:
        """Return a note on a clip whose `fps` could not be met: one sentence, or none."""
        return sampling_note(total, source_fps, fps=fps, max_frames=max_frames)


LLAVA_RULE = SamplingRule()
"""Default rule, where no checkpoint states another."""


@dataclass(frozen=True)
class Request:
    """Request of frames from a clip, with limits on pixels, frames and memory.

    Attributes:
        num_frames: frames to return, or None.
        fps: frames per second of clip time, or None.
        max_frames: most frames to return.
        max_pixels: largest height x width of a frame.
        max_source_frames: longest clip that is indexed, in frames.
        max_bytes: most memory of the frames that are in memory at once, as uint8 RGB.
        rule: sampling rule.
        held: frames that are in memory at once, for a reader with `parts`; None for all.
        decode_all: decode a clip from its start to its end, without trusting its packets; for a reader with `parts`.
    """

    num_frames: int | None
    fps: float | None
    max_frames: int
    max_pixels: int = MAX_FRAME_PIXELS
    max_source_frames: int = MAX_SOURCE_FRAMES
    max_bytes: int = MAX_DECODED_BYTES
    rule: SamplingRule = LLAVA_RULE
    held: int | None = None
    decode_all: bool = False

    def choose(self, total: int, source_fps: float) -> list[int]:
        """Return the indices of the frames to take of a clip of `total` frames at that average frame rate."""
        return self.rule.choose(
            total, source_fps, num_frames=self.num_frames, fps=self.fps, max_frames=self.max_frames
        )

    def note(self, total: int, source_fps: float) -> tuple[str, ...]:
        """Return a note on a clip whose `fps` could not be met."""
        return self.rule.note(total, source_fps, fps=self.fps, max_frames=self.max_frames)

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_source_frames", "max_bytes"):
            whole_number(name, getattr(self, name), error=MediaError)

    def check_picture(self, name: str, height: int, width: int) -> None:
        """Raise MediaError when a frame of this size is over `max_pixels`."""
        if height * width > self.max_pixels:
            raise MediaError(
                f"video={name!r}: frames of {height} x {width} are over max_pixels={self.max_pixels}; "
                "scale the clip down first, or raise max_pixels if you trust it"
            )
        if max(height, width) > MAX_SIDE:
            raise MediaError(
                f"video={name!r}: frames of {height} x {width} have a side of over {MAX_SIDE} pixels; scale it down"
            )

    def check_length(self, name: str, frames: int) -> None:
        """Raise MediaError when a clip of so many frames is over `max_source_frames`."""
        if frames > self.max_source_frames:
            raise MediaError(
                f"video={name!r}: more than max_source_frames={self.max_source_frames} frames; "
                "cut the clip, or raise max_source_frames if you trust it"
            )

    def check_memory(self, name: str, frames: int, height: int, width: int) -> None:
        """Raise MediaError when holding so many frames would take more than `max_bytes`."""
        size = frames * height * width * 3
        if size > self.max_bytes:
            raise MediaError(
                f"video={name!r}: {frames} frames of {height} x {width} take {size / 2**30:.2f} GiB, over "
                f"max_bytes={self.max_bytes}; ask for fewer frames, raise max_bytes, or pass hold=4 with max_tokens, "
                "which holds few frames at a time"
            )

    def room(self, frames: int) -> int:
        """Return how many frames of so many are in memory at once."""
        return frames if self.held is None else min(frames, self.held)


def sample_indices(total: int, num_frames: int) -> list[int]:
    """Spread `num_frames` indices evenly over a clip, first and last frame included.

    Args:
        total: frames in the clip, at least 1.
        num_frames: frames to take, at least 1. One frame is the first one.

    Returns:
        Ascending indices in [0, total - 1]: `linspace(0, total - 1, num_frames)` rounded down, as
        LLaVA-OneVision samples. A clip with fewer frames gives each of its frames once.

    Raises:
        MediaError: `total` or `num_frames` is below 1.
    """
    if not is_whole(total) or not 1 <= total < 2**53:
        raise MediaError(
            f"total={shown(total)}: must be a whole number, a clip needs at least one frame; check that the file holds "
            "video"
        )
    whole_number("num_frames", num_frames, error=SamplingError)
    if total <= num_frames:
        return list(range(total))
    return [int(i) for i in np.linspace(0, total - 1, num_frames, dtype=int)]


def choose_indices(
    total: int, source_fps: float, *, num_frames: int | None, fps: float | None, max_frames: int
) -> list[int]:
    """Choose frame indices for the caller's request.

    Args:
        total: frames in the clip.
        source_fps: average frame rate of the clip in frames per second; used only with `fps`.
        num_frames: number of frames, or None.
        fps: frames per second of clip time, or None: one frame out of every `round(source_fps / fps)`,
            and when that gives more than `max_frames`, `max_frames` of the whole clip instead (LLaVA-Video's rule).
        max_frames: the most frames to return.

    Returns:
        Ascending indices, at most `max_frames` of them. With neither `num_frames` nor `fps`, 32 are taken.

    Raises:
        MediaError: both were given, one is out of range, or `num_frames` exceeds `max_frames`.
    """
    check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
    if fps is None:
        count = min(DEFAULT_NUM_FRAMES, max_frames) if num_frames is None else num_frames
        return sample_indices(total, count)
    check_source_fps(fps, source_fps)
    indices = range(0, total, _step(source_fps, fps, total))
    return list(indices) if len(indices) <= max_frames else sample_indices(total, max_frames)


def check_source_fps(fps: float, source_fps: float) -> float:
    """Return the frame rate of a clip, on which `fps` depends.

    Raises:
        MediaError: it is not known, or not credible.
    """
    if not source_fps > 0:
        raise MediaError(f"fps={fps}: the clip does not state its own frame rate; pass num_frames instead")
    if source_fps > MAX_SOURCE_FPS:
        raise MediaError(
            f"fps={fps}: the clip claims {source_fps:.3g} frames per second, which no camera makes; "
            "pass num_frames instead"
        )
    return source_fps


def _step(source_fps: float, fps: float, total: int) -> int:
    return max(1, round(min(source_fps / fps, float(total))))


def sampling_note(total: int, source_fps: float, *, fps: float | None, max_frames: int) -> tuple[str, ...]:
    """Note on a clip of `choose_indices` whose `fps` could not be met.

    Returns:
        One sentence, or none.
    """
    if fps is None:
        return ()
    count = len(range(0, total, _step(source_fps, fps, total)))
    if count > max_frames:
        taken = f"max_frames={max_frames} of them were taken, spread over all"
        return (f"fps={fps:g} makes {count} frames of this clip; {taken}",)
    if fps > source_fps * 1.01:
        return (f"fps={fps:g} is more than the clip's own {source_fps:g}; every frame was taken",)
    return ()


def read_sampling(num_frames: NumFrames | None, fps: float | None, max_frames: int) -> dict[str, Any]:
    """Read a sampling request: `num_frames="all"` is every frame, up to `max_frames`.

    Returns:
        Arguments `num_frames`, `fps` and `max_frames` of `read_video`.

    Raises:
        SamplingError: as `check_request`.
    """
    every = isinstance(num_frames, str) and num_frames == "all" and fps is None
    count: Any = whole_number("max_frames", max_frames, error=SamplingError) if every else num_frames
    check_request(num_frames=count, fps=fps, max_frames=max_frames)
    return {"num_frames": count, "fps": fps, "max_frames": max_frames}


def check_request(*, num_frames: int | None, fps: float | None, max_frames: int) -> None:
    """Refuse an impossible sampling request before any file is opened.

    Raises:
        SamplingError: both `num_frames` and `fps` were given, or a value is out of range.
    """
    whole_number("max_frames", max_frames, error=SamplingError)
    if num_frames is not None and fps is not None:
        raise SamplingError(
            f"num_frames={shown(num_frames)} and fps={shown(fps)} exclude each other; pass one of them"
        )
    if num_frames is not None and not is_whole(num_frames):
        raise SamplingError(f"num_frames={shown(num_frames)}: must be a whole number of frames")
    if num_frames is not None and not 1 <= num_frames <= max_frames:
        raise SamplingError(
            f"num_frames={num_frames}: must be from 1 to {max_frames} (max_frames); raise max_frames for longer clips"
        )
    if fps is not None:
        positive("fps", fps, "frames per second", error=SamplingError)


def pick(total: int, rate: float, request: Request) -> tuple[list[int], tuple[str, ...]]:
    """Choose frames that need no decoding, with notes; all up to `max_frames` unless a number is requested."""
    if request.num_frames is None and request.fps is None:
        if total <= request.max_frames:
            return list(range(total)), ()
        note = f"{request.max_frames} (max_frames) of {total} frames were taken, spread over all"
        return sample_indices(total, request.max_frames), (note,)
    return request.choose(total, rate), request.note(total, rate)

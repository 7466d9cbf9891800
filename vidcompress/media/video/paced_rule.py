"""Paced frame sampling, the rules of the Qwen families: the frames of a clip follow from a rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vidcompress.checks import DEFAULT_MAX_FRAMES, is_number, is_whole
from vidcompress.errors import MediaError, shown
from vidcompress.media.video.sampling import SamplingRule, check_request, check_source_fps, sample_indices

UNKNOWN_FPS = 24.0
"""Frame rate assumed for a clip that states none, where the family samples at a rate."""


@dataclass(frozen=True)
class PacedRule(SamplingRule):
    """Sampling rules of the Qwen families: frames follow from a rate, within bounds.

    Attributes:
        num_frames: frames of a clip file where the caller states none and there is no `fps`.
        fps: frames per second of clip time where the caller states none.
        min_frames: fewest frames, for clips that have as many.
        most_frames: most frames.
        multiple: divisor of the number of frames, for clips that have as many.
        spread: "nearest" to even places from the first to the last frame (Qwen3-VL), or equal "steps" from the first
            one, so that the last frame is not among them (Qwen2-VL, Qwen2.5-VL).
    """

    fps: float | None = 2.0
    min_frames: int = 4
    most_frames: int = 768
    multiple: int = 1
    spread: Literal["nearest", "steps"] = "nearest"

    def __post_init__(self) -> None:
        for name in ("num_frames", "min_frames", "most_frames", "multiple"):
            value = getattr(self, name)
            if value is not None and (not is_whole(value) or value < 1):
                raise MediaError(f"{name}={shown(value)}: must be a whole number of at least 1")
        if self.fps is not None and (not is_number(self.fps) or self.fps <= 0):
            raise MediaError(f"fps={shown(self.fps)}: must be a number above 0")
        if self.spread not in ("nearest", "steps"):
            raise MediaError(f"spread={shown(self.spread)}: must be 'nearest' or 'steps'")

    def choose(
        self,
        total: int,
        source_fps: float,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> list[int]:
        """Choose frames as `SamplingRule.choose`, with the family's own number of frames.

        Raises:
            MediaError: an invalid request, or `fps` for a clip whose own rate is not known.
        """
        check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
        if num_frames is None and fps is None:
            fps, num_frames = self.fps, self.num_frames if self.fps is None else None
            source_fps = source_fps if source_fps > 0 else UNKNOWN_FPS
        if fps is not None:
            count = self._of_rate(total, check_source_fps(fps, source_fps), fps, max_frames)
        else:
            count = min(num_frames if num_frames is not None else self.most_frames, max_frames)
            if num_frames is not None:
                most = max_frames // self.multiple * self.multiple or 1
                count = min(round(count / self.multiple) * self.multiple, most)
        count = max(1, min(count, total))
        if count == total:
            return sample_indices(total, count)
        if self.spread == "steps":
            return [int(place) for place in np.arange(count, dtype=np.float32) * np.float32(total / count)]
        return [int(place) for place in np.linspace(0, total - 1, count).round()]

    @property
    def usual(self) -> int | None:
        """Frames of a long clip file where the caller states none; None where there is a rate."""
        return self.num_frames if self.fps is None else None

    def note(
        self, total: int, source_fps: float, *, fps: float | None, max_frames: int = DEFAULT_MAX_FRAMES
    ) -> tuple[str, ...]:
        """Return a note as `SamplingRule.note`."""
        if fps is None or not source_fps > 0:
            return ()
        count, most = int(total / source_fps * fps), min(self.most_frames, max_frames)
        if count > most:
            return (f"fps={fps:g} makes {count} frames of this clip; {most} were taken, spread over all",)
        return ()

    def _of_rate(self, total: int, source_fps: float, fps: float, max_frames: int) -> int:
        """Return the number of frames at a rate; a clip of one frame gives that frame."""
        most = min(self.most_frames, max_frames, total)
        most = most // self.multiple * self.multiple
        count = min(max(total / source_fps * fps, self.min_frames), most)
        return int(count / self.multiple) * self.multiple

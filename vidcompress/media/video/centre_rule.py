"""Frame sampling of SmolVLM: frames at a rate, spread over a clip, without the first and last second of a long one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidcompress.checks import DEFAULT_MAX_FRAMES, is_number, whole_number
from vidcompress.errors import MediaError, shown
from vidcompress.media.video.paced_rule import UNKNOWN_FPS
from vidcompress.media.video.sampling import SamplingRule, check_request, check_source_fps

SKIPPED = 1
"""Seconds left out at either end of a long clip."""


@dataclass(frozen=True)
class CentreRule(SamplingRule):
    """Sampling rule of transformers' `SmolVLMVideoProcessor.sample_frames`.

    Attributes:
        num_frames: most frames of a clip file where the caller states none; 64 as in the published checkpoints.
        fps: frames per second of clip time where the caller states none.
    """

    num_frames: int = 64
    fps: float = 1.0

    def __post_init__(self) -> None:
        whole_number("num_frames", self.num_frames, error=MediaError)
        if not is_number(self.fps) or self.fps <= 0:
            raise MediaError(f"fps={shown(self.fps)}: must be a number above 0")

    def choose(
        self,
        total: int,
        source_fps: float,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> list[int]:
        """Choose frames as `SamplingRule.choose`; `num_frames` is a number of frames, not a bound.

        Raises:
            MediaError: an invalid request, or `fps` for a clip whose own rate is not known.
        """
        check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
        if fps is not None:
            source_fps = check_source_fps(fps, source_fps)
        rate = source_fps if source_fps > 0 else UNKNOWN_FPS
        pace, most = (
            (self.fps if fps is None else fps),
            min(self.num_frames if fps is None else max_frames, max_frames),
        )
        duration = total / rate
        count = (
            min(round(pace * duration), most) if num_frames is None else min(num_frames, max_frames, total)
        )
        start, stop = 0, total - 1
        if num_frames is None and duration - 2 * SKIPPED > most * pace:
            start, stop = int(SKIPPED * rate), min(int(total - SKIPPED * rate), total - 1)
            if start >= stop:
                start, stop = 0, total - 1
        return [int(place) for place in np.unique(np.linspace(start, stop, max(1, count), dtype=int))]

    @property
    def usual(self) -> int | None:
        """Frames of a long clip file where the caller states none."""
        return self.num_frames

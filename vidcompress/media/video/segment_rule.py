"""Frame sampling of InternVL: the middle frame of each of equal segments of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vidcompress.checks import DEFAULT_MAX_FRAMES, whole_number
from vidcompress.media.video.sampling import SamplingRule, check_request, check_source_fps, sample_indices


@dataclass(frozen=True)
class SegmentRule(SamplingRule):
    """Sampling rule of transformers' `InternVLVideoProcessor.sample_frames`: the middle frame of each of `num_frames`
    equal segments of a clip.

    Attributes:
        num_frames: frames of a clip file where the caller states none; 8 as in the model cards' own code.
    """

    num_frames: int = 8

    def __post_init__(self) -> None:
        whole_number("num_frames", self.num_frames)

    def choose(
        self,
        total: int,
        source_fps: float,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> list[int]:
        """Choose frames as `SamplingRule.choose`; a clip with fewer frames than segments gives each frame once.

        Raises:
            MediaError: an invalid request, or `fps` for a clip whose own rate is not known.
        """
        check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
        if fps is not None:
            count = int(total / check_source_fps(fps, source_fps) * fps)
        else:
            count = self.num_frames if num_frames is None else num_frames
        count = max(1, min(count, max_frames))
        if count >= total:
            return sample_indices(total, count)
        length = total / count
        # In float32, as in transformers: a middle just below a whole number is rounded up to it.
        middles = torch.arange(length / 2, total, length, dtype=torch.float32, device="cpu")
        return [int(place) for place in middles.tolist()]

    @property
    def usual(self) -> int | None:
        """Frames of a long clip file where the caller states none."""
        return self.num_frames

    def note(
        self, total: int, source_fps: float, *, fps: float | None, max_frames: int = DEFAULT_MAX_FRAMES
    ) -> tuple[str, ...]:
        """Return a note as `SamplingRule.note`."""
        if fps is None or not source_fps > 0:
            return ()
        count = int(total / source_fps * fps)
        if count > max_frames:
            taken = f"max_frames={max_frames} of them were taken, spread over all"
            return (f"fps={fps:g} makes {count} frames of this clip; {taken}",)
        if fps > source_fps * 1.01:
            return (f"fps={fps:g} is more than the clip's own {source_fps:g}; every frame was taken",)
        return ()

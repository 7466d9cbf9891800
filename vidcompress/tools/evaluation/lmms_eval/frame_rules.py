"""Frame sampling rules of the families' own evaluations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vidcompress.media import VideoFrames, read_video

_TIMED = {"llava_video": (64, 1.0)}
"""(most frames, frames per second) of families that are evaluated with frames at a steady rate."""

DEFAULT_FRAMES = 32
"""Frames of a clip for every other family, spread evenly from the first to the last."""


@dataclass(frozen=True)
class FrameRule:
    """Frame sampling rule for a clip of N frames.

    The families' own evaluations, as in lmms-eval:

    - LLaVA-OneVision (and LLaVA-NeXT-Video): `linspace(0, N - 1, 32)` rounded down; a clip with fewer frames shows
      some of them more than once, so that every clip is 32 frames.
    - LLaVA-Video: one frame a second, every `round(rate)`-th of the file, where these are at most 64; else, or with
      `force_sample`, `linspace(0, N - 1, 64)` rounded down.

    Attributes:
        frames: most frames of a clip; every clip has as many where `fps` is None.
        fps: frames per second of clip time, or None.
        backend: decoder, see `read_video`.
    """

    frames: int = DEFAULT_FRAMES
    fps: float | None = None
    backend: str = "auto"

    def read(self, source: Any) -> VideoFrames:
        """Read a clip.

        Raises:
            MediaError: it cannot be read.
        """
        if self.fps is not None:
            return read_video(source, fps=self.fps, max_frames=self.frames, backend=self.backend)
        clip = read_video(source, num_frames=self.frames, max_frames=self.frames, backend=self.backend)
        return clip if len(clip) == self.frames else _repeated(clip, self.frames)


def frame_rule(
    model_type: str, *, max_frames: int | None, fps: float | None, force_sample: bool, backend: str
) -> FrameRule:
    """Frame sampling rule of a family, with the caller's changes.

    Args:
        model_type: of the model's config.
        max_frames: most frames, or None for the family's own number.
        fps: frames per second, or None for the family's own rule.
        force_sample: sample without a rate, also for families that have one.
        backend: decoder.
    """
    frames, rate = _TIMED.get(model_type, (DEFAULT_FRAMES, None))
    return FrameRule(max_frames or frames, None if force_sample else fps or rate, backend)


def _repeated(clip: VideoFrames, frames: int) -> VideoFrames:
    """All frames of a short clip, some more than once, in order."""
    chosen = np.linspace(0, len(clip) - 1, frames, dtype=int).tolist()
    note = f"the clip has {len(clip)} frames; some were taken more than once to make {frames}"
    return replace(
        clip,
        frames=clip.frames[chosen],
        times=tuple(clip.times[i] for i in chosen),
        notes=(*clip.notes, note),
    )

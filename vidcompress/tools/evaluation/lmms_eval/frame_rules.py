"""Rules of the families' own evaluations for frames and pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vidcompress.media import VideoFrames, load_image, read_video
from vidcompress.media.video.segment_rule import SegmentRule

_TIMED = {"llava_video": (64, 1.0)}
"""(most frames, frames per second) of families that are evaluated with frames at a steady rate."""

DEFAULT_FRAMES = 32
"""Frames of a clip for every other family, spread evenly from the first to the last."""


@dataclass(frozen=True)
class FrameRule:
    """Rule for the media of a question: which frames of a clip of N frames are taken, and how pictures are prepared.

    The evaluations of the LLaVA families, as in lmms-eval:

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

    def picture(self, source: Any) -> Any:
        """Open a picture as it goes to the processor: a PIL image.

        Raises:
            MediaError: it cannot be read.
        """
        return load_image(source)

    def fitted(self, processor: Any) -> Any:
        """Return the processor with the rule's own bounds on pictures and frames, where it has some."""
        return processor

    @property
    def facts(self) -> dict[str, Any]:
        """The rule as JSON values, for the settings of a run."""
        return {"max_frames": self.frames, "fps": self.fps}


MOST_TILES = 12
"""Most tiles of a picture in lmms-eval's `internvl_hf`."""


@dataclass(frozen=True)
class MiddleRule(FrameRule):
    """Rule of lmms-eval's `internvl_hf`: the middle frame of each of 32 equal segments, pictures of 1 to 12 tiles.

    A clip with fewer frames gives each of them once; lmms-eval's own model fails there. With `fps` there is a segment
    for every frame at that rate, up to `frames`; lmms-eval's own model takes 32 then too.
    """

    def read(self, source: Any) -> VideoFrames:
        """Read a clip.

        Raises:
            MediaError: it cannot be read.
        """
        return read_video(
            source,
            num_frames=self.frames if self.fps is None else None,
            fps=self.fps,
            max_frames=self.frames,
            backend=self.backend,
            rule=SegmentRule(self.frames),
        )

    def fitted(self, processor: Any) -> Any:
        """Return the processor with 1 to 12 tiles for a picture."""
        return replace(processor, geometry=replace(processor.geometry, tiles=(1, MOST_TILES)))


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

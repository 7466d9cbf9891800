"""Rule of lmms-eval's Qwen models for frames and pictures: those of qwen_vl_utils."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange

from vidcompress.adapters.family.native import PixelBudget, smart_resize
from vidcompress.adapters.layouts import Size
from vidcompress.checks import DEFAULT_MAX_FRAMES, DEFAULT_NUM_FRAMES
from vidcompress.media import VideoFrames, load_image, read_video
from vidcompress.media.preprocessing.transforms import CHUNK_PIXELS
from vidcompress.media.video.sampling import SamplingRule, check_request, check_source_fps
from vidcompress.tools.evaluation.lmms_eval.frame_rules import FrameRule

FEWEST_FRAMES = 4
"""Fewest frames at a rate, for clips that have as many."""
PICTURE_TOKENS, FRAME_TOKENS, CLIP_TOKENS = (4, 16384), 768, 128_000 * 0.9
"""Fewest and most tokens of a picture; most of a frame; most of a clip, shared evenly by its pairs of frames."""
FREE = PixelBudget(1, 2**52)
"""Budget that leaves sides of whole tokens as they are."""


@dataclass(frozen=True)
class PairsRule(SamplingRule):
    """Sampling rule of `smart_nframes` in qwen_vl_utils 0.0.14: an even number of frames, the first and the last among
    them, at the nearest of evenly spread places."""

    def choose(
        self,
        total: int,
        source_fps: float,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> list[int]:
        """Choose frames as `SamplingRule.choose`; a clip of one frame gives that frame.

        Raises:
            MediaError: an invalid request, or `fps` for a clip whose own rate is not known.
        """
        check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
        count = float(DEFAULT_NUM_FRAMES if num_frames is None else num_frames)
        if fps is not None:
            count = max(total / check_source_fps(fps, source_fps) * fps, FEWEST_FRAMES)
        pairs = int(min(count, max_frames, total)) // 2
        # In float32, as there.
        return [int(place) for place in torch.linspace(0, total - 1, max(1, 2 * pairs)).round()]


@dataclass(frozen=True)
class FetchRule(FrameRule):
    """Rule of lmms-eval's `qwen2_5_vl`, `qwen3_vl` and `qwen3_5`, which read media by qwen_vl_utils.

    A clip gives `frames` frames by `PairsRule`, fewer where it is shorter (lmms-eval's `qwen3_vl` fails there), or
    `fps` a second up to `frames`. Frames are resized to whole tokens within `min_pixels` and the least of `max_pixels`,
    768 tokens and an even share of the clip's tokens. Their times are index over frame rate. Pictures are resized to
    whole tokens, 4 to 16384 of them, and then by the processor where `twice`.

    Attributes:
        factor: side of a token in pixels.
        min_pixels, max_pixels: of a frame, and of a picture where `twice`; `max_pixels` may be None.
        total_pixels: of a clip, two frames counting as one; None for nine tenths of 128,000 tokens.
        twice: whether the processor resizes pictures once more, within `min_pixels` and `max_pixels`.
    """

    factor: int = 28
    min_pixels: int = 256 * 28 * 28
    max_pixels: int | None = 1605632
    total_pixels: int | None = None
    twice: bool = False

    def read(self, source: Any) -> VideoFrames:
        """Read a clip.

        Raises:
            MediaError: it cannot be read.
        """
        sampling: dict[str, Any] = {"fps": self.fps, "max_frames": self.frames}
        sampling["num_frames"] = self.frames if self.fps is None else None
        rule = PairsRule()
        clip = read_video(source, backend=self.backend, rule=rule, **sampling)
        times = clip.times
        if clip.fps > 0 and not isinstance(source, VideoFrames):
            times = tuple(place / clip.fps for place in rule.choose(clip.total_frames, clip.fps, **sampling))
        size = self.frame_size(len(clip), (int(clip.frames.shape[1]), int(clip.frames.shape[2])))
        return replace(clip, frames=_resized(clip.frames, size), times=times)

    def picture(self, source: Any) -> Any:
        """Open a picture, resized to whole tokens by Pillow.

        Raises:
            MediaError: it cannot be read, or one side is more than 200 times as long as the other.
        """
        picture, cell = load_image(source), self.factor**2
        fewest, most = (tokens * cell for tokens in PICTURE_TOKENS)
        height, width = _whole_tokens((picture.height, picture.width), self.factor, fewest, most)
        return picture.resize((width, height))

    def frame_size(self, frames: int, size: Size) -> Size:
        """Return (height, width) in pixels that frames are resized to.

        Args:
            frames: number of frames.
            size: (height, width) of these in pixels.

        Raises:
            MediaError: one side is more than 200 times as long as the other.
        """
        cell = self.factor**2
        whole = CLIP_TOKENS * cell if self.total_pixels is None else self.total_pixels
        most = max(min(FRAME_TOKENS * cell, whole / frames * 2), int(self.min_pixels * 1.05))
        if self.max_pixels is not None:
            most = min(most, self.max_pixels)
        return _whole_tokens(size, self.factor, self.min_pixels, int(most))

    def fitted(self, processor: Any) -> Any:
        """Return the processor with the budgets of the rule: frames are resized already, pictures where not `twice`."""
        pictures = FREE
        if self.twice and self.max_pixels is not None:
            pictures = PixelBudget(self.min_pixels, self.max_pixels)
        geometry = replace(processor.geometry, image_budget=pictures, clip_budget=FREE)
        return replace(processor, geometry=geometry)

    @property
    def facts(self) -> dict[str, Any]:
        """The rule as JSON values."""
        names = ("min_pixels", "max_pixels", "total_pixels")
        return {**super().facts, **{name: getattr(self, name) for name in names}}


def _whole_tokens(size: Size, factor: int, least: int, most: int) -> Size:
    """Return the nearest sides that are multiples of `factor` and at least one, within a budget of pixels."""
    resized = smart_resize(size, factor, least, most)
    height, width = (max(factor, round(side / factor) * factor) for side in size)
    return (height, width) if least <= height * width <= most else resized


def _resized(frames: torch.Tensor, size: Size) -> torch.Tensor:
    """Resize uint8 frames (frame, height, width, channel) in float32, as torchvision's older functions do."""
    before = (int(frames.shape[1]), int(frames.shape[2]))
    if before == size:
        return frames
    step, parts = max(1, CHUNK_PIXELS // math.prod(before)), []
    for chunk in frames.split(step):
        levels = rearrange(chunk, "frame h w c -> frame c h w").float()
        smooth = torch.nn.functional.interpolate(
            levels, size=size, mode="bicubic", antialias=True, align_corners=False
        )
        parts.append(rearrange(smooth.clamp_(0, 255).round_().to(torch.uint8), "frame c h w -> frame h w c"))
    return torch.cat(parts).contiguous()

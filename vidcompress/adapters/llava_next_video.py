"""LLaVA-NeXT-Video: images as in LLaVA-NeXT; frames pooled before the projector, without newlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import avg_pool2d

from vidcompress.adapters.base import Visual, register_adapter
from vidcompress.adapters.family.geometry import next_video_layout
from vidcompress.adapters.llava_next import LlavaNextAdapter
from vidcompress.core.layout import Layout


@register_adapter
class LlavaNextVideoAdapter(LlavaNextAdapter):
    """`LlavaNextVideoForConditionalGeneration`."""

    model_types = ("llava_next_video",)
    video_keys = ("pixel_values_videos",)

    def clip_layout(self, frames: int, device: str) -> Layout:
        return next_video_layout(self.geometry, frames, device)

    def project_frames(self, features: Tensor) -> Tensor:
        return self.core.multi_modal_projector(self.core.vision_resampler(features))  # type: ignore[no-any-return]

    def projected_rows(self, layout: Layout) -> int:
        """Number of rows through the projector; frames are pooled before it."""
        if layout.modality == "video":
            return layout.num_tokens
        return super().projected_rows(layout)

    def projects_positions(self, visual: Visual) -> bool:
        return True

    def pool_hidden(self, hidden: Tensor) -> Tensor:
        return self.core.vision_resampler(hidden)  # type: ignore[no-any-return]

    def pool_frames(self, features: Tensor) -> Tensor:
        if self.model.config.spatial_pool_mode != "conv":
            return self.core.vision_resampler(features)  # type: ignore[no-any-return]
        # A convolution mixes the encoder's channels; evidence has other channels and is averaged over the same patches.
        grid = features.unflatten(1, self.grid).permute(0, 3, 1, 2)
        return avg_pool2d(grid, int(self.model.config.spatial_pool_stride)).flatten(2).transpose(1, 2)

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images, _ = super().visuals(inputs)
        return images, self.clips(inputs)

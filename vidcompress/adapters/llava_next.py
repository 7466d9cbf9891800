"""LLaVA-NeXT: CLIP encoder with CLS, thumbnail + crops, a newline after every canvas row. Images only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from vidcompress.adapters.base import Visual, register_adapter
from vidcompress.adapters.family.geometry import next_image_layout, next_preset_layout
from vidcompress.adapters.llava import LlavaAdapter, image_sizes, view_lists
from vidcompress.adapters.presets import TOKENS_2880, Preset
from vidcompress.core.layout import Layout


@register_adapter
class LlavaNextAdapter(LlavaAdapter):
    """`LlavaNextForConditionalGeneration` with Vicuna, Mistral, Llama-3 or any other decoder."""

    model_types = ("llava_next",)
    image_keys = ("pixel_values", "image_sizes", "preset")
    presets: ClassVar[tuple[Preset, ...]] = (TOKENS_2880,)

    def image_layout(self, size: tuple[int, int], single: bool, device: str) -> Layout:
        return next_image_layout(self.geometry, size, device)

    def preset_layout(self, preset: Preset, size: tuple[int, int], device: str) -> Layout:
        """Return the layout of an image of (height, width) pixels on the canvas of a preset."""
        return next_preset_layout(self.geometry, preset, size, device)

    def pack_image(self, features: Tensor, sizes: Tensor, newline: Tensor) -> Tensor:
        strategy = self.model.config.vision_feature_select_strategy
        packed, _ = self.core.pack_image_features([features], sizes, strategy, image_newline=newline)
        return packed[0]  # type: ignore[no-any-return]

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        if inputs.get("pixel_values") is None:
            return [], []
        pixels, preset = view_lists(inputs["pixel_values"], "pixel_values"), self.preset(inputs)
        sizes = image_sizes(inputs, len(pixels))
        images = []
        for views, size in zip(pixels, sizes, strict=True):
            device = str(views.device)
            layout = (
                self.preset_layout(preset, size, device) if preset else self.image_layout(size, False, device)
            )
            images.append(self.image(views, size, layout, preset))
        return images, []

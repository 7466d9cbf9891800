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
from vidcompress.errors import UnsupportedInputError


@register_adapter
class LlavaNextAdapter(LlavaAdapter):
    """`LlavaNextForConditionalGeneration` with Vicuna, Mistral, Llama-3 or any other decoder."""

    model_types = ("llava_next",)
    image_keys = ("pixel_values", "image_sizes", "preset")
    presets: ClassVar[tuple[Preset, ...]] = (TOKENS_2880,)

    def image_layout(self, size: tuple[int, int], single: bool, device: str) -> Layout:
        return next_image_layout(self.geometry, size, device)

    def preset_layout(self, preset: Preset, size: tuple[int, int], device: str) -> Layout:
        """Layout of an image of (height, width) pixels on the canvas of a preset."""
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
        return [
            self.image(views, size, single=False, preset=preset)
            for views, size in zip(pixels, sizes, strict=True)
        ], []

    def image(
        self, views: Tensor, size: tuple[int, int], *, single: bool, preset: Preset | None = None
    ) -> Visual:
        """One image: its layout, and its views without the padding views of a batch.

        Raises:
            UnsupportedInputError: fewer views than the anyres rule, or the preset, makes for this size.
        """
        device = str(views.device)
        layout = (
            self.preset_layout(preset, size, device) if preset else self.image_layout(size, single, device)
        )
        needed = len(layout.views)
        if views.shape[0] < needed:
            raise UnsupportedInputError(
                f"pixel_values has {views.shape[0]} views for an image of {size[0]} x {size[1]} pixels that needs "
                f"{needed}; use a processor with the model's image_grid_pinpoints"
            )
        return Visual("image", layout, views[:needed], size, preset=preset)

"""LLaVA-1.5 and its relatives (`model_type` "llava"): a picture is one view, without crops and newlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vidcompress.adapters.base import Visual, register_adapter
from vidcompress.adapters.family.geometry import Geometry, one_view_layout, read_geometry
from vidcompress.adapters.llava import LlavaAdapter
from vidcompress.adapters.traits import encoder_has_cls
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError

ENCODERS = ("clip_vision_model", "siglip_vision_model")


@register_adapter
class Llava15Adapter(LlavaAdapter):
    """`LlavaForConditionalGeneration` on CLIP or SigLIP."""

    model_types = ("llava",)
    image_keys = ("pixel_values",)
    refused_keys = (*LlavaAdapter.refused_keys, "image_sizes")

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        encoder, strategy = model.config.vision_config.model_type, model.config.vision_feature_select_strategy
        if encoder not in ENCODERS or (strategy == "default") != encoder_has_cls(model.config):
            raise UnsupportedModelError(
                f"vision tower {encoder!r} with vision_feature_select_strategy={strategy!r}: this adapter takes "
                "clip_vision_model with 'default' and siglip_vision_model with 'full'"
            )

    @property
    def geometry(self) -> Geometry:
        return read_geometry(self.model.config, crops=False)

    def pack_image(self, features: Tensor, sizes: Tensor, newline: Tensor) -> Tensor:
        return features.flatten(0, 1)

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return [], []
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise UnsupportedInputError(
                f"pixel_values must be (image, channel, height, width), got {got}; pass what the processor returns"
            )
        layout = one_view_layout(self.geometry, device=str(pixels.device))
        return [Visual("image", layout, view[None]) for view in pixels], []

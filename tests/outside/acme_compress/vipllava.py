"""VipLLaVA (`model_type` "vipllava"): a picture is one view, of which the projector reads several layers of CLIP."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vidcompress import UnsupportedInputError, UnsupportedModelError
from vidcompress.adapters import (
    Adapter,
    EncoderProbe,
    Evidence,
    Layout,
    Traits,
    Visual,
    VisualTokens,
    encoder_layers,
    image_layout,
    register_adapter,
)
from vidcompress.media import Family, Geometry, register_family


def one_view(geometry: Geometry, size: tuple[int, int] | None = None) -> Layout:
    """Layout of a picture of any size."""
    return image_layout((geometry.side, geometry.side), newline=False)


FAMILY = register_family(Family("vipllava", one_view, crops=False))


@register_adapter
class VipLlavaAdapter(Adapter):
    """`VipLlavaForConditionalGeneration`, whose encoder has a CLS token that the projector never sees."""

    model_types = ("vipllava",)
    image_keys = ("pixel_values",)
    refused_keys = ("vision_feature_layer",)
    has_cls = True

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        encoder = model.config.vision_config.model_type
        if encoder != "clip_vision_model":
            raise UnsupportedModelError(f"vision tower {encoder!r}: this adapter takes clip_vision_model")

    @property
    def traits(self) -> Traits:
        return replace(super().traits, container="tensor")

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return [], []
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise UnsupportedInputError(
                f"pixel_values must be (image, channel, height, width), got {got}; pass what the processor returns"
            )
        layout = one_view(FAMILY.geometry(self.model.config)).to(pixels.device)
        return [Visual("image", layout, view[None]) for view in pixels], []

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        core, layer = self.model.model, self.model.config.vision_feature_layer
        hidden = [layer] if isinstance(layer, int) else list(layer)
        tower = core.vision_tower
        probe = EncoderProbe(tower, encoder_layers(tower), hidden, evidence, self.has_cls)
        tokens: list[VisualTokens] = []
        for start in range(0, len(visuals), max_views):
            chunk = visuals[start : start + max_views]
            states, values = probe(torch.cat([visual.pixels for visual in chunk]).to(tower.device))
            patches = torch.cat([state[:, 1:] for state in states], dim=-1)
            features = core.multi_modal_projector(patches)
            for i, visual in enumerate(chunk):
                quantities = {key: value[i] for key, value in zip(probe.evidence, values, strict=True)}
                quantities |= self.text_evidence(visual, evidence)
                tokens.append(VisualTokens(features[i], visual.layout.to(features.device), quantities))
        return tokens

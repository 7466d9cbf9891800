"""LLaVA-1.5 and its relatives (`model_type` "llava"): a picture is one view, without crops and without newlines."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vidcompress import UnsupportedInputError, UnsupportedModelError
from vidcompress.adapters import (
    Adapter,
    EncoderProbe,
    Evidence,
    Visual,
    VisualTokens,
    encoder_layers,
    image_layout,
    register_adapter,
)
from vidcompress.media import Family, register_family

CLS = {"clip_vision_model": True, "siglip_vision_model": False}


@register_adapter
class Llava15Adapter(Adapter):
    """`LlavaForConditionalGeneration` on CLIP or SigLIP."""

    model_types = ("llava",)
    image_keys = ("pixel_values",)

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        encoder, strategy = model.config.vision_config.model_type, model.config.vision_feature_select_strategy
        if encoder not in CLS or (strategy == "default") != CLS[encoder]:
            raise UnsupportedModelError(
                f"vision tower {encoder!r} with vision_feature_select_strategy={strategy!r}: this adapter takes "
                "clip_vision_model with 'default' and siglip_vision_model with 'full'"
            )

    @property
    def has_cls(self) -> bool:
        return CLS[self.model.config.vision_config.model_type]

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return [], []
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise UnsupportedInputError(
                f"pixel_values must be (image, channel, height, width), got {got}; pass what the processor returns"
            )
        side = self.model.config.vision_config.image_size // self.model.config.vision_config.patch_size
        layout = image_layout((side, side), newline=False, device=str(pixels.device))
        return [Visual("image", layout, view[None]) for view in pixels], []

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        core, wanted = self.model.model, self.model.config.vision_feature_layer
        hidden = [wanted] if isinstance(wanted, int) else list(wanted)
        tower = core.vision_tower
        probe = EncoderProbe(tower, encoder_layers(tower), hidden, evidence, self.has_cls)
        tokens: list[VisualTokens] = []
        for start in range(0, len(visuals), max_views):
            chunk = visuals[start : start + max_views]
            states, values = probe(torch.cat([visual.pixels for visual in chunk]).to(tower.device))
            patches = torch.cat(states, dim=-1)[:, int(self.has_cls) :]
            features = core.multi_modal_projector(patches)
            for i, visual in enumerate(chunk):
                found = {key: value[i] for key, value in zip(probe.evidence, values, strict=True)}
                found |= self.text_evidence(visual, evidence)
                tokens.append(VisualTokens(features[i], visual.layout.to(features.device), found))
        return tokens


register_family(Family("llava", lambda geometry, size: geometry.side**2, crops=False))

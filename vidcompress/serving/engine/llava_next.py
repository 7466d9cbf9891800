"""LLaVA-NeXT in vLLM: pictures as a thumbnail and crops, with the CLS evidence of CLIP's last layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor
from vllm.config import VllmConfig
from vllm.model_executor.models import llava_next as stock
from vllm.model_executor.models.llava import LlavaDummyInputsBuilder
from vllm.model_executor.models.utils import maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY

from vidcompress.core.layout import Modality
from vidcompress.core.tokens import Evidence
from vidcompress.errors import ArgumentError
from vidcompress.serving.engine.clip_scores import ScoringEncoder
from vidcompress.serving.engine.llava import TOWER, CompressingLlava, LlavaProcessor
from vidcompress.serving.settings import SERVED


class NextProcessor(LlavaProcessor, stock.LlavaNextMultiModalProcessor):
    """vLLM's processor of LLaVA-NeXT, with budgets."""

    served = SERVED["LlavaNextForConditionalGeneration"]


@MULTIMODAL_REGISTRY.register_processor(
    NextProcessor, info=stock.LlavaNextProcessingInfo, dummy_inputs=LlavaDummyInputsBuilder
)
class VidcompressLlavaNextForConditionalGeneration(CompressingLlava, stock.LlavaNextForConditionalGeneration):
    """vLLM's LLaVA-NeXT, which sends the tokens that a method keeps."""

    served = SERVED["LlavaNextForConditionalGeneration"]
    hf_to_vllm_mapper = stock.LlavaNextForConditionalGeneration.hf_to_vllm_mapper | TOWER

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        needed = self.compression.method.needs("image", self.has_cls)
        self.cls_evidence: Evidence | None = needed[0] if needed else None
        if self.cls_evidence is None:
            return
        config = self.config
        if len(needed) > 1 or not isinstance(config.vision_feature_layer, int):
            raise ArgumentError(
                f"method={self.compression.method.name!r} reads {len(needed)} quantities, of features of layer "
                f"{config.vision_feature_layer}: vLLM's encoder gives one, beside features of one layer; use "
                "'globalcom2:evidence=distance'"
            )
        tower = self.vision_tower.vision_model
        with self._mark_tower_model(vllm_config, "image"):
            tower.encoder = ScoringEncoder(
                tower.encoder.layers,
                config.vision_config,
                self.cls_evidence,
                vllm_config.quant_config,
                maybe_prefix(prefix, "vision_tower.vision_model.encoder"),
            )

    def encoded(
        self, kind: Modality, inputs: dict[str, Any]
    ) -> tuple[list[Tensor], list[dict[Evidence, Tensor]]]:
        features, none = super().encoded(kind, inputs)
        if self.cls_evidence is None:
            return features, none
        views = [len(one) for one in inputs["pixel_values"]]
        scores = self.vision_tower.vision_model.encoder.taken().split(views)
        packed = [
            self._packed(own, size)[:, 0] for own, size in zip(scores, inputs["image_sizes"], strict=True)
        ]
        return features, [{self.cls_evidence: own} for own in packed]

    def _packed(self, scores: Tensor, size: Tensor) -> Tensor:
        """Pack scores (view, patch) by the code that packs features: (N, 1), 0 at newlines."""
        values = scores[:, :, None]
        packer = SimpleNamespace(config=self.config, image_newline=values.new_zeros(1))
        merge = stock.LlavaNextForConditionalGeneration._merge_image_patch_embeddings
        packed: Tensor = merge(packer, size, values, strategy="spatial_unpad")
        return packed

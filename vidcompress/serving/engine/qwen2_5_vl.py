"""Qwen2.5-VL in vLLM: a clip is one run, and text behind it starts where vLLM starts it."""

from __future__ import annotations

from vllm.model_executor.models import qwen2_5_vl as stock
from vllm.multimodal import MULTIMODAL_REGISTRY

from vidcompress.serving.engine.qwen import CompressingQwen, QwenProcessor
from vidcompress.serving.settings import SERVED


class Qwen25VLProcessor(QwenProcessor, stock.Qwen2_5_VLMultiModalProcessor):
    """vLLM's processor of Qwen2.5-VL, with budgets."""

    served = SERVED["Qwen2_5_VLForConditionalGeneration"]
    rope_factor = 4


@MULTIMODAL_REGISTRY.register_processor(
    Qwen25VLProcessor, info=stock.Qwen2_5_VLProcessingInfo, dummy_inputs=stock.Qwen2_5_VLDummyInputsBuilder
)
class VidcompressQwen2_5_VLForConditionalGeneration(
    CompressingQwen, stock.Qwen2_5_VLForConditionalGeneration
):
    """vLLM's Qwen2.5-VL, which sends the tokens that a method keeps."""

    served = SERVED["Qwen2_5_VLForConditionalGeneration"]

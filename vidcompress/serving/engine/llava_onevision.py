"""LLaVA-OneVision in vLLM: pictures as a thumbnail and crops, and clips."""

from __future__ import annotations

from vllm.model_executor.models import llava_onevision as stock
from vllm.multimodal import MULTIMODAL_REGISTRY

from vidcompress.serving.engine.llava import TOWER, CompressingLlava, LlavaProcessor
from vidcompress.serving.settings import SERVED


class OnevisionProcessor(LlavaProcessor, stock.LlavaOnevisionMultiModalProcessor):
    """vLLM's processor of LLaVA-OneVision, with budgets."""

    served = SERVED["LlavaOnevisionForConditionalGeneration"]


@MULTIMODAL_REGISTRY.register_processor(
    OnevisionProcessor,
    info=stock.LlavaOnevisionProcessingInfo,
    dummy_inputs=stock.LlavaOnevisionDummyInputsBuilder,
)
class VidcompressLlavaOnevisionForConditionalGeneration(
    CompressingLlava, stock.LlavaOnevisionForConditionalGeneration
):
    """vLLM's LLaVA-OneVision, which sends the tokens that a method keeps."""

    served = SERVED["LlavaOnevisionForConditionalGeneration"]
    hf_to_vllm_mapper = stock.LlavaOnevisionForConditionalGeneration.hf_to_vllm_mapper | TOWER

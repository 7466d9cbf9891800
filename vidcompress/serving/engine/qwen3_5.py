"""Qwen3.5 in vLLM: clips as Qwen3-VL writes them, no companions, and a state instead of attention in most layers."""

from __future__ import annotations

from vllm.model_executor.models import qwen3_5 as stock
from vllm.model_executor.models.qwen3_vl import Qwen3VLDummyInputsBuilder
from vllm.multimodal import MULTIMODAL_REGISTRY

from vidcompress.serving.engine.qwen import CompressingQwen
from vidcompress.serving.engine.qwen3_vl import Qwen3VLProcessor, replace_clip
from vidcompress.serving.settings import SERVED


class Qwen35Processor(Qwen3VLProcessor):
    """vLLM's processor of Qwen3.5, with budgets."""

    served = SERVED["Qwen3_5ForConditionalGeneration"]


@MULTIMODAL_REGISTRY.register_processor(
    Qwen35Processor, info=stock.Qwen3_5ProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder
)
class VidcompressQwen3_5ForConditionalGeneration(CompressingQwen, stock.Qwen3_5ForConditionalGeneration):
    """vLLM's Qwen3.5, which sends the tokens that a method keeps."""

    served = SERVED["Qwen3_5ForConditionalGeneration"]
    replace_clip = staticmethod(replace_clip)

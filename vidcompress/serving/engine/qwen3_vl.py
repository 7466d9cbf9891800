"""Qwen3-VL in vLLM: times between the frames of clips, companions in the first layers."""

from __future__ import annotations

from vllm.model_executor.models import qwen3_vl as stock
from vllm.multimodal import MULTIMODAL_REGISTRY

from vidcompress.serving.engine.qwen import CompressingQwen, QwenProcessor
from vidcompress.serving.settings import SERVED

replace_clip = stock.Qwen3VLMultiModalProcessor.get_video_repl


class Qwen3VLProcessor(QwenProcessor, stock.Qwen3VLMultiModalProcessor):
    """vLLM's processor of Qwen3-VL, with budgets."""

    served = SERVED["Qwen3VLForConditionalGeneration"]
    replace_clip = staticmethod(replace_clip)


@MULTIMODAL_REGISTRY.register_processor(
    Qwen3VLProcessor, info=stock.Qwen3VLProcessingInfo, dummy_inputs=stock.Qwen3VLDummyInputsBuilder
)
class VidcompressQwen3VLForConditionalGeneration(CompressingQwen, stock.Qwen3VLForConditionalGeneration):
    """vLLM's Qwen3-VL, which sends the tokens that a method keeps."""

    served = SERVED["Qwen3VLForConditionalGeneration"]
    replace_clip = staticmethod(replace_clip)

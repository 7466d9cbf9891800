"""LLaVA-Video: images as in LLaVA-OneVision, frames averaged 2 x 2 with a newline after every row."""

from __future__ import annotations

from vidcompress.adapters.base import register_adapter
from vidcompress.adapters.family.geometry import video_video_layout
from vidcompress.adapters.llava_onevision import LlavaOnevisionAdapter
from vidcompress.adapters.llava_video.model import LlavaVideoConfig
from vidcompress.core.layout import Layout


@register_adapter
class LlavaVideoAdapter(LlavaOnevisionAdapter):
    """`LlavaVideoForConditionalGeneration` of `model`."""

    model_types = (LlavaVideoConfig.model_type,)

    def clip_layout(self, frames: int, device: str) -> Layout:
        return video_video_layout(self.geometry, frames, device)

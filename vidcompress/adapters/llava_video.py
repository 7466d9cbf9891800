"""LLaVA-Video: images as in LLaVA-OneVision, frames averaged 2 x 2 with a newline after every row."""

from __future__ import annotations

from typing import ClassVar

from vidcompress.adapters.base import register_adapter
from vidcompress.adapters.layouts import Newlines
from vidcompress.adapters.llava_onevision import LlavaOnevisionAdapter
from vidcompress.adapters.llava_video_model import LlavaVideoConfig


@register_adapter
class LlavaVideoAdapter(LlavaOnevisionAdapter):
    """`LlavaVideoForConditionalGeneration` of `llava_video_model`."""

    model_types = (LlavaVideoConfig.model_type,)
    newlines: ClassVar[Newlines] = "row"

    @property
    def frame_grid(self) -> tuple[int, int]:
        return self.grid[0] // 2, self.grid[1] // 2

"""GLM-4.5V (`model_type` "glm4v_moe"): pictures of any size, clips with a time behind each frame, axes of positions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from torch import Tensor

from vidcompress import UnsupportedInputError
from vidcompress.adapters import PackedAdapter, Traits, Visual, register_adapter, stock_positions
from vidcompress.media import NativeRules, PixelBudget, native_family, register_family


@register_adapter
class Glm4vMoeAdapter(PackedAdapter):
    """`Glm4vMoeForConditionalGeneration`, which has one placeholder for pictures and for frames of clips."""

    model_types = ("glm4v_moe",)
    sent_as = {"image": "image", "video": "image"}
    runs_apart = True
    grids_apart = True

    @cached_property
    def traits(self) -> Traits:
        return replace(super().traits, axes=4)

    @property
    def video_token_id(self) -> int:
        return self.image_token_id

    @property
    def merger_rows(self) -> int:
        return 1  # a convolution has joined the patches of a token

    def positions(self, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor | None) -> Tensor:
        if inputs.get("mm_token_type_ids") is None:
            raise UnsupportedInputError(
                "mm_token_type_ids is missing, which positions follow from; pass what the processor returns"
            )
        return stock_positions(self.model, inputs, ids, mask)

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images, clips = super().visuals(inputs)
        if images and clips:
            raise UnsupportedInputError(
                "pixel_values and pixel_values_videos in one batch: the model takes one of both; pass them apart"
            )
        return images, clips

    def view_text(self, row: Tensor, runs: Sequence[range]) -> list[list[range]]:
        """Of each frame its start before its run, and behind it its end and its time."""
        behind = row[runs[-1].stop :].tolist()
        end = runs[-1].stop + behind.index(self.model.config.video_end_token_id)
        stops = [run.start - 1 for run in runs[1:]] + [end]
        return [
            [range(run.start - 1, run.start), range(run.stop, stop)]
            for run, stop in zip(runs, stops, strict=True)
        ]


GLM_RULES = NativeRules(
    image_budget=PixelBudget(112 * 112, 28 * 28 * 15000, over_clip=True),
    clip_budget=PixelBudget(112 * 112, 28 * 28 * 2 * 30000, over_clip=True),
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    tokens=("<|image|>", "<|video|>"),
)
register_family(native_family("glm4v_moe", GLM_RULES, clips=False))

"""Qwen-VL: a picture of any size is one view, two frames of a clip are one; positions have axes: time, height, width.

Qwen2-VL and Qwen2.5-VL write a clip as one run of placeholders. Qwen3-VL writes the time before every temporal patch,
so that each is a run, and adds companions of its tokens behind the first layers of the decoder. Qwen3.5 writes clips as
Qwen3-VL, has no companions, and keeps a state instead of attention in three of four layers of its decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from vidcompress.adapters.base import register_adapter
from vidcompress.adapters.packed import PackedAdapter
from vidcompress.adapters.packed.probe import Grid
from vidcompress.adapters.stock import stock_positions
from vidcompress.adapters.traits import Traits
from vidcompress.checks import is_number
from vidcompress.errors import UnsupportedInputError, shown


@register_adapter
class Qwen2VLAdapter(PackedAdapter):
    """`Qwen2VLForConditionalGeneration` and `Qwen2_5_VLForConditionalGeneration`."""

    model_types = ("qwen2_vl", "qwen2_5_vl")
    video_keys: ClassVar[tuple[str, ...]] = (*PackedAdapter.video_keys, "second_per_grid_ts")

    @cached_property
    def traits(self) -> Traits:
        return replace(super().traits, axes=4)

    def positions(self, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor | None) -> Tensor | None:
        grids = [key for key in ("image_grid_thw", "video_grid_thw") if inputs.get(key) is not None]
        if grids and inputs.get("mm_token_type_ids") is None:
            raise UnsupportedInputError(
                f"{grids[0]} without mm_token_type_ids: positions of {type(self.model).__name__} follow from both; "
                "pass the processor's output unchanged, or 1 at placeholders of images, 2 at those of videos and 0 "
                "elsewhere"
            )
        return stock_positions(self.model, inputs, ids, mask)

    def times(self, inputs: Mapping[str, Any], grids: Sequence[Grid]) -> list[tuple[float, ...] | None]:
        seconds = inputs.get("second_per_grid_ts")
        if seconds is None or not grids:
            return [None] * len(grids)
        steps = seconds.flatten().tolist() if isinstance(seconds, Tensor) else seconds
        if not isinstance(steps, (list, tuple)) or len(steps) != len(grids) or not all(map(is_number, steps)):
            raise UnsupportedInputError(
                f"second_per_grid_ts={shown(seconds)}: must be one number of seconds per clip, {len(grids)} here; pass "
                "the processor's output unchanged"
            )
        frames = int(self.model.config.vision_config.temporal_patch_size)
        middle = (frames - 1) / (
            2 * frames
        )  # mean offset of the frames of a temporal patch, as a share of its duration
        return [
            tuple(float(step) * (number + middle) for number in range(grid[0]))
            for step, grid in zip(steps, grids, strict=True)
        ]


@register_adapter
class Qwen3VLAdapter(Qwen2VLAdapter):
    """`Qwen3VLForConditionalGeneration` and `Qwen3VLMoeForConditionalGeneration`."""

    model_types = ("qwen3_vl", "qwen3_vl_moe")
    video_keys = PackedAdapter.video_keys
    runs_apart = True

    @cached_property
    def traits(self) -> Traits:
        levels = len(self.model.config.vision_config.deepstack_visual_indexes)
        return replace(super().traits, deep_levels=levels)


@register_adapter
class Qwen35Adapter(Qwen2VLAdapter):
    """`Qwen3_5ForConditionalGeneration` and `Qwen3_5MoeForConditionalGeneration`.

    Most layers of the decoder are linear attention, which `traits.hybrid` says: nothing can be pruned inside it, and
    masses count in the other layers only.
    """

    model_types = ("qwen3_5", "qwen3_5_moe")
    video_keys = PackedAdapter.video_keys
    runs_apart = True

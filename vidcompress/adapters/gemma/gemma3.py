"""Gemma 3 (`model_type` "gemma3"): a picture is one view, or the whole picture with crops of it behind (pan and scan).

The model makes of `token_type_ids` a mask by which the tokens of a picture attend to each other both ways; these are
cut like `input_ids`. The inputs of the stock processor do not say which pictures are crops of another: to the model all
are pictures. `num_crops`, which the stock image processor makes and the stock processor takes out again, says it: a
number per picture. With `image_sizes` beside it, the (height, width) of each whole picture, the places of the crops are
known. The processor of this package returns both where a checkpoint's files ask for pan and scan. They are for
compression only; the stock `generate` refuses `num_crops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor

from vidcompress.adapters.base import Visual, register_adapter
from vidcompress.adapters.encoder_probe import EncoderProbe
from vidcompress.adapters.families import Family, register_family
from vidcompress.adapters.family.geometry import Geometry, read_geometry
from vidcompress.adapters.family.pan_and_scan import panned_image_layout, panned_layout
from vidcompress.adapters.llava import LlavaAdapter, image_sizes
from vidcompress.adapters.traits import Traits
from vidcompress.checks import is_whole
from vidcompress.core.layout import Layout
from vidcompress.core.tokens import Evidence
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError, shown

START, SOFT, END = "<start_of_image>", "<image_soft_token>", "<end_of_image>"
ENCODER = "siglip_vision_model"


@register_adapter
class Gemma3Adapter(LlavaAdapter):
    """`Gemma3ForConditionalGeneration` on SigLIP, whose projector averages squares of patches.

    `hidden` is what comes of the average, in front of the projector's norm and matrix.
    """

    model_types = ("gemma3",)
    image_keys = ("pixel_values", "image_sizes", "num_crops")
    refused_keys = ()

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        encoder = model.config.vision_config.model_type
        if encoder != ENCODER:
            raise UnsupportedModelError(f"vision tower {encoder!r}: this adapter of gemma3 takes {ENCODER!r}")

    @cached_property
    def traits(self) -> Traits:
        return replace(super().traits, container="tensor", both_ways=True)

    @cached_property
    def geometry(self) -> Geometry:
        return read_geometry(self.model.config, crops=False)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of tokens of one view."""
        return self.geometry.side, self.geometry.side

    def probe(self, evidence: Sequence[Evidence]) -> EncoderProbe:
        return EncoderProbe(self.core.vision_tower, self.vision_layers(), [-1], evidence, has_cls=False)

    def projected_rows(self, layout: Layout) -> int:
        return layout.num_tokens

    def join_patches(self, hidden: Tensor) -> Tensor:
        tower, projector = self.core.vision_tower, self.core.multi_modal_projector
        side = projector.patches_per_image
        square = tower.post_layernorm(hidden).transpose(1, 2).unflatten(-1, (side, side)).contiguous()
        pooled: Tensor = projector.avg_pool(square).flatten(2).transpose(1, 2)
        return pooled

    def average_patches(self, values: Tensor) -> Tensor:
        side, merge = self.geometry.side, self.geometry.merge
        square: Tensor = values.unflatten(1, (side, merge, side, merge))
        return square.mean((2, 4)).flatten(1, 2)

    def project(self, joined: Tensor) -> Tensor:
        projector = self.core.multi_modal_projector
        with align_module_device(projector):
            normed = projector.mm_soft_emb_norm(joined)
            return torch.matmul(normed, projector.mm_input_projection_weight).type_as(joined)

    def projects_late(self, visual: Visual) -> bool:
        return False  # one small matrix, whose norm rounds otherwise on rows that lie otherwise in memory

    def pack_image(self, features: Tensor, sizes: Tensor, newline: Tensor) -> Tensor:
        return features.flatten(0, 1)

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return [], []
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise UnsupportedInputError(
                f"pixel_values must be (picture, channel, height, width), got {got}; pass what the processor returns"
            )
        if inputs.get("token_type_ids") is None:
            raise UnsupportedInputError(
                "pixel_values without token_type_ids: without these the tokens of a picture do not see later ones of "
                "it, and the model says nothing; pass the processor's output unchanged, or 1 at placeholders and 0 "
                "elsewhere"
            )
        crops = _crops(inputs.get("num_crops"), len(pixels))
        sizes: Sequence[tuple[int, int] | None] = [None] * len(crops)
        if inputs.get("image_sizes") is not None:
            sizes = image_sizes(inputs, len(crops))
        parts = pixels.split([1 + count for count in crops])
        return [
            self._picture(views, size, count) for views, size, count in zip(parts, sizes, crops, strict=True)
        ], []

    def _picture(self, views: Tensor, size: tuple[int, int] | None, crops: int) -> Visual:
        placed: tuple[int, int] | int = max(1, crops)
        if size is not None and crops:
            placed = (1, crops) if size[1] >= size[0] else (crops, 1)
        layout = panned_layout(self.grid, placed, str(views.device))
        runs = (self.geometry.side**2,) * len(views)
        return Visual("image", layout, views, size, runs=runs, view_text=text_around)


def text_around(row: Tensor, runs: Sequence[range]) -> list[list[range]]:
    """Find the text of each view: the start of an image before its run, and the end behind it."""
    last = len(row)
    return [
        [range(max(0, run.start - 1), run.start), range(run.stop, min(run.stop + 1, last))] for run in runs
    ]


def _crops(stated: Any, views: int) -> list[int]:
    """Read `num_crops`, the crops behind each whole picture; without it every view is a picture of its own.

    Raises:
        UnsupportedInputError: other values, or numbers that do not fit the pixels.
    """
    if stated is None:
        return [0] * views
    counts = stated.tolist() if isinstance(stated, Tensor) else stated
    fine = isinstance(counts, (list, tuple)) and all(is_whole(count) and count >= 0 for count in counts)
    if not fine or sum(counts) + len(counts) != views:
        raise UnsupportedInputError(
            f"num_crops={shown(counts)}: must be the number of crops behind each whole picture, which with "
            f"these pictures are the {views} of pixel_values; pass the processor's output, or leave it out"
        )
    return list(counts)


def picture_text(placeholder: str, views: int = 1) -> str:
    """Write what stands in a prompt for a picture, or for a whole picture with `views` - 1 crops."""
    one = f"\n\n{START}{placeholder}{END}\n\n"
    if views == 1:
        return one
    crops = " ".join([one] * (views - 1))
    return f"Here is the original image {one} and here are some crops to help you see better {crops}"


register_family(
    Family(
        "gemma3",
        panned_image_layout,
        crops=False,
        image_token=SOFT,
        prompt_token=START,
        image_text=picture_text,
        token_types="token_type_ids",
        resample=2,
    )
)

"""Command A Vision (`model_type` "cohere2_vision"): tiles of a picture row by row, and a thumbnail behind them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vidcompress import UnsupportedInputError
from vidcompress.adapters import (
    Adapter,
    EncoderProbe,
    Evidence,
    Traits,
    Visual,
    VisualTokens,
    encoder_layers,
    register_adapter,
    runs_of_visuals,
    text_between_runs,
    tiled_layout,
)
from vidcompress.media import register_family, tiled_family


@register_adapter
class Cohere2VisionAdapter(Adapter):
    """`Cohere2VisionForConditionalGeneration`, whose projector joins 2 x 2 patches of SigLIP into one token."""

    model_types = ("cohere2_vision",)
    image_keys = ("pixel_values", "image_sizes")
    refused_keys = ()
    has_cls = False

    @property
    def traits(self) -> Traits:
        return replace(super().traits, container="tensor")

    @property
    def side(self) -> int:
        """Tokens along one side of a view."""
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size // self.model.config.downsample_factor

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        pixels, sizes = inputs.get("pixel_values"), inputs.get("image_sizes")
        if pixels is None:
            return [], []
        # One token, a line break, stands between the views of a picture, and more between two pictures.
        runs = runs_of_visuals(inputs["input_ids"], self.image_token_id, between=1)
        counts = [len(own) for own in runs]
        listed = [None] * len(runs) if sizes is None else [tuple(row[:2]) for row in sizes.tolist()]
        if pixels.ndim != 4 or sum(counts) != len(pixels) or 2 in counts or len(listed) != len(runs):
            raise UnsupportedInputError(
                f"pixel_values of shape {tuple(pixels.shape)} and image_sizes of {len(listed)} pictures do not fit "
                f"pictures of {counts} runs of placeholders; pass what the processor returns"
            )
        return [self._picture(*picture) for picture in zip(pixels.split(counts), listed, strict=True)], []

    def _picture(self, views: Tensor, size: tuple[int, int] | None) -> Visual:
        count = max(1, len(views) - 1)  # a lone tile has no thumbnail
        tiles = count if size is None else tile_grid(size, count, count, views.shape[-1])
        layout = tiled_layout((self.side, self.side), tiles, str(views.device))
        runs = (self.side**2,) * len(views)
        return Visual("image", layout, views, size, runs=runs, view_text=text_between_runs)

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        core, merge = self.model.model, self.model.config.downsample_factor
        tower = core.vision_tower
        probe = EncoderProbe(tower, encoder_layers(tower), [-1], evidence, self.has_cls)
        chunks = []
        for views in torch.cat([visual.pixels for visual in visuals]).split(max_views):
            (hidden,), values = probe(views.to(tower.device))
            features = core.multi_modal_projector(tower.post_layernorm(hidden)).flatten(1, 2)
            squares = [value.unflatten(1, (self.side, merge, self.side, merge)) for value in values]
            chunks.append((features, *(square.mean((2, 4)).flatten(1, 2) for square in squares)))
        counts = [len(visual.pixels) for visual in visuals]
        columns = [torch.cat(parts).split(counts) for parts in zip(*chunks, strict=True)]
        tokens = []
        for visual, own in zip(visuals, zip(*columns, strict=True), strict=True):
            features, *values = (column.flatten(0, 1) for column in own)
            quantities = dict(zip(probe.evidence, values, strict=True)) | self.text_evidence(visual, evidence)
            tokens.append(VisualTokens(features, visual.layout.to(features.device), quantities))
        return tokens


def tile_grid(picture: tuple[int, int], fewest: int, most: int, side: int) -> tuple[int, int]:
    """(rows, cols) of tiles: those that hold the picture and enlarge it least, else those that reduce it least."""
    grids = [
        (rows, cols) for cols in range(1, most + 1) for rows in range(-(-fewest // cols), most // cols + 1)
    ]

    def fit(grid: tuple[int, int]) -> tuple[bool, float]:
        scale = min(grid[0] * side / picture[0], grid[1] * side / picture[1])
        return scale >= 1, -scale if scale >= 1 else scale

    return max(sorted(grids, key=math.prod), key=fit)


def picture_text(placeholder: str, views: int) -> str:
    """What stands in a prompt for a picture."""
    return f"<|START_OF_IMG|>{(placeholder + '<|IMG_LINE_BREAK|>') * views}<|END_OF_IMG|>"


register_family(
    tiled_family("cohere2_vision", image_token="<|IMG_PATCH|>", image_text=picture_text, tile_rule=tile_grid)
)

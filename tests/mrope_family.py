"""Qwen2.5-VL and Qwen3-VL as a third party would add them: positions with axes, several runs, companions.

Small random models of the stock classes, an adapter, and inputs without any processor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from vidcompress import UnsupportedInputError
from vidcompress.adapters import (
    Adapter,
    Evidence,
    Traits,
    Visual,
    VisualTokens,
    native_layout,
    stock_positions,
    text_between_runs,
    video_layout,
)
from vidcompress.adapters.base import ADAPTERS, register_adapter

IMAGE, VIDEO, PAD = 90, 91, 0
MERGE, PATCH = 2, 14
VALUES = 3 * 2 * PATCH * PATCH
FAMILIES = ("acme_qwen2_5_vl", "acme_qwen3_vl")
"""Names of their own, since the package serves the stock ones itself."""


class AcmeQwen2Config(Qwen2_5_VLConfig):  # type: ignore[misc]
    model_type = FAMILIES[0]


class AcmeQwen3Config(Qwen3VLConfig):  # type: ignore[misc]
    model_type = FAMILIES[1]


class MropeAdapter(Adapter):
    """`Qwen2_5_VLForConditionalGeneration` and `Qwen3VLForConditionalGeneration`; a temporal patch is a frame."""

    model_types = FAMILIES
    image_keys = ("pixel_values", "image_grid_thw")
    video_keys = ("pixel_values_videos", "video_grid_thw", "second_per_grid_ts")
    refused_keys = ()
    has_cls = False

    @property
    def deep_levels(self) -> int:
        """Decoder layers that the encoder adds companions behind."""
        return len(getattr(self.model.config.vision_config, "deepstack_visual_indexes", ()))

    @property
    def traits(self) -> Traits:
        return replace(super().traits, axes=4, deep_levels=self.deep_levels)

    def positions(self, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor | None) -> Tensor | None:
        if inputs.get("mm_token_type_ids") is None:
            raise UnsupportedInputError(
                "mm_token_type_ids must be among the inputs; pass the processor's output"
            )
        return stock_positions(self.model, inputs, ids, mask)

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images = self._split(inputs.get("pixel_values"), inputs.get("image_grid_thw"))
        clips = self._split(inputs.get("pixel_values_videos"), inputs.get("video_grid_thw"))
        return (
            [self._picture(pixels, grid) for pixels, grid in images],
            [self._clip(pixels, grid) for pixels, grid in clips],
        )

    def _split(self, pixels: Tensor | None, grids: Tensor | None) -> Iterator[tuple[Tensor, tuple[int, int]]]:
        """Pixels (frame, patch, value) and grid of tokens of every visual."""
        if pixels is None or grids is None:
            return
        parts = pixels.split(grids.prod(-1).tolist())
        for part, (frames, height, width) in zip(parts, grids.tolist(), strict=True):
            yield part.unflatten(0, (frames, height * width)), (height // MERGE, width // MERGE)

    def _picture(self, pixels: Tensor, grid: tuple[int, int]) -> Visual:
        return Visual("image", native_layout(grid), pixels, grid, view_text=self._view_text)

    def _clip(self, pixels: Tensor, grid: tuple[int, int]) -> Visual:
        frames, length = pixels.shape[0], grid[0] * grid[1]
        runs = (length,) * frames if self.deep_levels else None  # a timestamp stands before each frame
        layout = video_layout(frames, grid, "none")
        return Visual("video", layout, pixels, grid, runs=runs, view_text=self._view_text)

    @property
    def _view_text(self) -> Any:
        """Times of frames, between their runs."""
        return text_between_runs if self.deep_levels else None

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        tokens = []
        for visual, some in zip(visuals, frames or [None] * len(visuals), strict=True):
            index = torch.arange(len(visual.layout.views)) if some is None else torch.tensor(some)
            layout = visual.layout if some is None else visual.layout.restrict_to_frames(index, some)
            features, deep = self._encode(visual.pixels[index], visual.size, max_views)
            tokens.append(VisualTokens(features, layout, self.text_evidence(visual, evidence), deep=deep))
        return tokens

    def _encode(self, pixels: Tensor, grid: Any, max_views: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Features (N, D) of the frames, and their companions per level; each frame attends to itself."""
        chunks = []
        for part in pixels.split(max_views):
            grids = torch.tensor([[1, MERGE * grid[0], MERGE * grid[1]]]).expand(len(part), -1)
            out = self.model.model.visual(part.flatten(0, 1), grid_thw=grids)
            chunks.append((out.pooler_output, *(getattr(out, "deepstack_features", None) or ())))
        features, *deep = (torch.cat(level) for level in zip(*chunks, strict=True))
        return features, tuple(deep)


@contextmanager
def served_by(cls: type[MropeAdapter]) -> Iterator[None]:
    """Both families have this adapter for a while."""
    ADAPTERS.names()
    register_adapter(cls)
    try:
        yield
    finally:
        for name in FAMILIES:
            ADAPTERS._classes.pop(name)


@lru_cache(maxsize=2)
def mrope_model(family: str) -> Any:
    """A random model in float32 and eval mode; cached, so tests may not change it for good.

    Args:
        family: of `FAMILIES`, or without "acme_".
    """
    torch.manual_seed(0)
    text = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=100,
        pad_token_id=PAD,
        rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
    )
    vision = dict(
        depth=2, hidden_size=32, intermediate_size=64, num_heads=2, patch_size=PATCH, out_hidden_size=32
    )
    ids = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=92, vision_end_token_id=93)
    if family.endswith("qwen2_5_vl"):
        vision |= {"fullatt_block_indexes": [1], "window_size": 56}
        config: Any = AcmeQwen2Config(text_config=text, vision_config=vision, **ids)
        model = Qwen2_5_VLForConditionalGeneration(config)
    else:
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
        config = AcmeQwen3Config(text_config={**text, "head_dim": 8}, vision_config=vision, **ids)
        model = Qwen3VLForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():  # larger than they come, so that a mistake shows in the logits
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    model.generation_config.eos_token_id = None
    return model.eval()


def mrope_inputs(
    model: Any, rows: Sequence[Sequence[Any]], seed: int = 0, mark: Sequence[int] = ()
) -> dict[str, Any]:
    """Inputs as a processor would make them, left-padded.

    Args:
        model: from `mrope_model`.
        rows: of ids, and of ("image" or "video", (frames, height, width) in patches).
        seed: of the pixels.
        mark: ids with which the time of every frame begins.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels: dict[str, list[Tensor]] = {"image": [], "video": []}
    grids: dict[str, list[Any]] = {"image": [], "video": []}
    ids, types = [], []
    for row in rows:
        written: list[int] = []
        for part in row:
            if isinstance(part, int):
                written.append(part)
                continue
            kind, grid = part
            pixels[kind].append(torch.randn(grid[0] * grid[1] * grid[2], VALUES, generator=generator))
            grids[kind].append(grid)
            length = grid[1] * grid[2] // MERGE**2
            if kind == "image":
                written += [92, *[IMAGE] * length, 93]
            elif model.config.model_type == FAMILIES[0]:
                written += [92, *[VIDEO] * (grid[0] * length), 93]
            else:
                for frame in range(grid[0]):
                    written += [*mark, 20 + frame, 92, *[VIDEO] * length, 93]
        ids.append(written)
        types.append([(token == IMAGE) + 2 * (token == VIDEO) for token in written])
    width = max(map(len, ids))
    pads = [[PAD] * (width - len(row)) for row in ids]
    out: dict[str, Any] = {
        "input_ids": torch.tensor([p + r for p, r in zip(pads, ids, strict=True)]),
        "attention_mask": torch.tensor([[0] * len(p) + [1] * len(r) for p, r in zip(pads, ids, strict=True)]),
        "mm_token_type_ids": torch.tensor([p + r for p, r in zip(pads, types, strict=True)]),
    }
    if pixels["image"]:
        out |= {"pixel_values": torch.cat(pixels["image"]), "image_grid_thw": torch.tensor(grids["image"])}
    if pixels["video"]:
        out |= {
            "pixel_values_videos": torch.cat(pixels["video"]),
            "video_grid_thw": torch.tensor(grids["video"]),
        }
        if model.config.model_type == FAMILIES[0]:
            out["second_per_grid_ts"] = torch.tensor([0.5 + 0.25 * i for i in range(len(grids["video"]))])
    return out

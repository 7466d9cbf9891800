"""Inputs of a class: pixels as its feature function names them, and prompts with as many placeholders as it gives."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.generic.adapter import GenericAdapter
from vidcompress.adapters.generic.interface import (
    feature_function,
    pixel_keys,
    read_features,
)
from vidcompress.core.layout import Modality

TEXT = (7, 11, 13)
SEPARATOR = 17


class NoInputs(Exception):
    """Raised where no pixels can be made for a class."""


def pixels_of(model: Any, modality: Modality, grid: tuple[int, int, int]) -> dict[str, Any]:
    """Pixels of two pictures, or of one clip.

    Args:
        model: of the class.
        modality: `image` or `video`.
        grid: of patches, (frames, rows, cols), for encoders that take any.
    """
    keys = pixel_keys(model, modality)
    vision = getattr(model.config, "vision_config", None) or model.config
    side = getattr(vision, "image_size", 28)
    side = side[0] if isinstance(side, (list, tuple)) else side
    count = 2 if modality == "image" else 1
    made: dict[str, Any] = {}
    grid_key = f"{modality}_grid_thw"
    if grid_key in keys:
        grids = torch.tensor([grid] * count)
        if modality == "image":
            grids[:, 0] = 1
        patches = int(grids.prod(1).sum())
        patch = int(vision.patch_size)
        channels = int(getattr(vision, "in_channels", None) or getattr(vision, "num_channels", 3))
        together = getattr(vision, "temporal_patch_size", getattr(vision, "patch_temporal", 1))
        made[keys[0]] = torch.randn(patches, channels * int(together) * patch**2)
        made[grid_key] = grids
        if model.config.model_type in ("paddleocr_vl", "kimi_k25"):  # their encoders take patches as pictures
            made[keys[0]] = made[keys[0]].unflatten(1, (channels, patch, patch))
        merges = f"{modality}_merge_sizes"
        if merges in keys:
            made[merges] = torch.full((count,), 2)
    elif "pixel_attention_mask" in keys and "spatial_shapes" not in keys:
        made[keys[0]] = torch.randn(1, count, 3, side, side)
        real = (1, count) if model.config.model_type == "granite_docling" else (1, count, side, side)
        made["pixel_attention_mask"] = torch.ones(real, dtype=torch.bool)
    elif "spatial_shapes" in keys:
        patch = int(vision.patch_size)
        made[keys[0]] = torch.randn(count, grid[1] * grid[2], 3 * patch**2)
        made["spatial_shapes"] = torch.tensor([grid[1:]] * count)
        made["pixel_attention_mask"] = torch.ones(count, grid[1] * grid[2], dtype=torch.int64)
    elif "target_sizes" in keys and modality == "image":  # patches of all pictures in one row
        patch = int(vision.patch_size)
        made[keys[0]] = torch.randn(1, 3, patch, count * grid[1] * grid[1] * patch)
        made["target_sizes"] = torch.tensor([(grid[1], grid[1])] * count, dtype=torch.int32)
    elif "high_res_pixel_values" in keys:
        made[keys[0]] = torch.randn(count, 3, side, side)
        fine = int(model.config.high_res_vision_config.image_size)
        made["high_res_pixel_values"] = torch.randn(count, 3, fine, fine)
    elif "image_grid_hw" in keys:
        made[keys[0]] = torch.randn(count * grid[1] * grid[2], 3 * int(vision.patch_size) ** 2)
        made["image_grid_hw"] = torch.tensor([grid[1:]] * count)
    elif modality == "image" and model.config.model_type in (
        "llava_next",
        "llava_next_video",
        "llava_onevision",
    ):
        made[keys[0]] = torch.randn(count, 3, 3, side, side)  # a thumbnail and a canvas of 2 x 1 crops
        made["image_sizes"] = torch.tensor([[2 * side, side]] * count)
    elif modality == "video":
        made[keys[0]] = torch.randn(1, 4, 3, side, side)
    else:
        made[keys[0]] = torch.randn(count, 3, side, side)
        if "image_sizes" in keys and model.config.model_type != "llava":
            made["image_sizes"] = torch.tensor([[side, side]] * count)
    return made


def inputs_of(
    model: Any,
    modality: Modality,
    changes: dict[str, Any] | None = None,
    grid: tuple[int, int, int] = (4, 8, 4),
    frames: int = 1,
) -> dict[str, Any]:
    """Inputs of one row: text, the first visual, text, the second one, text.

    Args:
        model: of the class.
        modality: `image` or `video`.
        changes: pixels by key, in place of those that are made.
        grid: as in `pixels_of`.
        frames: runs of a clip.

    Raises:
        NoInputs: the class has no such function, or does not take these pixels.
    """
    adapter = GenericAdapter(model)
    function = feature_function(model, modality)
    token = adapter.image_token_id if modality == "image" else adapter.video_token_id
    if function is None or token is None:
        raise NoInputs(f"it takes no {modality}")
    pixels = pixels_of(model, modality, grid) if changes is None else changes
    try:
        with torch.no_grad():
            output = function(**pixels)
    except Exception as error:
        raise NoInputs(f"no toy pixels fit: {type(error).__name__}: {error}") from error
    entries, _, _ = read_features(output, [], type(model).__name__)
    return {**pixels, **prompt(model, modality, [len(entry) for entry in entries], token, frames)}


def prompt(
    model: Any, modality: Modality, counts: list[int], token: int, frames: int = 1
) -> dict[str, Tensor]:
    """One row with a run of placeholders per entry, and the inputs per token that the class reads.

    Args:
        model: of the class.
        modality: `image` or `video`.
        counts: tokens of each entry.
        token: the placeholder.
        frames: runs of a clip, with text between them.
    """
    ids = list(TEXT)
    for count in counts:
        for _ in range(frames):
            ids += [token] * (count // frames) + [SEPARATOR]
    ids += list(reversed(TEXT))
    row = torch.tensor([ids])
    made = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    named = inspect.signature(model.forward).parameters
    of_picture, of_clip = row == token, 2 if modality == "video" else 1
    for name in ("mm_token_type_ids", "token_type_ids", "moe_mm_token_type_ids"):
        if name in named:
            made[name] = of_picture.to(torch.int64) * (of_clip if name != "token_type_ids" else 1)
    return made

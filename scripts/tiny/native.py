"""Native resolution for training: patches in block order, the encoder on stacks of one grid, and positions.

The encoder here is the stock modules applied to (picture, patch) stacks instead of one packed sequence: the same
mathematics without a call per picture. Tests hold it against the stock forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from tiny.architecture import MERGE, PATCH, TEMPORAL
from tiny.attention import plain_products

FACTOR = PATCH * MERGE
"""Side of a token, pixels."""


@dataclass
class Prompt:
    """The visual part of a prompt, text between frames included.

    Attributes:
        embeddings: (V, D).
        positions: (3, V): time, height, width, from 0 on.
        seen: bool (V,), which columns are visual tokens.
        deep: one (tokens, D) per level of deepstack.
        length: the position of what follows.
    """

    embeddings: torch.Tensor
    positions: torch.Tensor
    seen: torch.Tensor
    deep: list[torch.Tensor]
    length: int

    def __len__(self) -> int:
        return len(self.embeddings)


def patches(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Cut frames into normalised patches.

    Args:
        frames: uint8 (N, 2, H, W, 3), or (N, H, W, 3) for pictures, whose frame is repeated; H and W multiples of 28.

    Returns:
        float32 (N, H/14 * W/14, 3 * 2 * 14 * 14), blocks of 2 x 2 patches together, blocks row by row.
    """
    if frames.ndim == 4:
        frames = np.repeat(frames[:, None], TEMPORAL, axis=1)
    count, _, height, width, _ = frames.shape
    blocks = frames.reshape(
        count, TEMPORAL, height // FACTOR, MERGE, PATCH, width // FACTOR, MERGE, PATCH, 3
    ).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    cut = blocks.reshape(count, height // PATCH * (width // PATCH), -1)
    return (cut.astype(np.float32) / 255 - 0.5) / 0.5


@cache
def row_major(rows: int, columns: int) -> torch.Tensor:
    """Return the index (rows * columns,) that puts patches of block order into row order."""
    order = np.arange(rows * columns).reshape(rows // MERGE, columns // MERGE, MERGE, MERGE)
    return torch.as_tensor(order.transpose(0, 2, 1, 3).reshape(-1).copy())


def look(model: Any, values: torch.Tensor, grid: tuple[int, int]) -> list[torch.Tensor]:
    """Encode temporal patches of one grid.

    Args:
        model: a Qwen3-VL.
        values: float32 (N, patches, values) in block order.
        grid: (rows, columns) of patches.

    Returns:
        The hidden states (N, patches, width) behind the layers of deepstack, and of the last layer.
    """
    tower = model.model.visual
    thw = torch.tensor([[1, *grid]], device=values.device)
    nearest, weights = get_vision_interpolation_indices_and_weights(
        thw,
        num_grid_per_side=tower.num_grid_per_side,
        mode=tower.interpolation_mode,
        align_corners=tower.interpolation_align_corners,
        spatial_merge_size=tower.spatial_merge_size,
        kwargs={},
    )
    learned = (tower.pos_embed(nearest) * weights[:, :, None]).sum(1)
    embed = tower.patch_embed.proj
    hidden = F.linear(values, embed.weight.flatten(1), embed.bias) + learned
    cos, sin = tower.rotary_pos_emb(hidden, get_vision_position_ids(thw, tower.spatial_merge_size, kwargs={}))
    states = []
    for number, block in enumerate(tower.blocks):
        hidden = hidden + _attend(block.attn, block.norm1(hidden), cos, sin)
        hidden = hidden + block.mlp(block.norm2(hidden))
        if number in tower.deepstack_visual_indexes:
            states.append(hidden)
    return [*states, hidden]


def _attend(attn: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Let every picture of (N, patches, width) attend to itself."""
    count, length, width = hidden.shape
    q, k, v = attn.qkv(hidden).view(count, length, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = ((x.float() * cos + _half_turn(x.float()) * sin).to(v.dtype) for x in (q, k))
    if hidden.device.type == "cpu":
        out, _ = plain_products(attn, q, k, v.contiguous(), scaling=attn.scaling)
    else:
        out = F.scaled_dot_product_attention(q, k, v, scale=attn.scaling).transpose(1, 2)
    return attn.proj(out.reshape(count, length, width))


def _half_turn(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def merge(model: Any, states: list[torch.Tensor]) -> list[torch.Tensor]:
    """Turn hidden states, each (N, patches, width), into tokens of the language model.

    Returns:
        The features of the last state, then the levels of deepstack, each (N, tokens, D).
    """
    tower = model.model.visual
    *levels, final = states
    mergers = [tower.merger, *tower.deepstack_merger_list]
    return [
        merger(state.flatten(0, 1)).unflatten(0, (len(state), -1))
        for merger, state in zip(mergers, [final, *levels], strict=True)
    ]


def prompt(
    model: Any,
    tokens: list[torch.Tensor],
    grid: tuple[int, int],
    start: int,
    before: list[list[int]],
    between: tuple[int, int],
) -> Prompt:
    """Lay out one visual as the model reads it.

    Args:
        model: a Qwen3-VL.
        tokens: features and levels of deepstack, each (T, tokens, D).
        grid: (rows, columns) of patches.
        start: position of its first column.
        before: ids of the text before each of the T runs.
        between: ids of vision_start and vision_end, around each run; a clip has them around all of it too.

    Returns:
        The prompt.
    """
    features, *levels = tokens
    opening, closing = between
    rows, columns = grid[0] // MERGE, grid[1] // MERGE
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T
    clip = bool(before[0])
    ids: list[int] = [opening] if clip else []
    places: list[torch.Tensor] = []
    marks: list[torch.Tensor] = []
    at = start

    def write(text: list[int]) -> None:
        nonlocal at
        places.append((at + torch.arange(len(text))).expand(3, -1))
        marks.append(torch.zeros(len(text), dtype=torch.bool))
        at += len(text)

    write(ids)
    for text in before:
        write([*text, opening])
        ids += [*text, opening]
        places.append(at + torch.cat([torch.zeros(1, cells.shape[1], dtype=torch.long), cells]))
        marks.append(torch.ones(cells.shape[1], dtype=torch.bool))
        at += max(rows, columns)
        write([closing])
        ids.append(closing)
    if clip:
        write([closing])
        ids.append(closing)
    seen = torch.cat(marks)
    device = features.device
    written = model.get_input_embeddings()(torch.tensor(ids, device=device)).to(features.dtype)
    embeddings = features.new_empty(len(seen), features.shape[-1])
    order = torch.empty(len(seen), dtype=torch.long)
    order[seen], order[~seen] = torch.arange(int(seen.sum())), int(seen.sum()) + torch.arange(len(ids))
    embeddings = torch.cat([features.flatten(0, 1), written])[order.to(device)]
    return Prompt(embeddings, torch.cat(places, dim=1), seen, [level.flatten(0, 1) for level in levels], at)

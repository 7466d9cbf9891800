"""Attention masks of layers with a shortened sequence, in the form of the attention implementation."""

from __future__ import annotations

import torch
from torch import Tensor

from vidcompress.errors import UnsupportedModelError


def check_implementation(name: str | None) -> str:
    """Return the name of a supported attention implementation.

    Raises:
        UnsupportedModelError: another one than eager, sdpa or flash attention.
    """
    kind = (name or "").removeprefix("paged|")
    if kind in ("eager", "sdpa") or kind.startswith("flash_attention"):
        return kind
    raise UnsupportedModelError(
        f"attn_implementation={name!r} cannot go with pruning inside the decoder; set 'sdpa', 'eager' or "
        "'flash_attention_2' (model.set_attn_implementation)"
    )


def layer_mask(kind: str, real: Tensor | None, width: int, count: int, like: Tensor) -> Tensor | None:
    """Return the mask of one layer.

    Args:
        kind: attention implementation, from `check_implementation`.
        real: (b, width) bool, columns that hold tokens; None when all do.
        width: columns that the queries may see, the cached ones first.
        count: queries, the last columns.
        like: hidden states, for dtype and device.

    Returns:
        None where the implementation needs none, (b, width) for flash attention, (b or 1, 1, count, width) otherwise:
        bool for sdpa (True is seen), additive for eager.
    """
    if kind.startswith("flash_attention"):
        return None if real is None else real.to(torch.int64)
    if real is None and (count == 1 or (kind == "sdpa" and count == width)):
        return None
    column = torch.arange(width, device=like.device)
    row = column[-count:, None]
    seen = (column <= row)[None]
    if real is not None:
        # A padding column sees itself, else its softmax would have no terms.
        seen = (seen & real[:, None, :]) | (column == row)[None]
    seen = seen[:, None]
    if kind == "sdpa":
        return seen
    additive = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
    return additive.masked_fill(~seen, torch.finfo(like.dtype).min)

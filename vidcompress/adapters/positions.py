"""Positions of a prompt from the model's own code, for families whose positions are not columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_CACHES = ("cache", "past_key_values", "cache_params")


def stock_positions(model: Any, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor | None) -> Tensor:
    """Positions that the model's `generate` gives the uncompressed prompt; for `Adapter.positions`.

    The model remembers an offset from the call (`rope_deltas`), which is put back.

    Args:
        model: a transformers model whose core is `model.model`.
        inputs: of the caller; grids, times and token types are read.
        ids: (row, column) int64, the uncompressed prompt.
        mask: (row, column), 0 at padding; None for no padding.

    Returns:
        (axis, row, column) int64.
    """
    given = {
        key: value
        for key, value in inputs.items()
        if value is not None and key not in (*_CACHES, "input_ids", "position_ids")
    }
    if mask is not None:
        given["attention_mask"] = mask
    core, offset = model.model, getattr(model.model, "rope_deltas", None)
    try:
        positions: Tensor = model._prepare_position_ids_for_generation(ids, given)
    finally:
        if hasattr(core, "rope_deltas"):
            core.rope_deltas = offset
    return positions if positions.ndim == 3 else positions[None]

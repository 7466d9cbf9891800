"""Stock models of transformers: their encoder outputs as inputs, and their positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vidcompress.adapters.traits import Container

_CACHES = ("cache", "past_key_values", "cache_params")


@dataclass
class EncodedVisuals(BaseModelOutputWithPooling):  # type: ignore[misc]
    """Encoder outputs made by this package, so that a `compress` block recognises them.

    Attributes:
        deepstack_features: companions, one list per level with the entries of `pooler_output`; None without any.
    """

    deepstack_features: list[list[Tensor]] | None = None


def encoded_visuals(
    rows: Sequence[Tensor], deep: Sequence[Sequence[Tensor]], container: Container
) -> EncodedVisuals:
    """Make the encoder outputs of one modality.

    Args:
        rows: one (k, D) tensor per prompt row that has visuals of the modality.
        deep: companions of the same tokens, one sequence of (k, D) tensors per level.
        container: as in `Traits`.

    Returns:
        A new object with new lists, because `generate` writes into its inputs.
    """
    levels = [list(level) for level in deep] or None
    if container == "list":
        return EncodedVisuals(pooler_output=list(rows), deepstack_features=levels)
    joined = torch.cat(list(rows))[:, None]
    if container == "tensor":
        return EncodedVisuals(pooler_output=joined, deepstack_features=levels)
    return EncodedVisuals(last_hidden_state=joined)


def stock_positions(model: Any, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor | None) -> Tensor:
    """Return the positions that the model's `generate` gives the uncompressed prompt; for `Adapter.positions`.

    The model stores an offset of the call (`rope_deltas`), which is restored.

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
    with offset_restored(model):
        positions: Tensor = model._prepare_position_ids_for_generation(ids, given)
    return positions if positions.ndim == 3 else positions[None]


@contextmanager
def offset_restored(model: Any) -> Iterator[None]:
    """Restore the offset of the call that a model ran last (`rope_deltas`), which calls inside the block replace.

    Args:
        model: a transformers model; the model itself, or its core `model.model`, holds the offset.
    """
    around: tuple[Any, ...] = (model, getattr(model, "model", None))
    owners = [one for one in around if hasattr(one, "rope_deltas")]
    held = [one.rope_deltas for one in owners]
    try:
        yield
    finally:
        for one, offset in zip(owners, held, strict=True):
            one.rope_deltas = offset

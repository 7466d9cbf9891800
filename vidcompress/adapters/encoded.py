"""Encoder outputs as a model's `generate` and `forward` take them: `mm_encoder_outputs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vidcompress.adapters.traits import Container


@dataclass
class EncodedVisuals(BaseModelOutputWithPooling):  # type: ignore[misc]
    """Encoder outputs that this package made, so that a `compress` block knows its own.

    Attributes:
        deepstack_features: companions, one list per level with the entries of `pooler_output`; None without any.
    """

    deepstack_features: list[list[Tensor]] | None = None


def encoded_visuals(
    rows: Sequence[Tensor], deep: Sequence[Sequence[Tensor]], container: Container
) -> EncodedVisuals:
    """Encoder outputs of one modality.

    Args:
        rows: one (k, D) tensor per prompt row that has visuals of the modality.
        deep: companions of the same tokens, one sequence of (k, D) tensors per level.
        container: as in `Traits`.

    Returns:
        A new object with lists of its own, for `generate` writes into the ones it is given.
    """
    levels = [list(level) for level in deep] or None
    if container == "list":
        return EncodedVisuals(pooler_output=list(rows), deepstack_features=levels)
    joined = torch.cat(list(rows))[:, None]
    if container == "tensor":
        return EncodedVisuals(pooler_output=joined, deepstack_features=levels)
    return EncodedVisuals(last_hidden_state=joined)

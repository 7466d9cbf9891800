"""Choice of tokens in an engine: the same `Method.select` as everywhere, on features that the engine encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vidcompress.core.batch import VisualBatch, everything
from vidcompress.core.budget import VisualBudget
from vidcompress.core.method import Method
from vidcompress.core.tokens import AXES, VisualTokens


class SentTokens(NamedTuple):
    """Tokens chosen from one item, in the order of their positions.

    Attributes:
        features: (K, D) of the tokens sent.
        source: (K,) int64 positions in the item without compression.
        deep: companions (K, D) of the same tokens, one tensor per level.
    """

    features: Tensor
    source: Tensor
    deep: tuple[Tensor, ...]


def choose(tokens: Sequence[VisualTokens], plans: Sequence[VisualBudget], method: Method) -> list[SentTokens]:
    """Choose the tokens of items of one modality.

    Args:
        tokens: of each item.
        plans: budget of each item.
        method: one before the language model.

    Returns:
        One choice per item.
    """
    taken = [
        _without_frames(one, method.frames(one.layout, plan)) for one, plan in zip(tokens, plans, strict=True)
    ]
    batch = VisualBatch(taken)
    with torch.no_grad(), batch.full_precision():
        serves = taken[0].layout.modality in method.modalities
        chosen = method.select(batch, list(plans)) if serves else everything(batch)
        selections = [selection.ascending() for selection in chosen]
    return [
        SentTokens(one.gather(own), one.source(own.layout), one.companions(own))
        for one, own in zip(selections, taken, strict=True)
    ]


def _without_frames(tokens: VisualTokens, frames: tuple[int, ...] | None) -> VisualTokens:
    """Return the tokens of some frames of a clip, for a method that leaves out whole ones."""
    layout = tokens.layout
    if frames is None or len(frames) == len(layout.views):
        return tokens
    index = torch.tensor(frames, dtype=torch.int64, device=layout.view.device)
    layout = layout.restrict_to_frames(index, frames)
    evidence = {
        item: value[layout.source] if AXES.get(item.quantity, "N").startswith("N") else value
        for item, value in tokens.evidence.items()
    }
    deep = tuple(level[layout.source] for level in tokens.deep)
    return VisualTokens(tokens.features[layout.source], layout, evidence, tokens.project, deep)

"""Attention scores of the encoder: their layer, and their substitute without a CLS token."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from vidcompress.checks import is_whole
from vidcompress.core.batch import VisualBatch, evidence_of, joined
from vidcompress.core.budget import VisualBudget, half_up, ratio_fraction, split_in_proportion
from vidcompress.core.layout import Layout
from vidcompress.core.tokens import Evidence, Quantity
from vidcompress.errors import ArgumentError, shown, warn_once

Layer = int | Literal["features"]


def require_layer(**options: object) -> None:
    """Check options that name an encoder layer.

    Raises:
        ArgumentError: an option is no layer; the message names the option and its value.
    """
    for name, value in options.items():
        if not is_whole(value) and not (isinstance(value, str) and value == "features"):
            raise ArgumentError(
                f"{name} must be an integer such as -1 for the last encoder layer, or 'features' for the layer that "
                f"the projector reads, got {shown(value)}"
            )


def attention_wanted(
    method: str, layer: Layer, has_cls: bool, cls: Quantity = "cls_attention"
) -> tuple[Evidence]:
    """Return attention of the CLS token as evidence, or, with one warning, attention received without a CLS token."""
    if has_cls:
        return (Evidence(cls, layer),)
    warn_once(
        f"method {method!r} wants the attention of a CLS token, which this encoder does not have: tokens are "
        "ranked by the attention they receive on average instead"
    )
    return (Evidence("attention_received", layer),)


def attention_of(batch: VisualBatch, layer: Layer, cls: Quantity = "cls_attention") -> Tensor:
    """Return the attention (N,) of the CLS token, or attention received where a visual has none; float32 or better.

    Raises:
        UnsupportedInputError: a visual has neither.
    """
    choices = Evidence(cls, layer), Evidence("attention_received", layer)
    keys = [next((key for key in choices if key in one.evidence), choices[0]) for one in batch.visuals]
    return joined([evidence_of(one, key) for one, key in zip(batch.visuals, keys, strict=True)])


def shares(layout: Layout, budget: VisualBudget) -> list[int]:
    """Return the number of tokens that each view may send, from geometry alone.

    `exact` splits the budget's tokens in proportion to the views' sizes, to the token. `reference` rounds the ratio of
    each view half up, to at least one; the authors have views of one size only.
    """
    if budget.policy == "exact":
        return split_in_proportion(budget.tokens, layout.sizes)
    if budget.positions == 0:
        return [0] * len(layout.sizes)
    ratio = ratio_fraction(budget.ratio)
    return [min(size, max(1, half_up(ratio * size))) for size in layout.sizes]

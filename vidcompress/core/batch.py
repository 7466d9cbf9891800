"""Visuals of one shape, laid one after the other, so that what is computed of their features is computed in one pass.

Every view is reduced by itself, over rows of the same length, and what belongs to a whole visual along an axis of its
own; so on the CPU the bits are those of each visual alone (an accelerator may sum more rows in another order). A visual
stays alone where shapes do not allow that, and where the copy that lays them side by side would be larger than a block
of `moments`: there reading takes long and launching does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vidcompress.core.budget import Plan
from vidcompress.core.layout import VisualTokens
from vidcompress.core.ragged import join
from vidcompress.core.reductions import Pile, rows_per_block, working_dtype

LINE = 64
"""Bytes: products of rows that begin elsewhere in a cache line may round differently."""


def piles(tokens: Sequence[VisualTokens], used: float = 1.0) -> list[Pile]:
    """Lay visuals of one shape one after the other, as many as fit in one block (on the CPU, in a quarter of one).

    Args:
        tokens: the visuals of a batch, of one modality, on one device.
        used: share of the D numbers of a position that is multiplied.

    Returns:
        Every visual in one of them; of each pile the members in the order of the batch.
    """
    shapes: dict[tuple[Any, ...], list[int]] = {}
    for number, one in enumerate(tokens):
        shapes.setdefault(_shape(one, used) or (number,), []).append(number)
    return [_laid(tokens, part) for members in shapes.values() for part in _filled(tokens, members)]


def in_order(made: Sequence[Pile], values: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Put what was computed of piles in the order of the batch.

    Args:
        made: all piles of a batch.
        values: of each, the numbers of its members one after the other.
        lengths: how many numbers each visual of the batch has.
    """
    if len(values) == 1:
        return values[0]
    parts: dict[int, Tensor] = {}
    for one, value in zip(made, values, strict=True):
        split = value.split([lengths[number] for number in one.members])
        parts |= dict(zip(one.members, split, strict=True))
    return torch.cat([parts[number] for number in range(len(lengths))])


def ratios_of(one: Pile, plans: Sequence[Plan]) -> Tensor:
    """(B, 1) float64: the share of its tokens that each visual of a pile is to keep."""
    ratios = torch.tensor([[plans[number].ratio] for number in one.members], dtype=torch.float64)
    return ratios.to(one.features.device)


def _shape(one: VisualTokens, used: float) -> tuple[Any, ...] | None:
    """What visuals in one pile agree in; None for those that stay alone."""
    features, layout = one.features, one.layout
    width = features.shape[1]
    rows = (width, max(1, int(width * used)))
    if any(row * working_dtype(features).itemsize % LINE for row in rows) or not layout.views:
        return None
    kind = (layout.modality, features.dtype, width)
    if layout.modality == "image":
        return (*kind, layout.table.shape[1])
    return None if layout.run is None else (*kind, layout.run, len(layout.views), len(layout))


def _filled(tokens: Sequence[VisualTokens], members: list[int]) -> list[list[int]]:
    """Cut a list of visuals of one shape where a block is full."""
    parts: list[list[int]] = []
    room = 0
    for number in members:
        one = tokens[number]
        rows = max(len(one), one.layout.table.numel())
        if rows > room:
            parts.append([])
            room = rows_per_block(one.features, one.features.shape[1]) // _parts(one)
        parts[-1].append(number)
        room -= rows
    return parts


def _parts(one: VisualTokens) -> int:
    """The part of a block that several visuals may fill: on the CPU their copy is to stay in the cache as well."""
    return 4 if one.features.device.type == "cpu" else 1


def _laid(tokens: Sequence[VisualTokens], members: list[int]) -> Pile:
    first = tokens[members[0]]
    if len(members) == 1:
        return Pile(first.features, first.layout, first.layout.run, 1, tuple(members))
    layout = join(tuple(tokens[number].layout for number in members)).layout
    features = torch.cat([tokens[number].features for number in members])
    return Pile(features, layout, first.layout.run, len(members), tuple(members))

"""Masses: how many tokens of a visual each token sent stands for.

Pruning changes the measure that attention averages over; the masses say by how much. A method that merges states them
in `Selection.mass`. For all others a dropped token counts for the kept token that is most like it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidcompress.core.layout import Layout, _first
from vidcompress.core.reductions import NOISE, full_precision, rows_per_block, working_dtype
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import VisualTokens
from vidcompress.ops.diversity import unit_rows


def masses_of(tokens: VisualTokens, selection: Selection, total: int) -> Tensor:
    """Masses of the tokens sent of one visual.

    The selection may state them; the tokens that it does not count go to the nearest token sent, as in
    `nearest_masses`. Where frames were left out before the encoder, only some tokens of the visual have features. The
    others are taken to look like these: all masses grow by one factor, until they sum to the whole visual. Else a clip
    would weigh less the fewer of its frames are encoded.

    Features of all N tokens are read, unless the selection counts all of them or sends them all.

    Args:
        tokens: the N positions that the selection was made from.
        selection: its positions, with or without masses.
        total: number of tokens of the whole visual that are no separators, at least those of the layout.

    Returns:
        (K,) float32, in the order sent: 1 at separators; the others sum to `total`, if there are any.
    """
    layout, index, mass = tokens.layout, selection.index, selection.mass
    if mass is None and len(index) == len(layout):
        mass = torch.ones_like(index, dtype=torch.float32)
    elif mass is None:
        mass = nearest_masses(tokens.features, layout, index)
    elif selection.heirless is not None:
        mass = _inherited(tokens.features, layout, index, mass, selection.heirless)
    if total == layout.num_tokens or layout.num_tokens == 0:
        return mass
    return torch.where(layout.separator[index], mass, mass * (total / layout.num_tokens))


def nearest_masses(features: Tensor, layout: Layout, index: Tensor) -> Tensor:
    """Masses of kept tokens: each dropped token counts for the kept token of largest cosine.

    A kept token counts for itself. Of kept tokens whose cosines differ by less than `reductions.NOISE` the earlier one
    in the sequence inherits. A dropped token without a direction (zero, or not finite) has no nearest one, and a kept
    one inherits from none; what finds no heir is spread over all kept tokens in proportion to their masses.
    Separators inherit nothing and hand nothing on. Where only separators are kept, their masses are 1 and the tokens
    count for nothing.

    Memory is linear in N: one block of cosines, and the kept features once in float32 or better. The device is not
    waited for.

    Args:
        features: (N, D) in sequence order, in any float dtype.
        layout: of those N positions.
        index: (K,) int64, the positions kept, each once, in any order; of merged tokens those of their centres.

    Returns:
        (K,) float32, in the order of `index`; tokens sum to the number of tokens that are no separators.
    """
    gone = (~layout.separator).scatter(0, index, False)
    return _inherited(features, layout, index, torch.ones_like(index, dtype=torch.float32), gone)


def _inherited(features: Tensor, layout: Layout, index: Tensor, mass: Tensor, gone: Tensor) -> Tensor:
    """Add the tokens marked in `gone` (N,) bool to the masses (K,) of the kept tokens most like them.

    At most N - K tokens are gone.
    """
    if len(index) == 0:
        return mass
    order = index.argsort()  # the earlier token wins a tie, whatever the order sent
    kept, features = index[order], features.detach()
    is_token = ~layout.separator[kept]
    unit, alive = _directions(features, kept)
    never = torch.where(is_token & alive, 0.0, -torch.inf).to(unit.dtype)
    rows = _first(gone, len(layout) - len(index))  # padded with N
    step = min(rows_per_block(features, sum(unit.shape)), max(1, len(rows)))
    block = unit.new_empty(step, len(index))
    out, orphans = mass[order], rows.new_zeros((), dtype=torch.float32)
    for part in torch.split(rows, step):
        lost = part < len(layout)
        x = unit_rows(features[part.clamp(max=len(layout) - 1)])
        cosine = block[: len(part)]
        with full_precision(features):
            torch.addmm(never, x, unit.T, out=cosine)
        best = cosine.amax(1, keepdim=True)
        heir = cosine.ge_(best - NOISE).argmax(1)
        finds = lost & x.any(1) & best[:, 0].isfinite()
        out = out.scatter_add(0, heir, finds.to(out.dtype))
        orphans = orphans + (lost & ~finds).sum()
    counted = torch.where(is_token, out, 0.0).sum()
    grown = out * (1 + orphans / counted.clamp(min=torch.finfo(out.dtype).tiny))
    return torch.empty_like(out).scatter_(0, order, torch.where(is_token, grown, out))


def _directions(features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unit rows (K, D) of some positions (K,), and which have a direction (K,) bool."""
    width = features.shape[1]
    unit = torch.empty(len(index), width, dtype=working_dtype(features), device=features.device)
    step = rows_per_block(features, width)
    for place, part in zip(torch.split(unit, step), torch.split(index, step), strict=True):
        place.copy_(unit_rows(features[part]))
    return unit, unit.any(1)


def hand_over(states: Tensor, mass: Tensor, owner: Tensor, *, stays: Tensor, most: int) -> Tensor:
    """Hand the masses of visual entries that are left out to the nearest one that stays, of the same visual.

    Args:
        states: (b, n, D) hidden states; the cosine says which entry is nearest, ties go to the earlier.
        mass: (b, n) float32.
        owner: (b, n) int64, the visual of each entry, -1 for text and separators, which keep what they have.
        stays: (b, n) bool, visual entries that stay.
        most: upper bound, known to the caller, of the entries that stay in a row.

    Returns:
        (b, n) float32, 0 at visual entries that are left out. The masses of a visual sum to what they summed to,
        unless none of its entries stays.
    """
    b, width = mass.shape
    column = torch.arange(width, device=mass.device)
    heirs = torch.where(stays, column, width).sort(dim=1).values[:, :most]
    absent = heirs == width
    heirs = heirs.clamp(max=width - 1)
    unit = unit_rows(states)
    left = unit.gather(1, heirs[:, :, None].expand(-1, -1, unit.shape[-1]))
    whose = owner.gather(1, heirs).masked_fill(absent, -2)
    gone = (owner >= 0) & ~stays
    given = torch.where(gone, mass, 0.0)
    out = mass - given
    step = rows_per_block(states, b * most)
    for first in range(0, width, step):
        block = slice(first, first + step)
        near = unit[:, block] @ left.mT
        # The cosine is at least -1, so that no entry of another visual is nearer.
        near = near.masked_fill(owner[:, block, None] != whose[:, None], -2.0)
        best = near.max(dim=2)
        amount = torch.where(best.values > -2.0, given[:, block], 0.0)
        out = out.scatter_add(1, heirs.gather(1, best.indices), amount)
    return out

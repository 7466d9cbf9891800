"""Masses: how many tokens each token that is left stands for, itself included.

Pruning changes the measure that attention averages over. The mass of a token that is left out goes to the token left
that is most like it, so that the masses of what is left sum to the number of tokens there were.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidcompress.core.reductions import rows_per_block
from vidcompress.ops.diversity import unit_rows


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

"""Stand-in until the masses of all methods are merged."""

from __future__ import annotations

import torch
from torch import Tensor

from vidcompress.core.selection import Selection
from vidcompress.core.tokens import VisualTokens
from vidcompress.ops.diversity import unit_rows


def masses_of(tokens: VisualTokens, selection: Selection, total: int) -> Tensor:
    """Return the masses (K,) float32 of nearest kept tokens."""
    if selection.mass is not None:
        return selection.mass
    sep = tokens.layout.separator
    unit = unit_rows(tokens.features)
    left = unit[selection.index]
    cos = (unit @ left.T).masked_fill(sep[selection.index][None], -2.0)
    near = cos.argmax(1)
    kept = torch.zeros(len(sep), dtype=torch.bool).index_fill(0, selection.index, True)
    gone = (~kept & ~sep).float()
    return torch.ones(len(selection)).scatter_add(0, near, gone)

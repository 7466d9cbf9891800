"""Numbers of the patches of views that are filled to one number of them, as in Gemma 4."""

from __future__ import annotations

import torch
from torch import Tensor


def numbered(rows: Tensor, cols: Tensor, most: int) -> Tensor:
    """Number the patches of views row by row: (view, most, 2) int64, the column and row of each, -1 behind the last.

    Args:
        rows, cols: (view,) int64, patches along the sides of each view.
        most: patches of a view with its filling.
    """
    place = torch.arange(most, device=cols.device)
    wide = cols.clamp(min=1)[:, None]
    there = place < (rows * cols)[:, None]
    pairs = torch.stack((place % wide, place.div(wide, rounding_mode="floor")), dim=-1)
    return torch.where(there[..., None], pairs, -1)

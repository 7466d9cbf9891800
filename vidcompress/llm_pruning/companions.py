"""Companions of visual tokens (deepstack): added behind the first decoder layers to the tokens that are still there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Companions:
    """Companions that a language model got, to be added by hooks in its stead.

    Args:
        visual: (b, C) bool, the visual columns of the shortened prompt.
        levels: for each of the first layers (k, D), one for each visual column, row after row.
    """

    def __init__(self, visual: Tensor, levels: Sequence[Tensor]) -> None:
        self.levels = list(levels)
        self._visual = visual
        # Which companion a column has: counted, so that the device is asked for nothing.
        order = visual.flatten().to(torch.int64).cumsum(dim=0) - 1
        self._number = order.clamp(min=0).view(visual.shape)

    def add(
        self, level: int, hidden: Tensor, columns: Tensor | None = None, there: Tensor | None = None
    ) -> Tensor:
        """Add the companions of a level.

        Args:
            level: number of the layer that gave out the states.
            hidden: (b, n, D).
            columns: (b, n) int64, for each entry its column in the shortened prompt; None where they are all.
            there: (b, n) bool, visual entries that are left; what stands in for padding is none.

        Returns:
            (b, n, D), a new tensor.
        """
        visual = (self._visual if there is None else there).to(hidden.device)
        number = self._number.to(hidden.device)
        if columns is not None:
            number = number.gather(1, columns.to(hidden.device))
        companions = self.levels[level].to(hidden.device, hidden.dtype)
        added = hidden + companions.index_select(0, number.flatten()).view(hidden.shape)
        return torch.where(visual[:, :, None], added, hidden)

"""Companions of visual tokens (deepstack), added behind the first decoder layers to the tokens that are left."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Companions:
    """Companions passed to a language model, added by hooks in its stead.

    Args:
        visual: (b, C) bool, the visual columns of the shortened prompt.
        levels: for each of the first layers (k, D), one row for each visual column, prompt after prompt.
    """

    def __init__(self, visual: Tensor, levels: Sequence[Tensor]) -> None:
        self.levels = list(levels)
        self._visual = visual
        # The companion of each column, by counting, so that there is no device synchronisation.
        order = visual.flatten().to(torch.int64).cumsum(dim=0) - 1
        self._number = order.clamp(min=0).view(visual.shape)

    def add(
        self, level: int, hidden: Tensor, columns: Tensor | None = None, there: Tensor | None = None
    ) -> Tensor:
        """Add the companions of a level.

        Args:
            level: number of the layer whose output the states are.
            hidden: (b, n, D).
            columns: (b, n) int64, for each entry its column in the shortened prompt; None for all columns.
            there: (b, n) bool, visual entries that are left; False at entries that fill up padding.

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

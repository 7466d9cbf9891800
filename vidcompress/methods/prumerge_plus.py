"""LLaVA-PruMerge+ (arXiv 2403.15388): PruMerge that keeps evenly spaced tokens beside those of most attention.

Formulas as in the authors' code (42Shawn/LLaVA-PruMerge @ 097c041).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Layout
from vidcompress.core.method import register_method
from vidcompress.core.reductions import rank_table
from vidcompress.methods.prumerge import Candidates, PruMerge
from vidcompress.ops.merging import columns_of

Count = Literal["budget", "iqr", "training"]
SPACED_SHARE = (
    0.75  # the authors' spacing, a third of int(1 / ratio), comes to about three quarters of the tokens
)
TRAINED_STEP = 8  # the authors train with an eighth of the tokens by attention and every eighth of the raster


@register_method
@dataclass(frozen=True)
class PruMergePlus(PruMerge):
    """PruMerge with three quarters of the kept tokens evenly spaced over the view, so that every region has some.

    Attributes:
        count: as in PruMerge. `training` is, under `reference`, the authors' count in training: an eighth by attention,
            then every eighth token of the view; a token in both lists is sent twice.
    """

    name: ClassVar[str] = "prumerge_plus"
    summary: ClassVar[str] = "PruMerge with evenly spaced tokens kept beside those of most CLS attention"
    counts_known: ClassVar[tuple[str, ...]] = get_args(Count)

    def candidates(self, scores: Tensor, counts: Tensor, layout: Layout, budget: VisualBudget) -> Candidates:
        """List the tokens of most attention of every view, then the spaced ones, then the pruned, both ascending."""
        size, rank = layout.sizes_tensor[:-1], rank_table(scores, layout)
        kept = self._without_extra(counts, layout, budget)
        own_counts = budget.policy == "exact" or self.count == "budget"
        if own_counts:
            spaced = (kept * SPACED_SHARE + 0.5).floor().to(torch.int64)
            best = kept - spaced
            columns = _evenly_spaced(rank, best, spaced, size)
        elif self.count == "iqr":
            best = kept
            step = (1 / (best.clamp(min=1) / size.double().clamp(min=1))).to(torch.int64)
            stride = step.div(3, rounding_mode="floor")
            columns, spaced = _every(rank, best, stride.clamp(min=1), size)
        else:
            best = torch.minimum((size // TRAINED_STEP).clamp(min=1), kept)
            columns, spaced = _trained(size, rank.shape[1])
        return _listed(rank, best, columns, spaced, size)

    def _counts(self, weights: Tensor, layout: Layout, budget: VisualBudget) -> Tensor:
        counts = super()._counts(weights, layout, budget)
        if self.count == "training" and budget.policy == "reference" and budget.positions:
            return layout.sizes_tensor[:-1]
        return counts


def _evenly_spaced(rank: Tensor, best: Tensor, spaced: Tensor, size: Tensor) -> Tensor:
    """Return columns (V, L): token floor((i + 1/2) r / s) of the r outside the best, i = 0 .. s - 1."""
    width = rank.shape[1]
    column = torch.arange(width, device=rank.device)
    rest = columns_of((rank >= best[:, None]) & (column < size[:, None]), width)
    many, few = (size - best)[:, None], spaced[:, None].clamp(min=1)
    return rest.gather(1, ((2 * column + 1) * many // (2 * few)).clamp(max=width - 1))


def _every(rank: Tensor, best: Tensor, stride: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return columns 0, stride, ... below n - 1 outside the best (V, L), and their number (V,)."""
    column = torch.arange(rank.shape[1], device=rank.device)
    mask = (column < size[:, None] - 1) & (column % stride[:, None] == 0) & (rank >= best[:, None])
    return columns_of(mask, rank.shape[1]), mask.sum(1)


def _trained(size: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return columns 4, 12, ... below n - 1 (V, L), and their number (V,), whatever the scores."""
    start = TRAINED_STEP // 2
    columns = start + TRAINED_STEP * torch.arange(width, device=size.device)
    count = (size - 1 - start + TRAINED_STEP - 1).div(TRAINED_STEP, rounding_mode="floor").clamp(min=0)
    return columns.clamp(max=max(0, width - 1)).expand(len(size), -1), count


def _listed(rank: Tensor, best: Tensor, columns: Tensor, spaced: Tensor, size: Tensor) -> Candidates:
    """List the best, the spaced and the pruned tokens of a view in n slots.

    A token that is listed twice costs one pruned token, that of lowest position, as in the authors' list.
    """
    width = rank.shape[1]
    slot = torch.arange(width, device=rank.device)
    by_rank = torch.argsort(rank, dim=1, stable=True)
    live = slot < spaced[:, None]
    marks = torch.zeros((len(rank), width + 1), dtype=torch.bool, device=rank.device)
    marks.scatter_(1, torch.where(live, columns, width), True)
    taken = (rank < best[:, None]) | marks[:, :-1]
    pruned = columns_of(~taken & (slot < size[:, None]), width)
    lost = best + spaced - taken.sum(1)
    after = slot - (best + spaced - lost)[:, None]
    rest = pruned.gather(1, after.clamp(0, width - 1))
    second = columns.gather(1, (slot - best[:, None]).clamp(0, width - 1))
    column = torch.where(
        slot < best[:, None], by_rank, torch.where(slot < (best + spaced)[:, None], second, rest)
    )
    return Candidates(column.clamp(max=width - 1), best + spaced)

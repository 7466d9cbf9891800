"""Batch of visuals: several pictures or clips side by side, which take the kernels of one.

The layouts of all visuals stand one after the other, views and lines numbered through, so that tokens of all are ranked
and chosen in one pass. The choice is the same to the last token as one by one, since everything here is integers,
sorting, and sums within a row. A batch of one has the visual's own layout and features and takes no further kernel.
Feature statistics are computed for visuals of one shape together: see `reductions.in_groups`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidcompress.checks import is_number
from vidcompress.core.budget import VisualBudget, tokens_to_keep
from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Layout
from vidcompress.core.report.visual import Allotment
from vidcompress.core.selection import (
    Selection,
    fullest_lines,
    largest_remainder,
    top_per_view,
    with_separators,
)
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, UnsupportedInputError, shown


@dataclass(eq=False)
class VisualBatch:
    """Visual batch: B visuals of one modality, on one device, one after the other.

    Attributes:
        visuals: at least one; any sequence is taken and kept as tuple.
        lengths: B ints, the number of positions of each visual.
        views: B ints, the number of views of each visual.

    Raises:
        ArgumentError: no visual, an entry that is not `VisualTokens`, images and videos together, or several devices.
    """

    visuals: Sequence[VisualTokens]
    lengths: list[int] = field(init=False)
    views: list[int] = field(init=False)

    def __post_init__(self) -> None:
        visuals = self.visuals
        if not isinstance(visuals, (tuple, list)) or not visuals:
            raise ArgumentError(f"visuals={shown(visuals)}: must be a list of at least one VisualTokens")
        for one in visuals:
            if not isinstance(one, VisualTokens):
                raise ArgumentError(f"visuals has {shown(one)}: each must be a VisualTokens")
        if len(visuals) > 1 and len({(one.layout.modality, one.layout.view.device) for one in visuals}) > 1:
            kinds = dict.fromkeys(f"{one.layout.modality}s on {one.layout.view.device}" for one in visuals)
            raise ArgumentError(
                f"visuals has {' and '.join(kinds)}: all must be of one modality and on one device; make one batch of "
                "each"
            )
        self.visuals = tuple(visuals)
        self.lengths = [one.layout.view.shape[0] for one in visuals]
        self.views = [len(one.layout.views) for one in visuals]
        if len(visuals) == 1:
            self.layout = visuals[0].layout
            if "features" in vars(visuals[0]):  # which may wait for the projector
                self.features = visuals[0].features

    def __len__(self) -> int:
        return len(self.visuals)

    def __repr__(self) -> str:
        return f"VisualBatch({len(self.visuals)} visuals, {self.layout!r})"

    @cached_property
    def layout(self) -> Layout:
        """Geometry of all V views and N positions, views and lines numbered through.

        For several visuals it has no canvas, and the grid of the first; for one it is the visual's own.
        """
        return self._side_by_side.layout

    @cached_property
    def features(self) -> Tensor:
        """(N, D) features of all visuals; a copy where they are several, so read large ones in groups."""
        return joined([one.features for one in self.visuals])

    def evidence(self, key: Evidence) -> Tensor:
        """Return one piece of evidence of all visuals, one after the other, in float32 or better.

        Raises:
            UnsupportedInputError: a visual came without it.
        """
        return joined([evidence_of(one, key) for one in self.visuals])

    def full_precision(self) -> AbstractContextManager[None]:
        """Context in which products have the precision of their arguments, also within a caller's autocast block.

        A projector that a method calls there runs under the caller's autocast.
        """
        for one in self.visuals:
            one.hold_autocast()
        return torch.autocast(self.visuals[0].layout.view.device.type, enabled=False)

    @cached_property
    def _side_by_side(self) -> _SideBySide:
        return _side_by_side(tuple(one.layout for one in self.visuals))


@dataclass(frozen=True, eq=False)
class _SideBySide:
    """The geometry of a batch.

    Attributes:
        layout: see `VisualBatch.layout`.
        owner: (N,) int64, the visual of each position.
        first: (B,) int64, the first position of each visual.
        slot: (V,) int64, the place of each view in a (B, W) table of visuals side by side, W the most views of one.
        caps: (B, W) int64, tokens of each view; 0 where there is none.
    """

    layout: Layout
    owner: Tensor
    first: Tensor
    slot: Tensor
    caps: Tensor


@lru_cache(maxsize=64)
@outside_caller_modes
def _side_by_side(layouts: tuple[Layout, ...]) -> _SideBySide:
    """Return the geometry of a batch, from the layouts alone."""
    views, lines = sum(len(one.views) for one in layouts), sum(one.num_lines for one in layouts)
    columns: dict[str, list[Tensor]] = {name: [] for name in ("view", "line", "source", "owner")}
    slots, at_view, at_line, at_source = [], 0, 0, 0
    width, device = max(len(one.views) for one in layouts), layouts[0].view.device
    for number, one in enumerate(layouts):
        columns["view"].append(torch.where(one.separator, views, one.view + at_view))
        columns["line"].append(torch.where(one.line == one.num_lines, lines, one.line + at_line))
        columns["source"].append(one.source + at_source)
        columns["owner"].append(torch.full_like(one.view, number))
        slots.append(torch.arange(len(one.views), device=device) + number * width)
        at_view, at_line = at_view + len(one.views), at_line + one.num_lines
        at_source += one.full_length
    flat = {name: torch.cat(parts) for name, parts in columns.items()}
    owner, slot = flat.pop("owner"), torch.cat(slots)
    sizes = tuple(size for one in layouts for size in one.sizes)
    caps = torch.zeros(len(layouts) * width, dtype=torch.int64, device=device)
    caps[slot] = torch.tensor(sizes, dtype=torch.int64, device=device)
    lengths = torch.tensor([len(one) for one in layouts], dtype=torch.int64, device=device)
    whole = Layout(
        modality=layouts[0].modality,
        views=tuple(view for one in layouts for view in one.views),
        row=torch.cat([one.row for one in layouts]),
        col=torch.cat([one.col for one in layouts]),
        separator=torch.cat([one.separator for one in layouts]),
        grid=layouts[0].grid,
        canvas=None,
        sizes=sizes,
        num_separators=sum(one.num_separators for one in layouts),
        num_lines=lines,
        full_length=at_source,
        view=flat["view"],
        line=flat["line"],
        source=flat["source"],
    )
    first = lengths.cumsum(0) - lengths
    return _SideBySide(whole, owner, first, slot, caps.view(len(layouts), width))


def evidence_of(tokens: VisualTokens, key: Evidence) -> Tensor:
    """Return one piece of evidence, float32 or better.

    Raises:
        UnsupportedInputError: the tokens came without it.
    """
    if key not in tokens.evidence:
        raise UnsupportedInputError(
            f"the method needs {key}, but the tokens came with {list(tokens.evidence) or 'no evidence'}; pass what "
            "its needs() names in VisualTokens"
        )
    value = tokens.evidence[key]
    return value if value.dtype == torch.float64 else value.to(torch.float32)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def starts(sizes: Sequence[int]) -> list[int]:
    """Return the start of each run when runs of these sizes stand one after the other."""
    return [0, *accumulate(sizes)][:-1]


def totals_of(batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[int]:
    """Return B ints: tokens that each visual keeps; separators come on top."""
    return [tokens_to_keep(one.layout, budget) for one, budget in zip(batch.visuals, budgets, strict=True)]


def everything(batch: VisualBatch) -> list[Selection]:
    """Select all positions of each visual in order."""
    return [Selection(torch.arange(len(one), device=one.layout.view.device)) for one in batch.visuals]


def spend(
    batch: VisualBatch, scores: Tensor, weights: Tensor | Allotment, budgets: Sequence[VisualBudget]
) -> list[Selection]:
    """Select from a batch: each visual's budget goes to its views by weight, and to the best tokens of each view.

    Args:
        batch: the B visuals.
        scores: (N,), higher is kept.
        weights: tokens wanted of each view, (V,) float64 or an allotment.
        budgets: one per visual.

    Returns:
        One selection per visual, in sequence order.
    """
    allotment = weights if isinstance(weights, Allotment) else Allotment(weights)
    totals = totals_of(batch, budgets)
    share = allotment.coverage
    if len(batch.visuals) == 1:
        counts = shared_out(allotment.weights, totals[0], batch.layout.sizes_tensor[:-1], share)
    else:
        slot, caps = batch._side_by_side.slot, batch._side_by_side.caps
        table = allotment.weights.new_zeros(caps.numel()).index_copy_(0, slot, allotment.weights)
        total = torch.tensor(totals, dtype=torch.int64).to(slot.device)
        counts = shared_out(table.view(caps.shape), total[:, None], caps, share).flatten()[slot]
    index = top_per_view(scores, batch.layout, counts, sum(totals))
    return keep(batch, index, totals, budgets, allotment, scores)


def shared_out(weights: Tensor, total: int | Tensor, caps: Tensor, coverage: float = 0.0) -> Tensor:
    """Split a budget over views in proportion to weights, by largest remainder; a share of it may follow time.

    That share counts where the budget is below one token a view. With W_t the running sum of its parts, view t gets
    floor(W_t + 1/2) - floor(W_{t-1} + 1/2): as many in every stretch of time as the stretch weighs.

    Args:
        weights, total, caps: as in `largest_remainder`.
        coverage: the share, 0 to 1.

    Returns:
        (V,) or (B, V) int64, as `largest_remainder` returns them.
    """
    if coverage == 0:
        return largest_remainder(weights, total, caps)
    timed = timed_share(weights, total, caps, coverage)
    return timed + largest_remainder(weights, total - timed.sum(-1, keepdim=True), caps - timed)


def check_coverage(value: Any) -> None:
    """Refuse a value of the option `coverage`.

    Raises:
        ArgumentError: it is no number from 0 to 1.
    """
    if not is_number(value) or not 0 <= value <= 1:
        raise ArgumentError(
            f"coverage must be a number from 0 (by weight) to 1 (evenly over time), got {shown(value)}"
        )


def timed_share(
    weights: Tensor, total: int | Tensor, caps: Tensor, coverage: float, held: Tensor | None = None
) -> Tensor:
    """Return the tokens of each view that follow time, int64; see `shared_out`.

    Args:
        weights, total, caps, coverage: as there.
        held: (V,) int64, tokens that each view still has; what falls to a view without any goes to the next with some.
    """
    views = (caps > 0).sum(-1, keepdim=True)
    share = torch.as_tensor(total, dtype=torch.float64, device=views.device) * coverage
    part = torch.where(views > total, (share + 0.5).floor(), 0.0)
    even = torch.where(caps > 0, 1.0, 0.0).to(torch.float64)
    weights = torch.where(caps > 0, torch.nan_to_num(weights.to(torch.float64), nan=0.0).clamp(min=0), 0.0)
    weights = torch.where(weights.sum(-1, keepdim=True) > 0, weights, even)
    running = weights.cumsum(-1)
    edge = (running / running[..., -1:].clamp(min=1e-300) * part + 0.5).floor()
    if held is not None:
        edge, caps = torch.where(held > 0, edge, 0.0).cummax(-1).values, torch.minimum(caps, held)
    before = torch.cat((torch.zeros_like(edge[..., :1]), edge[..., :-1]), -1)
    return torch.minimum((edge - before).to(torch.int64), caps)


def keep(
    batch: VisualBatch,
    index: Tensor,
    totals: Sequence[int],
    budgets: Sequence[VisualBudget],
    allotment: Allotment | None = None,
    scores: Tensor | None = None,
) -> list[Selection]:
    """Make the selections of a batch from its kept tokens; add the separators of the lines with most kept tokens.

    Args:
        batch: the B visuals.
        index: (K,) int64, positions in the batch, no separators among them, ascending.
        totals: B ints, kept tokens of each visual.
        budgets: one per visual, with the number of separators to add.
        allotment: tokens wanted of each view; None where views are not weighed.
        scores: (N,) scores that ranked the tokens; None without.

    Returns:
        One selection per visual, in sequence order.
    """
    counts = [budget.separators for budget in budgets]
    if len(batch.visuals) == 1:
        sent = with_separators(batch.layout, index, counts[0])
        return [Selection(sent, allotment=allotment, scores=scores)]
    if any(counts):
        index = torch.cat((index, _separators(batch, index, counts))).sort().values
    side_by_side = batch._side_by_side
    index = index - side_by_side.first[side_by_side.owner[index]]
    lengths = [total + count for total, count in zip(totals, counts, strict=True)]
    parts = [None] * len(batch.visuals) if allotment is None else allotment.split(batch.views)
    ranks = [None] * len(batch.visuals) if scores is None else scores.split(batch.lengths)
    return [
        Selection(part, allotment=own, scores=rank)
        for part, own, rank in zip(index.split(lengths), parts, ranks, strict=True)
    ]


def _separators(batch: VisualBatch, index: Tensor, counts: Sequence[int]) -> Tensor:
    """Return `counts` separators of each visual, fullest lines first."""
    layout, positions = batch.layout, batch.layout.separator_index
    present = [one.layout.num_separators for one in batch.visuals]
    if list(counts) == present:
        return positions
    order = fullest_lines(layout, index)
    order = order[torch.argsort(batch._side_by_side.owner[positions[order]], stable=True)]
    runs = [np.arange(count) + start for start, count in zip(starts(present), counts, strict=True)]
    return positions[order[torch.from_numpy(np.concatenate(runs)).to(order.device)]]

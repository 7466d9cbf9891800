"""Batches of visuals: several pictures or clips in one pass, which costs the kernels of one.

`RaggedBatch` puts layouts of any size side by side: tokens of all are ranked and chosen in one pass. What is chosen is
the same to the last token as one by one, since everything there is integers, sorting, and sums within a row.

`feature_batches` lays visuals of one shape one after the other: what is computed of their features is computed in one
pass. Every view is reduced by itself, over rows of the same length, and what belongs to a whole visual along an axis of
its own; so on the CPU the bits are those of each visual alone (an accelerator may sum more rows in another order). A
visual stays alone where shapes do not allow that, and where the copy that lays them side by side would be larger than a
block of `reductions`: there reading takes long and launching does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vidcompress.core.budget import VisualBudget
from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Layout, _first
from vidcompress.core.reductions import FeatureBatch, rows_per_block, working_dtype
from vidcompress.core.selection import Selection, largest_remainder, rank_within_views
from vidcompress.core.tokens import VisualTokens
from vidcompress.core.visual_report import Allotment

LINE = 64
"""Bytes: products of rows that begin elsewhere in a cache line may round differently."""


@dataclass(frozen=True, eq=False)
class RaggedBatch:
    """Ragged batch: B visuals of one modality, on one device, one after the other.

    Attributes:
        layout: all V views and N positions, views and lines numbered through; no canvas.
        owner: (N,) int64, the visual of each position.
        first: (B,) int64, the first position of each visual.
        slot: (V,) int64, the place of each view in a (B, W) table of visuals side by side, W the most views of one.
        caps: (B, W) int64, tokens of each view; 0 where there is none.
        views: B ints, the number of views of each visual.
    """

    layout: Layout
    owner: Tensor
    first: Tensor
    slot: Tensor
    caps: Tensor
    views: tuple[int, ...]

    def side_by_side(self, values: Tensor) -> Tensor:
        """(B, W): the (V,) values of each visual in a row, filled up with zeros."""
        flat = values.new_zeros(self.caps.numel())
        return flat.index_copy_(0, self.slot, values).view(self.caps.shape)


def can_batch(tokens: Sequence[VisualTokens]) -> bool:
    """Whether visuals are several, of one modality and on one device."""
    return len(tokens) > 1 and len({(one.layout.modality, one.layout.view.device) for one in tokens}) == 1


@lru_cache(maxsize=64)
@outside_caller_modes
def batch_layouts(layouts: tuple[Layout, ...]) -> RaggedBatch:
    """Ragged batch of layouts, one after the other; from geometry alone.

    Args:
        layouts: at least one, of one modality and device, as tuple.
    """
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
    views_of_each = tuple(len(one.views) for one in layouts)
    first = lengths.cumsum(0) - lengths
    return RaggedBatch(whole, owner, first, slot, caps.view(len(layouts), width), views_of_each)


def spend(
    batch: RaggedBatch,
    scores: Tensor,
    allotment: Allotment,
    totals: Sequence[int],
    separators: Sequence[int],
) -> list[Selection]:
    """Selections of a batch: each visual's budget goes to its views by weight, and to the best tokens of each view.

    Args:
        batch: the B visuals.
        scores: (N,), higher is kept.
        allotment: tokens wanted of each of the V views.
        totals: tokens to keep of each.
        separators: separators to keep of each: those of the lines with most kept tokens, ties by position.

    Returns:
        One selection per visual, in sequence order.
    """
    layout, device = batch.layout, batch.owner.device
    total = torch.tensor(totals, dtype=torch.int64).to(device)
    counts = largest_remainder(batch.side_by_side(allotment.weights), total[:, None], batch.caps)
    limit = torch.cat((counts.flatten()[batch.slot], counts.new_zeros(1)))
    selections = kept_of_each(
        batch, rank_within_views(scores, layout) < limit[layout.view], totals, separators
    )
    parts = allotment.split(list(batch.views))
    return [Selection(one.index, allotment=part) for one, part in zip(selections, parts, strict=True)]


def kept_of_each(
    batch: RaggedBatch, kept: Tensor, totals: Sequence[int], separators: Sequence[int]
) -> list[Selection]:
    """Selections of a batch from a mask of its tokens.

    Args:
        batch: the B visuals.
        kept: (N,) bool, tokens to keep; entries of separators are ignored.
        totals: how many these are of each visual.
        separators: separators to keep of each, chosen as by `spend`.

    Returns:
        One selection per visual, in sequence order.
    """
    layout = batch.layout
    if layout.num_separators:
        kept = kept.index_fill(0, layout.separator_index, False)
    if sum(separators):
        counts = torch.tensor(separators, dtype=torch.int64).to(kept.device)
        kept = kept.index_copy(0, layout.separator_index, _separators(batch, kept, counts))
    lengths = [total + count for total, count in zip(totals, separators, strict=True)]
    index = _first(kept, sum(lengths))
    index = index - batch.first[batch.owner[index]]
    return [Selection(part) for part in index.split(lengths)]


def _separators(batch: RaggedBatch, kept: Tensor, counts: Tensor) -> Tensor:
    """(S,) bool: of the separators of each visual as many as `counts` (B,) says, fullest lines first."""
    layout, positions = batch.layout, batch.layout.separator_index
    in_line = torch.zeros(layout.num_lines + 1, dtype=torch.int64, device=kept.device)
    in_line.scatter_add_(0, layout.line, kept.to(torch.int64))
    owner = batch.owner[positions]
    fullest = torch.argsort(in_line[layout.line[positions]], descending=True, stable=True)
    order = fullest[torch.argsort(owner[fullest], stable=True)]
    number = torch.arange(len(positions), device=kept.device)
    start = torch.searchsorted(owner, torch.arange(len(counts), device=kept.device))
    rank = torch.empty_like(order).scatter_(0, order, number) - start[owner]
    return rank < counts[owner]


def feature_batches(tokens: Sequence[VisualTokens], used: float = 1.0) -> list[FeatureBatch]:
    """Feature batches: visuals of one shape, as many as fit in one block (on the CPU, in a quarter of one).

    Args:
        tokens: the visuals of a batch, of one modality, on one device.
        used: share of the D numbers of a position that is multiplied.

    Returns:
        Every visual in one of them; the members of each in the order of the batch.
    """
    shapes: dict[tuple[Any, ...], list[int]] = {}
    for number, one in enumerate(tokens):
        shapes.setdefault(_shape(one, used) or (number,), []).append(number)
    return [_laid(tokens, part) for members in shapes.values() for part in _filled(tokens, members)]


def in_order(batches: Sequence[FeatureBatch], values: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Numbers computed of feature batches, in the order of the batch.

    Args:
        batches: all feature batches of a batch.
        values: of each, the numbers of its members one after the other.
        lengths: how many numbers each visual of the batch has.
    """
    if len(values) == 1:
        return values[0]
    parts: dict[int, Tensor] = {}
    for one, value in zip(batches, values, strict=True):
        split = value.split([lengths[number] for number in one.members])
        parts |= dict(zip(one.members, split, strict=True))
    return torch.cat([parts[number] for number in range(len(lengths))])


def ratios_of(one: FeatureBatch, budgets: Sequence[VisualBudget]) -> Tensor:
    """(B, 1) float64: the share of its tokens that each visual of a feature batch keeps."""
    ratios = torch.tensor([[budgets[number].ratio] for number in one.members], dtype=torch.float64)
    return ratios.to(one.features.device)


def _shape(one: VisualTokens, used: float) -> tuple[Any, ...] | None:
    """What visuals in one feature batch agree in; None for those that stay alone."""
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


def _laid(tokens: Sequence[VisualTokens], members: list[int]) -> FeatureBatch:
    first = tokens[members[0]]
    if len(members) == 1:
        return FeatureBatch(first.features, first.layout, first.layout.run, 1, tuple(members))
    layout = batch_layouts(tuple(tokens[number].layout for number in members)).layout
    features = torch.cat([tokens[number].features for number in members])
    return FeatureBatch(features, layout, first.layout.run, len(members), tuple(members))

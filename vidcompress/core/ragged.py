"""Several visuals as one: their layouts side by side, so that tokens of all are ranked and chosen in one pass.

A batch of B pictures or clips then costs the kernels of one, whatever their sizes; what is chosen is the same to the
last token as one by one, since everything here is integers, sorting, and sums within a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vidcompress.core.layout import Layout, VisualTokens, _first, ordinary
from vidcompress.core.selection import Selection, largest_remainder, rank_within_views


@dataclass(frozen=True, eq=False)
class Joined:
    """B visuals of one kind, on one device, one after the other.

    Attributes:
        layout: all V views and N positions, views and lines numbered through; no canvas.
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

    def side_by_side(self, values: Tensor) -> Tensor:
        """(B, W): the (V,) values of each visual in a row, filled up with zeros."""
        flat = values.new_zeros(self.caps.numel())
        return flat.index_copy_(0, self.slot, values).view(self.caps.shape)


def can_join(tokens: Sequence[VisualTokens]) -> bool:
    """Whether visuals are several, of one modality and on one device."""
    return len(tokens) > 1 and len({(one.layout.modality, one.layout.view.device) for one in tokens}) == 1


@lru_cache(maxsize=64)
@ordinary
def join(layouts: tuple[Layout, ...]) -> Joined:
    """Put layouts one after the other; from geometry alone.

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
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    owner, slot = joined.pop("owner"), torch.cat(slots)
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
        view=joined["view"],
        line=joined["line"],
        source=joined["source"],
    )
    return Joined(whole, owner, lengths.cumsum(0) - lengths, slot, caps.view(len(layouts), width))


def spend(
    joined: Joined,
    scores: Tensor,
    weights: Tensor,
    totals: Sequence[int],
    separators: Sequence[int],
) -> list[Selection]:
    """Spend every visual's tokens on its views in proportion to their weights, and keep the best of each view.

    Args:
        joined: the B visuals.
        scores: (N,), higher is kept.
        weights: (V,) float64, tokens wanted of each view.
        totals: tokens to keep of each.
        separators: separators to keep of each: those of the lines with most kept tokens, ties by position.

    Returns:
        One selection per visual, in sequence order.
    """
    layout, device = joined.layout, joined.owner.device
    total = torch.tensor(totals, dtype=torch.int64).to(device)
    counts = largest_remainder(joined.side_by_side(weights), total[:, None], joined.caps)
    limit = torch.cat((counts.flatten()[joined.slot], counts.new_zeros(1)))
    return kept_of_each(joined, rank_within_views(scores, layout) < limit[layout.view], totals, separators)


def kept_of_each(
    joined: Joined, kept: Tensor, totals: Sequence[int], separators: Sequence[int]
) -> list[Selection]:
    """Make selections of a mask.

    Args:
        joined: the B visuals.
        kept: (N,) bool, tokens to keep; what it says of separators does not count.
        totals: how many these are of each visual.
        separators: separators to keep of each, chosen as by `spend`.

    Returns:
        One selection per visual, in sequence order.
    """
    layout = joined.layout
    if layout.num_separators:
        kept = kept.index_fill(0, layout.separator_index, False)
    if sum(separators):
        wanted = torch.tensor(separators, dtype=torch.int64).to(kept.device)
        kept = kept.index_copy(0, layout.separator_index, _separators(joined, kept, wanted))
    lengths = [total + count for total, count in zip(totals, separators, strict=True)]
    index = _first(kept, sum(lengths))
    index = index - joined.first[joined.owner[index]]
    return [Selection(part) for part in index.split(lengths)]


def _separators(joined: Joined, kept: Tensor, counts: Tensor) -> Tensor:
    """(S,) bool: of the separators of each visual as many as `counts` (B,) says, fullest lines first."""
    layout, positions = joined.layout, joined.layout.separator_index
    in_line = torch.zeros(layout.num_lines + 1, dtype=torch.int64, device=kept.device)
    in_line.scatter_add_(0, layout.line, kept.to(torch.int64))
    owner = joined.owner[positions]
    fullest = torch.argsort(in_line[layout.line[positions]], descending=True, stable=True)
    order = fullest[torch.argsort(owner[fullest], stable=True)]
    number = torch.arange(len(positions), device=kept.device)
    start = torch.searchsorted(owner, torch.arange(len(counts), device=kept.device))
    rank = torch.empty_like(order).scatter_(0, order, number) - start[owner]
    return rank < counts[owner]

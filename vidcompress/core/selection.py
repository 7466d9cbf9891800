"""Selection from scores to positions: counts per view, top-k per view, separators. Shared by all methods.

Nothing here synchronises with the device: the number of kept positions follows from the budget, so the same few
kernels run for 5 views and for 300.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidcompress.core.layout import Layout, _first
from vidcompress.core.report.visual import Allotment
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError, shown


@dataclass(eq=False)
class Selection:
    """Selected positions of one visual, in the order sent to the language model.

    Attributes:
        index: (K,) int64, index in `VisualTokens` of each token sent; of a merged token, that of its cluster's centre.
        features: (K, D) when the method made new features, else None (they are gathered).
        allotment: weight of each view in the budget; None where the method does not weigh views.
        mass: (K,) float32, number of tokens that each token sent stands for, itself included; 1 at separators. They sum
            to the tokens that are no separators and not heirless, plus the separators sent. None where the method
            states none: then dropped tokens count for the kept token that is most like them.
        heirless: (N,) bool, tokens that went into none of those sent, which a stated `mass` does not count; they count
            for the token sent that is most like them. None where there are none.
        scores: (N,) float, the score that ranked each token, higher is kept; None for a method that ranks by none.
    """

    index: Tensor
    features: Tensor | None = None
    allotment: Allotment | None = None
    mass: Tensor | None = None
    heirless: Tensor | None = None
    scores: Tensor | None = None

    def __post_init__(self) -> None:
        index, features, mass = self.index, self.features, self.mass
        lost, scores = self.heirless, self.scores
        if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype != torch.int64:
            raise ArgumentError(f"index={shown(index)}: must be a tensor (K,) of torch.int64")
        if features is not None and (
            not isinstance(features, Tensor) or features.ndim != 2 or features.shape[0] != index.shape[0]
        ):
            raise ArgumentError(
                f"features={shown(features)}: must be a tensor (K, D) with K = {index.shape[0]} rows as index, or None"
            )
        if self.allotment is not None and not isinstance(self.allotment, Allotment):
            raise ArgumentError(f"allotment={shown(self.allotment)}: must be an Allotment, or None")
        if mass is not None and (
            not isinstance(mass, Tensor) or mass.shape != index.shape or mass.dtype != torch.float32
        ):
            raise ArgumentError(
                f"mass={shown(mass)}: must be a tensor (K,) of torch.float32 with K = {len(index)} as index, or None"
            )
        if lost is not None and (
            mass is None or not isinstance(lost, Tensor) or lost.ndim != 1 or lost.dtype != torch.bool
        ):
            raise ArgumentError(
                f"heirless={shown(lost)}: must be a tensor (N,) of torch.bool, with mass beside it, or None"
            )
        if scores is not None and (
            not isinstance(scores, Tensor) or scores.ndim != 1 or not scores.is_floating_point()
        ):
            raise ArgumentError(f"scores={shown(scores)}: must be a floating-point tensor (N,), or None")

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def __repr__(self) -> str:
        features = "gathered" if self.features is None else "of its own"
        return f"Selection({len(self)} tokens, features {features})"

    def gather(self, tokens: VisualTokens) -> Tensor:
        """Return the (K, D) features to send."""
        return tokens.rows(self.index) if self.features is None else self.features

    def companions(self, tokens: VisualTokens) -> tuple[Tensor, ...]:
        """Companion features (K, D) of each level; a merged token takes those of its cluster's centre."""
        return tuple(level.index_select(0, self.index) for level in tokens.deep)

    def ascending(self) -> Selection:
        """Return the tokens in the order of their positions, for a visual of several runs of placeholders."""
        order = self.index.argsort()
        features, mass = (
            None if part is None else part.index_select(0, order) for part in (self.features, self.mass)
        )
        return replace(self, index=self.index.index_select(0, order), features=features, mass=mass)

    def source(self, layout: Layout) -> Tensor:
        """Return (K,) int64 positions in the full, uncompressed sequence."""
        return layout.source.index_select(0, self.index)


def largest_remainder(weights: Tensor, total: int | Tensor, caps: Tensor) -> Tensor:
    """Largest-remainder split of an integer over views in proportion to weights, capped.

    The shares are min(cap_j, lambda w_j) with the one lambda at which they sum to `total`, so what a full view
    cannot take goes to the others in proportion. Shares are rounded down and the rest goes to the largest
    remainders, ties to the earlier view.

    Args:
        weights: (V,) float64, non-negative; all-zero weights count as equal, NaN counts as zero. Or (B, V), one row per
            visual, filled up with views of cap 0.
        total: 0 <= total <= sum of caps; for rows (B, 1) int64.
        caps: (V,) or (B, V) int64, the most that each view can take.

    Returns:
        (V,) or (B, V) int64; a row sums to its `total`, each entry is at most its cap. Rows are equal to the bit alone
        and side by side.
    """
    caps_f = caps.to(torch.float64)
    # A floor far below any real weight lets a view of weight zero take tokens only when all others are full.
    weights = torch.nan_to_num(weights, nan=0.0)
    largest = weights.amax(-1, keepdim=True).clamp(min=0.0)
    weights = torch.where(largest > 0, weights.to(torch.float64) / largest, torch.ones_like(weights)).clamp(
        min=1e-9
    )
    weights = torch.where(caps > 0, weights, torch.zeros_like(weights))
    saturation = torch.where(caps > 0, caps_f / weights.clamp(min=1e-12), torch.zeros_like(caps_f))
    order = torch.argsort(saturation, dim=-1, stable=True)
    sorted_caps, sorted_weights = caps_f.gather(-1, order), weights.gather(-1, order)
    filled = sorted_caps.cumsum(-1) - sorted_caps
    # Reversed cumulative sum: the weight still open when the views before this one are full.
    still_open = sorted_weights.flip(-1).cumsum(-1).flip(-1)
    level = (total - filled) / still_open.clamp(min=1e-300)
    # Filling is concave in lambda, so the lambda that reaches `total` is the largest of the candidates.
    lam = level.amax(-1, keepdim=True).clamp(min=0.0)
    shares = torch.minimum(caps_f, torch.where(weights > 0, lam * weights, torch.zeros_like(weights)))
    counts = shares.floor().clamp(min=0)
    remainder = torch.where(counts < caps_f, shares - counts, torch.full_like(shares, -1.0))
    left = total - counts.sum(-1, keepdim=True)
    by_remainder = torch.argsort(remainder, dim=-1, descending=True, stable=True)
    number = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(-1, by_remainder, number)
    return (counts + ((rank < left) & (counts < caps_f))).to(torch.int64)


def best_first(scores: Tensor) -> Tensor:
    """Return (N,) indices, best score first, ties by position; NaN comes last."""
    return torch.argsort(torch.nan_to_num(scores, nan=-torch.inf), descending=True, stable=True)


def order_within_views(scores: Tensor, view: Tensor) -> Tensor:
    """Return (N,) indices grouped by view, best score first inside each, ties by position; NaN comes last."""
    best = best_first(scores)
    return best[torch.argsort(view[best], stable=True)]


def rank_within_views(scores: Tensor, layout: Layout) -> Tensor:
    """Return (N,) int64: 0 for the best token of its view, 1 for the next; separators are ranked last."""
    grouped = order_within_views(scores, layout.view)
    sizes = layout.sizes_tensor
    starts = sizes.cumsum(0) - sizes
    rank = torch.empty_like(grouped)
    rank[grouped] = torch.arange(grouped.shape[0], device=grouped.device) - starts[layout.view[grouped]]
    return rank


def top_per_view(scores: Tensor, layout: Layout, counts: Tensor, total: int) -> Tensor:
    """Return the `total` = sum of counts positions with the best scores of each view, ascending.

    Args:
        scores: (N,) float, higher is better.
        counts: (V,) int64, tokens to keep in each view. total: their sum, known to the caller.
    """
    limit = torch.cat((counts, counts.new_zeros(1)))  # separators are chosen elsewhere
    return _first(rank_within_views(scores, layout) < limit[layout.view], total)


def with_separators(layout: Layout, index: Tensor, count: int) -> Tensor:
    """Add `count` separators to kept tokens: those of the lines with most kept tokens, ties by position.

    Args:
        index: (K,) int64 kept tokens, ascending.

    Returns:
        (K + count,) int64, ascending.
    """
    if count == 0:
        return index
    return torch.cat((index, separators_for(layout, index, count))).sort().values


def separators_for(layout: Layout, index: Tensor, count: int) -> Tensor:
    """Return (count,) int64: the separators of the lines with most kept tokens (K,), ties by position."""
    positions = layout.separator_index
    return positions[fullest_lines(layout, index)[:count]] if count < layout.num_separators else positions


def fullest_lines(layout: Layout, index: Tensor) -> Tensor:
    """Return (S,) int64: numbers of the separators, lines with most kept tokens (K,) first, ties by position."""
    kept_in_line = torch.zeros(layout.num_lines + 1, dtype=torch.int64, device=index.device)
    kept_in_line.scatter_add_(0, layout.line[index], torch.ones_like(index))
    return torch.argsort(kept_in_line[layout.line[layout.separator_index]], descending=True, stable=True)

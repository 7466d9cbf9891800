"""LLaVA-PruMerge (arXiv 2403.15388, ICCV 2025): keep outliers of the CLS attention and add their neighbours.

Formulas as in the authors' code (42Shawn/LLaVA-PruMerge @ 097c041).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from einops import rearrange, repeat
from torch import Tensor

from vidcompress.checks import is_whole, require_flags, require_one_of
from vidcompress.core.batch import VisualBatch, evidence_of
from vidcompress.core.budget import VisualBudget, tokens_to_keep
from vidcompress.core.layout import Layout, Modality, _first
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.reductions import per_view, rank_table, rows_per_block
from vidcompress.core.selection import Selection, largest_remainder, separators_for
from vidcompress.core.tokens import Evidence, Quantity, VisualTokens
from vidcompress.errors import ArgumentError, shown
from vidcompress.ops.attention_scores import Layer, attention_of, attention_wanted, require_layer
from vidcompress.ops.merging import Absorbed, merge_neighbours, side_by_side

HIDDEN = Evidence("hidden", "features")
CLS: Quantity = "cls_attention_whole"
Count = Literal["budget", "iqr"]


class Candidates(NamedTuple):
    """Tokens of each view in merging order: kept tokens, then pruned tokens.

    Attributes:
        column: (V, L) int64, columns of the layout's table; undefined beyond the tokens of a view.
        kept: (V,) int64, number of kept tokens.
    """

    column: Tensor
    kept: Tensor


@register_method
@dataclass(frozen=True)
class PruMerge(PerVisualMethod):
    """The tokens of most CLS attention of each view, with their nearest neighbours added, and one extra token.

    Without a CLS token the attention that a token receives ranks and weighs instead.

    Attributes:
        count: `budget` keeps the requested count; `iqr` counts outliers, the tokens of attention above
            Q3 + 1.5 (Q3 - Q1) of their view. `exact` always meets the budget, and `iqr` splits it over the views;
            `reference` with `iqr` is the authors' adaptive count, whatever the budget.
        merge: whether kept tokens absorb neighbours; False sends plain tokens.
        neighbours: number of neighbours that a kept token absorbs, at least 0.
        extra_token: whether a view sends the weighted sum of its pruned tokens as one more token, within the budget.
        layer: encoder layer of attention and keys; the authors read the last layer, which comes after the features.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "prumerge"
    summary: ClassVar[str] = "of each view the tokens of most CLS attention, with their neighbours merged in"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    compares: ClassVar = "views"
    merges: ClassVar[bool] = True
    counts_known: ClassVar[tuple[str, ...]] = get_args(Count)

    count: str = "budget"
    merge: bool = True
    neighbours: int = 32
    extra_token: bool = True
    layer: Layer = -1

    def __post_init__(self) -> None:
        require_one_of(self.counts_known, count=self.count)
        require_flags(merge=self.merge, extra_token=self.extra_token)
        if not is_whole(self.neighbours) or self.neighbours < 0:
            raise ArgumentError(
                f"neighbours must be an integer of at least 0, got {shown(self.neighbours)}; the authors use 32"
            )
        require_layer(layer=self.layer)

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """Attention; and, where tokens are merged, the keys of that layer and the projector's input."""
        attention = attention_wanted(self.name, self.layer, has_cls, CLS)
        return (*attention, self._keys, HIDDEN) if self.merge else attention

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return False: attention and keys choose the tokens, and the projector's input is merged."""
        return False

    def attention(self, tokens: VisualTokens) -> Tensor:
        """Return the attention (N,) that ranks and weighs tokens."""
        return attention_of(VisualBatch([tokens]), self.layer, CLS)

    def weights(self, scores: Tensor, layout: Layout) -> Tensor:
        """Return the weights (V,) float64 of the views: their sizes, or their numbers of outliers."""
        return (outliers(scores, layout) if self.count == "iqr" else layout.sizes_tensor[:-1]).to(
            torch.float64
        )

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Send kept tokens at their positions, and the extra token of a view at the position of its last pruned one."""
        layout, size = tokens.layout, tokens.layout.sizes_tensor[:-1]
        scores = self.attention(tokens)
        counts = self._counts(self.weights(scores, layout), layout, budget)
        chosen = self.candidates(scores, counts, layout, budget)
        extra = (chosen.kept < size) & (chosen.kept > 0)
        extra = (
            extra & self._sums_pruned & (chosen.kept < counts)
            if budget.policy == "exact"
            else extra & self._sums_pruned
        )
        most = self._most(layout, budget)
        positions = layout.table.gather(1, chosen.column)
        positions = torch.cat((positions[:, :most], positions.gather(1, (size - 1).clamp(min=0)[:, None])), 1)
        slots = torch.arange(most, device=positions.device)
        live = torch.cat((slots < chosen.kept[:, None], extra[:, None]), 1)
        live = rearrange(live, "view slot -> (view slot)")
        # Only the authors' counts synchronise the device.
        exact = budget.policy == "exact"
        total = tokens_to_keep(layout, budget) if exact else int(live.sum().item())
        pick = _first(live, total)
        index = rearrange(positions, "view slot -> (view slot)")[pick]
        features, mass, heirless = tokens.rows(index), None, None
        if self.merge and total:
            # A view that is sent whole stays bit-equal.
            changed = repeat(chosen.kept < size, "view -> (view slot)", slot=most + 1)[pick]
            merged, mass, heirless = self._merged(tokens, chosen, extra, most, pick)
            features = torch.where(changed[:, None], merged, features)
        separators = separators_for(layout, index, budget.separators) if budget.separators else index[:0]
        features = torch.cat((features, tokens.rows(separators)))
        index = torch.cat((index, separators))
        mass = None if mass is None else torch.cat((mass, torch.ones_like(separators, dtype=mass.dtype)))
        selection = Selection(index, features, mass=mass, heirless=heirless)
        # The authors' order: best first, view by view, newlines last.
        return selection.ascending() if exact else selection

    def candidates(self, scores: Tensor, counts: Tensor, layout: Layout, budget: VisualBudget) -> Candidates:
        """List the kept tokens of every view, best first, then its pruned tokens, ascending.

        Args:
            scores: (N,).
            counts: (V,) int64, tokens that each view may send, the extra token included under `exact`.
            layout: layout of the visual.
            budget: its policy says whether the counts include the extra token.
        """
        kept = self._without_extra(counts, layout, budget)
        rank, inside = rank_table(scores, layout), layout.table < len(layout)
        width = rank.shape[1]
        column = torch.arange(width, device=rank.device)
        key = torch.where(rank < kept[:, None], rank, torch.where(inside, width, 2 * width) + column)
        return Candidates(torch.argsort(key, 1), kept)

    # -- counts -------------------------------------------------------------------------------------------------

    @property
    def _sums_pruned(self) -> bool:
        return self.merge and self.extra_token

    def _counts(self, weights: Tensor, layout: Layout, budget: VisualBudget) -> Tensor:
        """Return the tokens of each view (V,) int64; under `reference` int(n ratio) kept ones, at least one."""
        size = layout.sizes_tensor[:-1]
        if budget.policy == "exact":
            return largest_remainder(weights, tokens_to_keep(layout, budget), size)
        if budget.positions == 0:
            return torch.zeros_like(size)
        # The authors' int(n (count / n)) is the count for their n = 576; for some other n it is one less.
        counts = weights if self.count == "iqr" else size * budget.ratio
        return torch.minimum(counts.to(torch.int64).clamp(min=1), size)

    def _without_extra(self, counts: Tensor, layout: Layout, budget: VisualBudget) -> Tensor:
        """Return the kept tokens of each view: its budget without the extra token."""
        if budget.policy != "exact" or not self._sums_pruned:
            return counts
        return counts - ((counts > 1) & (counts < layout.sizes_tensor[:-1])).to(torch.int64)

    def _most(self, layout: Layout, budget: VisualBudget) -> int:
        """Return an upper bound of the tokens that a view keeps, without a device synchronisation."""
        width = layout.table.shape[1]
        if budget.policy != "exact":
            return width
        total = tokens_to_keep(layout, budget)
        if self.count != "iqr":
            total = -(-total * width // max(1, layout.num_tokens))
        return min(width, total)

    # -- merging ------------------------------------------------------------------------------------------------

    def _merged(
        self, tokens: VisualTokens, chosen: Candidates, extra: Tensor, most: int, pick: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Merge kept and extra tokens of all views: features (K, D) and masses (K,) of the picked slots, and the
        positions (N,) bool that went into none."""
        project = tokens.project
        source = tokens.features if project is None else evidence_of(tokens, HIDDEN)
        width, parts = max(1, chosen.column.shape[1]), []
        step = rows_per_block(source, width * (2 * source.shape[1] + most))
        for start in range(0, chosen.column.shape[0], step):
            parts.append(self.merged(tokens, chosen, source, extra, most, slice(start, start + step)))
        merged = Absorbed(*map(torch.cat, zip(*parts, strict=True)))
        flat = rearrange(merged.features, "view slot d -> (view slot) d")[pick].to(tokens.dtype)
        layout = tokens.layout
        places = rearrange(layout.table.gather(1, chosen.column), "view slot -> (view slot)")
        return (
            flat if project is None else project(flat),
            rearrange(merged.mass, "view slot -> (view slot)")[pick].to(torch.float32),
            places.new_zeros(len(layout) + 1, dtype=torch.bool).scatter(0, places, merged.heirless.flatten())[
                :-1
            ],
        )

    def merged(
        self,
        tokens: VisualTokens,
        chosen: Candidates,
        source: Tensor,
        extra: Tensor,
        most: int,
        rows: slice,
    ) -> Absorbed:
        """Return the kept tokens of some views with neighbours added, then the sum of the pruned: (v, most + 1, C)."""
        table = tokens.layout.table[rows].gather(1, chosen.column[rows])
        weight = self.attention(tokens)
        return merge_neighbours(
            side_by_side(source, table),
            side_by_side(evidence_of(tokens, self._keys), table),
            side_by_side(weight[:, None], table)[..., 0],
            chosen.kept[rows],
            tokens.layout.sizes_tensor[:-1][rows],
            extra[rows],
            most=most,
            neighbours=self.neighbours,
        )

    @property
    def _keys(self) -> Evidence:
        return Evidence("keys", self.layer)


def outliers(values: Tensor, layout: Layout) -> Tensor:
    """Count the tokens of each view above Q3 + 1.5 (Q3 - Q1): (V,) int64; quartiles are interpolated linearly."""
    size = layout.sizes_tensor[:-1]
    rows = per_view(torch.nan_to_num(values.to(torch.float64), nan=-torch.inf), layout, torch.inf)
    rows = rows.sort(1).values
    quartiles = []
    for share in (0.25, 0.75):
        place = (size - 1).clamp(min=0) * share
        low = place.floor().to(torch.int64)
        high = torch.minimum(low + 1, (size - 1).clamp(min=0))
        below, above = rows.gather(1, low[:, None]), rows.gather(1, high[:, None])
        quartiles.append(below + (above - below) * (place - low)[:, None])
    fence = quartiles[1] + 1.5 * (quartiles[1] - quartiles[0])
    inside = torch.arange(rows.shape[1], device=rows.device) < size[:, None]
    return ((rows > fence) & inside).sum(1)

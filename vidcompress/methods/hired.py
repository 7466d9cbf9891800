"""HiRED (arXiv 2408.10945, AAAI 2025): the thumbnail's first-layer attention splits the budget over the crops.

Formulas as in the authors' code (hasanar1f/HiRED @ 502d6dd). Images only, because videos have no thumbnail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from einops import rearrange
from torch import Tensor

from vidcompress.checks import require_numbers
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import GLOBAL_VIEWS, Layout, Modality, _first
from vidcompress.core.method import ScoredMethod, register_method
from vidcompress.core.report.visual import Allotment
from vidcompress.core.scoring import Commander, commander_of_image, over_views, top_places
from vidcompress.core.selection import Selection, rank_within_views
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError
from vidcompress.ops.attention_scores import Layer, attention_of, attention_wanted, require_layer

_MEANING = "number of the thumbnail's places of most early attention"


@register_method
@dataclass(frozen=True)
class HiRED(ScoredMethod):
    """Alpha of the budget for the thumbnail; the thumbnail's early attention splits the rest over the crops.

    Attributes:
        alpha: share of the budget for the thumbnail, 0 to 1. The int((1 - alpha) M) of its M places that have most
            attention in `budget_layer` are marked and count for the crops.
        budget_layer: encoder layer whose attention splits the budget; 0 is the first.
        layer: encoder layer whose attention ranks tokens; `features` is the layer whose output the projector reads.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "hired"
    summary: ClassVar[str] = (
        "the thumbnail's early attention splits the budget, late attention chooses each crop's tokens"
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image"})

    alpha: float = 0.5
    budget_layer: Layer = 0
    layer: Layer = "features"

    def __post_init__(self) -> None:
        require_numbers(alpha=self.alpha)
        if not 0 <= self.alpha <= 1:
            raise ArgumentError(
                f"alpha must be a number from 0 (crops only) to 1 (thumbnail only), got {self.alpha!r}"
            )
        require_layer(budget_layer=self.budget_layer, layer=self.layer)

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """The attention of two layers."""
        both = (attention_wanted(self.name, layer, has_cls) for layer in (self.layer, self.budget_layer))
        return tuple(dict.fromkeys(item for of_layer in both for item in of_layer))

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return False: attention alone ranks the tokens."""
        return False

    def scores(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> tuple[Tensor, Allotment]:
        """Return the late attention (N,), and the views' parts of the budget: alpha, and (1 - alpha) p_j by marks."""
        early = attention_of(batch, self.budget_layer).split(batch.lengths)
        parts = [self._parts(values, one.layout) for values, one in zip(early, batch.visuals, strict=True)]
        return attention_of(batch, self.layer), Allotment.join(parts)

    def _parts(self, early: Tensor, layout: Layout) -> Allotment:
        """Split the budget of one image by its early attention (N,)."""
        marks = over_views(Commander(early, self._marked(early, layout)), layout, "sum", "exact")
        thumb = _thumbnail(layout)
        crops = torch.where(thumb, 0.0, marks)
        # Without a mark in any crop (alpha = 1, or all marks in the padding) the sizes decide.
        sizes = torch.where(thumb, 0.0, layout.sizes_tensor[:-1].to(torch.float64))
        crops = torch.where(crops.sum() > 0, crops, sizes)
        weights = torch.where(thumb, self.alpha, (1 - self.alpha) * crops / crops.sum().clamp(min=1e-300))
        return Allotment(weights, marks, _MEANING)

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep min(int(B alpha), N_0) tokens of the thumbnail and int(p_j rest) of crop j, in sequence order.

        The thumbnail's flattened map is divided into one equal run per crop, and p_j is the share of the marks in the
        j-th run: stripes, not boxes, as in the released code.
        """
        layout, batch = tokens.layout, VisualBatch([tokens])
        number = next(i for i, view in enumerate(layout.views) if view.kind in GLOBAL_VIEWS)
        size, crops = layout.sizes[number], len(layout.views) - 1
        total = 0 if budget.positions == 0 else int(layout.num_tokens * budget.ratio)
        first = min(int(total * self.alpha), size)
        rest = min(total - first, sum(layout.sizes) - size)
        counts = torch.full((len(layout.views) + 1,), first, dtype=torch.int64, device=layout.view.device)
        importance = torch.zeros_like(counts[:-1], dtype=torch.float64)
        if crops:
            early = attention_of(batch, self.budget_layer)
            marks = rearrange(self._marked(early, layout), "row col -> (row col)")
            stripes = rearrange(
                marks[: size // crops * crops], "(stripe place) -> stripe place", stripe=crops
            )
            stripes = stripes.sum(1).to(torch.float32)
            others = torch.tensor([i for i in range(crops + 1) if i != number], device=stripes.device)
            importance[others] = stripes.to(torch.float64)
            # The authors divide counts in float32 and truncate the product.
            share = stripes / stripes.sum().clamp(min=1) * rest
            caps = torch.tensor([s for i, s in enumerate(layout.sizes) if i != number], device=share.device)
            counts[others] = torch.minimum(share.to(torch.int64), caps)
        counts[-1] = 0
        scores = attention_of(batch, self.layer)
        kept = (rank_within_views(scores, layout) < counts[layout.view]) | layout.separator
        allotment = Allotment(counts[:-1].to(torch.float64), importance, _MEANING)
        return Selection(_first(kept, int(kept.sum().item())), allotment=allotment, scores=scores)

    def _marked(self, early: Tensor, layout: Layout) -> Tensor:
        """Return the thumbnail's map (rows, cols): 1 at the int((1 - alpha) M) places of most attention, else 0."""
        grid = cast(Tensor, commander_of_image(early, layout).grid)
        return top_places(grid, int(grid.numel() * (1 - self.alpha)))


def _thumbnail(layout: Layout) -> Tensor:
    return torch.tensor([view.kind in GLOBAL_VIEWS for view in layout.views], device=layout.view.device)

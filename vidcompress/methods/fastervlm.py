"""FasterVLM (arXiv 2412.01818): of each view the patches that the encoder's CLS token attends to.

Formulas as in the authors' code (Theia-4869/FasterVLM @ f5d5f12).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Modality
from vidcompress.core.method import ScoredMethod, register_method
from vidcompress.core.selection import Selection, top_per_view, with_separators
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.ops.attention_scores import (
    Layer,
    attention_of,
    attention_wanted,
    require_layer,
    shares,
)


@register_method
@dataclass(frozen=True)
class FasterVLM(ScoredMethod):
    """Every view keeps the same share of its tokens: those of most CLS attention, heads averaged.

    Attributes:
        layer: encoder layer of the attention; `features` is the one whose output the projector reads, as the
            authors do, negative numbers count from the last.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "fastervlm"
    summary: ClassVar[str] = "of each view the tokens that the encoder's CLS token attends to most"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})

    layer: Layer = "features"

    def __post_init__(self) -> None:
        require_layer(layer=self.layer)

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """The one quantity that ranks tokens."""
        return attention_wanted(self.name, self.layer, has_cls)

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Never: attention alone ranks the tokens."""
        return False

    def scores(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> tuple[Tensor, Tensor]:
        """Attention (N,), and views in proportion to their sizes (V,) float64."""
        weights = batch.layout.sizes_tensor[:-1].to(torch.float64)
        return attention_of(batch, self.layer), weights

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Of every view its share by itself, rounded; in sequence order, with every separator."""
        layout = tokens.layout
        counts = shares(layout, budget)
        scores = attention_of(VisualBatch([tokens]), self.layer)
        kept = top_per_view(scores, layout, torch.tensor(counts, device=scores.device), sum(counts))
        return Selection(with_separators(layout, kept, budget.separators))

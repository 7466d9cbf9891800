"""FasterVLM (arXiv 2412.01818): keep the patches of each view that the encoder's CLS token attends to most.

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
    """The tokens of most CLS attention, averaged over heads; every view keeps the same share.

    Without a CLS token the attention that a token receives ranks instead.

    Attributes:
        layer: encoder layer of the attention. `features` (the authors') is the layer whose output the projector reads;
            negative numbers count from the last layer.

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
        """The quantity that ranks tokens."""
        return attention_wanted(self.name, self.layer, has_cls)

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return False: attention alone ranks the tokens."""
        return False

    def scores(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> tuple[Tensor, Tensor]:
        """Return the attention (N,), and the sizes of the views (V,) float64 as weights."""
        weights = batch.layout.sizes_tensor[:-1].to(torch.float64)
        return attention_of(batch, self.layer), weights

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep the rounded share of every view, in sequence order, with every separator."""
        layout = tokens.layout
        counts = shares(layout, budget)
        scores = attention_of(VisualBatch([tokens]), self.layer)
        kept = top_per_view(scores, layout, torch.tensor(counts, device=scores.device), sum(counts))
        return Selection(with_separators(layout, kept, budget.separators), scores=scores)

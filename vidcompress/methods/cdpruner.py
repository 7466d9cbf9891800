"""CDPruner (NeurIPS 2025): diverse tokens, weighted by relevance to the question.

Formulas from the paper and its code (Theia-4869/CDPruner @ 9541616).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from vidcompress.checks import one_of, require_numbers
from vidcompress.core.budget import VisualBudget, half_up, ratio_fraction, split_in_proportion
from vidcompress.core.layout import Modality
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.reductions import full_precision, products_with, working_dtype
from vidcompress.core.selection import Selection, with_separators
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, shown, warn_once
from vidcompress.ops.diversity import Picks, TokenGroups, chosen, groups_of, most_volume, unit_rows

Relevance = Literal["auto", "negative", "positive", "none"]
Kernel = Literal["product", "exponential"]


@register_method
@dataclass(frozen=True)
class CDPruner(PerVisualMethod):
    """A determinantal point process per view whose kernel is cosine similarity weighted by relevance to the question.

    Attributes:
        auxiliary: folder of the CLIP checkpoint that the model's vision tower comes from; the method reads its text
            tower and projections. Without it patches are compared with the question in the language model's space.
        relevance: sign of the cosine to the question: `negative` (the authors' for CLIP, whose patches and matching
            texts have negative cosines), `positive`, or `none` (diversity alone). `auto` is `negative` with
            `auxiliary`, else `positive`.
        kernel: weight of a token of relevance r: r (`product`), or exp(theta / (2 (1 - theta)) r) (`exponential`).
        theta: weight of relevance in the exponential kernel, at least 0 and below 1.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "cdpruner"
    summary: ClassVar[str] = (
        "diverse tokens (a determinantal point process), weighted by relevance to the question"
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    compares: ClassVar = "views"
    sequential: ClassVar[bool] = True

    auxiliary: str | None = None
    relevance: Relevance = "auto"
    kernel: Kernel = "product"
    theta: float = 0.5

    def __post_init__(self) -> None:
        if self.auxiliary is not None and not isinstance(self.auxiliary, (str, os.PathLike)):
            raise ArgumentError(f"auxiliary must be a folder, got {shown(self.auxiliary)}; pass one, or None")
        if self.auxiliary is not None:
            object.__setattr__(self, "auxiliary", os.fspath(self.auxiliary))
        for option, allowed in (
            ("relevance", get_args(Relevance)),
            ("kernel", get_args(Kernel)),
        ):
            one_of(option, getattr(self, option), allowed)
        require_numbers(theta=self.theta)
        if not 0 <= self.theta < 1:
            raise ArgumentError(f"theta must be at least 0 and below 1, got {shown(self.theta)}; use 0.5")

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """Patches and question in one embedding space: CLIP's with `auxiliary`, else the language model's."""
        if self.relevance == "none":
            return ()
        if self.auxiliary is not None:
            return self._joint()
        warn_once(
            "method 'cdpruner' has no auxiliary= (a folder with CLIP's text tower): relevance is the cosine between "
            "projected features and the question's embeddings in the language model, as its card says"
        )
        return (Evidence("question"),)

    def relevance_of(self, tokens: VisualTokens) -> Tensor:
        """Return the relevance (N,) of the positions, from 1e-6 / range to 1 over all views; 1 without a question."""
        layout = tokens.layout
        pair = self._compared(tokens)
        flat = tokens.features.new_ones(len(layout), dtype=working_dtype(tokens.features))
        if pair is None or pair[1].shape[0] == 0 or layout.num_tokens == 0:
            return flat
        seen, text = pair
        mean = unit_rows(text.to(flat)).mean(0)
        cosine = products_with(seen, mean.to(seen.device, working_dtype(seen)))
        norm = torch.linalg.vector_norm(seen.to(cosine.dtype), dim=-1)
        cosine = torch.nan_to_num(cosine / norm.clamp(min=1e-12), nan=0.0, posinf=0.0, neginf=0.0)
        negative = self.relevance == "negative" or (self.relevance == "auto" and self.auxiliary is not None)
        value = (-cosine if negative else cosine).to(flat)
        low = value.masked_fill(layout.separator, torch.inf).min()
        spread = value.masked_fill(layout.separator, -torch.inf).max() - low
        return torch.where(spread > 1e-9, (value - low + 1e-6) / spread.clamp(min=1e-9), flat)

    def picks(self, tokens: VisualTokens, rounds: int) -> tuple[TokenGroups, Picks]:
        """Choose the first `rounds` tokens of each view in greedy order."""
        with full_precision(tokens.features):
            groups = groups_of(tokens.features, tokens.layout, whole=False)
            relevance = self.relevance_of(tokens)
            relevance = torch.cat((relevance, relevance.new_zeros(1)))[groups.index]
            weight = relevance
            if self.kernel == "exponential":
                weight = torch.exp(self.theta / (2 * (1 - self.theta)) * relevance)
            return groups, most_volume(groups, weight, relevance, rounds)

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Split the budget over the views by size (`exact`), or keep R of each view, half rounded up (`reference`)."""
        layout = tokens.layout
        if budget.policy == "reference":
            ratio: Fraction = ratio_fraction(budget.ratio)
            counts = [min(size, max(min(1, size), half_up(ratio * size))) for size in layout.sizes]
        else:
            counts = split_in_proportion(budget.tokens, layout.sizes)
        groups, picks = self.picks(tokens, max(counts, default=0))
        limits = torch.tensor(counts, device=picks.order.device)
        kept = chosen(groups, picks.order, limits, sum(counts))
        return Selection(with_separators(layout, kept, budget.separators))

    def _joint(self) -> tuple[Evidence, Evidence]:
        return (
            Evidence("patch_embedding", auxiliary=self.auxiliary),
            Evidence("text_embedding", auxiliary=self.auxiliary),
        )

    def _compared(self, tokens: VisualTokens) -> tuple[Tensor, Tensor] | None:
        """Return embeddings (N, E) of the positions and (S, E) of the question; None where there is no question."""
        if self.relevance == "none":
            return None
        patches, text = (tokens.evidence.get(item) for item in self._joint())
        if patches is not None and text is not None:
            return patches, text
        question = tokens.evidence.get(Evidence("question"))
        return None if question is None else (tokens.features, question)

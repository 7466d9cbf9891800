"""FastVID (NeurIPS 2025): segments of similar frames; salient tokens stay, density peaks absorb the others.

Formulas from the paper and its code (LunarShen/FastVID @ ea8b57e).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.checks import is_whole, require_numbers
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, split_in_proportion
from vidcompress.core.layout import Modality
from vidcompress.core.method import PerVisualMethod, Positions, register_method
from vidcompress.core.reductions import distances, full_precision, view_sums
from vidcompress.core.selection import Selection, largest_remainder, top_per_view, with_separators
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, shown, warn_once
from vidcompress.ops.density_peaks import Merged, density_scores, merge_into
from vidcompress.ops.diversity import unit_rows

RECEIVED, CLS = Evidence("attention_received", -1), Evidence("cls_attention", -1)


@register_method
@dataclass(frozen=True)
class FastVID(PerVisualMethod):
    """Salient tokens of each frame, and density peaks of each segment, which absorb the tokens that are not salient.

    Attributes:
        auxiliary: folder of the SigLIP checkpoint that the encoder comes from, for its pooling head.
        segments: least number c of segments (DySeg), at least 1: the clip is cut at the c - 1 least similar pairs of
            neighbouring frames.
        tau: the clip is also cut where the cosine of neighbouring frames is below tau.
        context_share: share d of the budget for merged tokens, 0 to 1; salient tokens have the rest.
        stride: distance p in frames between anchor frames, which carry merged tokens, from the last frame of a segment;
            at least 1.
        neighbours: number k of nearest tokens that the density averages over, the token itself included; at least 1.
        beta: least weight of a peak against the mean of the tokens that it absorbs, 0 to 1.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "fastvid"
    summary: ClassVar[str] = "segments of similar frames: salient tokens stay, density peaks absorb the rest"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})
    compares: ClassVar = "views"
    positions: ClassVar[Positions] = "original"
    merges: ClassVar[bool] = True

    auxiliary: str | None = None
    segments: int = 8
    tau: float = 0.9
    context_share: float = 0.4
    stride: int = 4
    neighbours: int = 4
    beta: float = 0.6

    def __post_init__(self) -> None:
        if self.auxiliary is not None and not isinstance(self.auxiliary, (str, os.PathLike)):
            raise ArgumentError(f"auxiliary must be a folder, got {shown(self.auxiliary)}; pass one, or None")
        if self.auxiliary is not None:
            object.__setattr__(self, "auxiliary", os.fspath(self.auxiliary))
        for option in ("segments", "stride", "neighbours"):
            value = getattr(self, option)
            if not is_whole(value) or value < 1:
                raise ArgumentError(f"{option} must be an integer of at least 1, got {shown(value)}")
        require_numbers(tau=self.tau, context_share=self.context_share, beta=self.beta)
        for option in ("context_share", "beta"):
            if not 0 <= getattr(self, option) <= 1:
                raise ArgumentError(
                    f"{option} must be a number from 0 to 1, got {shown(getattr(self, option))}"
                )

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """Attention and output of the pooling head with `auxiliary`, else the attention of the last encoder layer."""
        if self.auxiliary is not None:
            return self._pooling_attention, Evidence("pooled", auxiliary=self.auxiliary)
        attention = CLS if has_cls else RECEIVED
        warn_once(
            "method 'fastvid' has no auxiliary= (a folder with SigLIP's pooling head): saliency is "
            f"{attention.quantity}, and frames are compared by the mean of their tokens, as its card says"
        )
        return (attention,)

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep salient tokens, merged tokens at the places of their peaks, and separators, in sequence order."""
        if budget.positions == 0:
            return Selection(tokens.layout.view.new_zeros(0))
        with full_precision(tokens.features):
            parts = self._reference if budget.policy == "reference" else self._exact
            salient, peaks, segment, separators = parts(tokens, budget)
            merged = merge_into(tokens.features, tokens.layout, salient, peaks, segment, self.beta)
        return _in_sequence(tokens, salient, merged, separators)

    def segments_of(self, tokens: VisualTokens) -> Tensor:
        """Return the segment of each frame (T,) int64, numbered from 0."""
        pooled = tokens.evidence.get(Evidence("pooled", auxiliary=self.auxiliary))
        layout, frames = tokens.layout, len(tokens.layout.views)
        if pooled is None:
            pooled = view_sums(VisualBatch([tokens]))
        unit = unit_rows(pooled.to(layout.view.device))
        alike = (unit[:-1] * unit[1:]).sum(-1)
        rank = torch.argsort(torch.argsort(alike, stable=True), stable=True)
        cut = (rank < self.segments - 1) | (alike < self.tau)
        return torch.cat((cut.new_zeros(min(1, frames)), cut)).cumsum(0)

    def _exact(self, tokens: VisualTokens, budget: VisualBudget) -> tuple[Tensor, Tensor, Tensor, int]:
        """Split the budget: floor(d x tokens) peaks in proportion to the frames that each anchor frame stands for, and
        salient tokens, the same number in all frames.

        Returns:
            Positions of salient tokens and of peaks, the segment of each frame (T,), and the number of separators.
        """
        layout, device = tokens.layout, tokens.layout.view.device
        segment = self.segments_of(tokens)
        context = int(budget.tokens * self.context_share)
        alike = split_in_proportion(budget.tokens - context, layout.sizes)
        salient_counts = torch.tensor(alike, device=device)
        salient = top_per_view(self._saliency(tokens), layout, salient_counts, sum(alike))
        counts = largest_remainder(
            self._stands_for(segment), context, layout.sizes_tensor[:-1] - salient_counts
        )
        scores = self._peak_scores(tokens, salient)
        return salient, top_per_view(scores, layout, counts, context), segment, budget.separators

    def _reference(self, tokens: VisualTokens, budget: VisualBudget) -> tuple[Tensor, Tensor, Tensor, int]:
        """Take int(R n) tokens per frame, int(d int(R n)) of them peaks, in whole numbers per anchor frame.

        Every line with a kept token keeps its separators. Returns as `_exact` does.
        """
        layout, size = tokens.layout, tokens.layout.sizes[0]
        segment = self.segments_of(tokens)
        each = int(size * budget.ratio)
        context = int(each * self.context_share)
        frames = layout.sizes_tensor[:-1]
        salient = top_per_view(
            self._saliency(tokens),
            layout,
            torch.full_like(frames, each - context),
            (each - context) * len(layout.views),
        )
        stands = self._stands_for(segment)
        counts = (context * stands + 1e-9).floor().to(torch.int64).clamp(max=size - each + context)
        peaks = top_per_view(self._peak_scores(tokens, salient), layout, counts, int(counts.sum().item()))
        in_line = torch.zeros(layout.num_lines + 1, dtype=torch.int64, device=segment.device)
        in_line[layout.line[torch.cat((salient, peaks))]] = 1
        lines = in_line[layout.line[layout.separator_index]]
        return salient, peaks, segment, int(lines.sum().item())

    def _stands_for(self, segment: Tensor) -> Tensor:
        """Return (T,) float64: at an anchor frame the frames of its segment per anchor frame, at others zero."""
        frames = segment.shape[0]
        length = torch.zeros(frames, dtype=torch.int64, device=segment.device).scatter_add(
            0, segment, torch.ones_like(segment)
        )
        last = length.cumsum(0) - 1
        anchor = (last[segment] - torch.arange(frames, device=segment.device)) % self.stride == 0
        of = length[segment]
        anchors = (of + self.stride - 1).div(self.stride, rounding_mode="floor")
        return torch.where(anchor, of.to(torch.float64) / anchors, 0.0)

    def _saliency(self, tokens: VisualTokens) -> Tensor:
        """Return the attention (N,) of the pooling head, of CLS, or received, whichever there is; else distances."""
        for item in (self._pooling_attention, CLS, RECEIVED):
            saliency = tokens.evidence.get(item)
            if saliency is not None:
                return saliency
        return distances(VisualBatch([tokens])).view

    @property
    def _pooling_attention(self) -> Evidence:
        return Evidence("pooling_attention", auxiliary=self.auxiliary)

    def _peak_scores(self, tokens: VisualTokens, salient: Tensor) -> Tensor:
        return density_scores(tokens.features, tokens.layout, salient, self.neighbours)


def _in_sequence(tokens: VisualTokens, salient: Tensor, merged: Merged, separators: int) -> Selection:
    """Sort all positions into sequence order and give the peaks their merged features."""
    layout = tokens.layout
    index, _ = torch.cat((salient, merged.index)).sort()
    index = with_separators(layout, index, separators)
    features = tokens.features[index]
    place = torch.searchsorted(index, merged.index)
    mass = torch.ones_like(index, dtype=torch.float32)
    return Selection(
        index,
        features.index_copy(0, place, merged.features.to(features.dtype)),
        mass=mass.index_copy(0, place, merged.mass.to(mass.dtype)),
        heirless=merged.heirless,
    )

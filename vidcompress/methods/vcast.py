"""V-CAST (arXiv 2603.27650): frames where a clip turns keep more, and of each the tokens unlike its mean. Videos only.

Formulas from the paper and its code (commit c235ef3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from vidcompress.checks import require_numbers
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, ratio_fraction, tokens_to_keep
from vidcompress.core.layout import Modality
from vidcompress.core.method import Positions, ScoredMethod, register_method
from vidcompress.core.reductions import (
    EPSILON,
    NOISE,
    blocks,
    in_groups,
    products,
    to_positions,
    weighted_sums,
)
from vidcompress.core.report.visual import Allotment
from vidcompress.core.selection import Selection, top_per_view, with_separators
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError

_MEANING = "curvature of the clip at the frame, 0 to 2"


class VCastScores(NamedTuple):
    """Scores of V-CAST for B clips of one shape.

    Attributes:
        token: (N,) 1 - cosine to the frame's mean, plus the norm as a share of the frame's range of norms; 0 to 3.
        curvature: (V,) float64, 1 - cosine of the steps to and from the frame, 0 to 2; 1 at both ends of a clip.
    """

    token: Tensor
    curvature: Tensor


@register_method
@dataclass(frozen=True)
class VCast(ScoredMethod):
    """The tokens of each frame that are unlike its mean or have large norms; frames where the clip turns keep more.

    Attributes:
        tau: temperature of the softmax of curvatures over frames; above 0.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "vcast"
    summary: ClassVar[str] = "frames where the clip turns keep more, tokens unlike their frame are kept"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})
    positions: ClassVar[Positions] = "original"

    tau: float = 0.7

    def __post_init__(self) -> None:
        require_numbers(tau=self.tau)
        if not 0 < self.tau < float("inf"):
            raise ArgumentError(f"tau must be a number above 0, got {self.tau!r}; the authors use 0.7")

    def measure(self, clips: VisualBatch) -> VCastScores:
        """Compute the scores of B clips of one shape in float32 (float64 for float64 features)."""
        scores, frames = [], []
        for x, mask in blocks(clips):
            sums = weighted_sums(mask, x)
            unit = sums / torch.linalg.vector_norm(sums, dim=-1, keepdim=True).clamp(min=EPSILON)
            norm, inside = torch.linalg.vector_norm(x, dim=-1), mask > 0
            low = norm.masked_fill(~inside, torch.inf).amin(1, keepdim=True)
            high = norm.masked_fill(~inside, -torch.inf).amax(1, keepdim=True)
            cosine = products(x, unit) / norm.clamp(min=EPSILON)
            spread = high - low
            share = torch.where(spread > NOISE * high, (norm - low) / spread.clamp(min=EPSILON), 0.0)
            scores.append((1 - cosine + share) * mask)
            frames.append(unit)
        direction = rearrange(torch.cat(frames), "(b t) d -> b t d", b=len(clips.visuals))
        return VCastScores(torch.nan_to_num(to_positions(clips, scores)), curvature(direction).flatten())

    def scores(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> tuple[Tensor, Allotment]:
        """Return token scores (N,), and of each frame the tokens wanted, 1 + w_t (B - T), with its curvature.

        The shares w are the softmax of the curvatures over tau. A budget B below the number of frames T is shared by w.
        """

        def measure(clips: VisualBatch, numbers: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
            token, curved = self.measure(clips)
            spare = [
                tokens_to_keep(one.layout, budgets[number]) - len(one.layout.views)
                for one, number in zip(clips.visuals, numbers, strict=True)
            ]
            rest = torch.tensor(spare, dtype=torch.float64).to(curved.device)[:, None]
            share = torch.softmax(rearrange(curved, "(b t) -> b t", b=len(spare)) / self.tau, -1)
            return token, torch.where(rest >= 0, 1 + share * rest, share).flatten(), curved

        token, weights, curved = in_groups(batch, measure, "NVV")
        return token, Allotment(weights, curved, _MEANING)

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep the authors' counts: round(R N), at least one per frame; what rounding leaves over goes to one frame.

        A clip of one frame is sent whole, as in the code.
        """
        layout = tokens.layout
        if budget.positions == 0:
            return Selection(layout.view.new_zeros(0))
        frames, size = len(layout.views), layout.sizes[0]
        token, curved = self.measure(VisualBatch([tokens]))
        total = max(frames, round(ratio_fraction(budget.ratio) * layout.num_tokens))
        total = layout.num_tokens if frames == 1 else min(layout.num_tokens, total)
        more = torch.softmax(curved / self.tau, 0) * (total - frames)
        counts = 1 + more.floor().clamp(max=size - 1).to(torch.int64)
        order = torch.argsort(more - more.floor(), descending=True, stable=True)
        room = size - counts[order]
        left = (total - counts.sum() - (room.cumsum(0) - room)).clamp(min=0)
        counts = counts.index_add(0, order, torch.minimum(left, room))
        index = with_separators(layout, top_per_view(token, layout, counts, total), budget.separators)
        return Selection(index, allotment=Allotment(counts.double(), curved, _MEANING), scores=token)


def curvature(direction: Tensor) -> Tensor:
    """Return 1 - cosine of the steps to and from each frame (b, t) float64; 1 at both ends and at a step of zero.

    Args:
        direction: (b, t, D) unit means of the frames; zeros for a frame without a direction.
    """
    steps = torch.nan_to_num(direction[:, 1:] - direction[:, :-1])
    norm = torch.linalg.vector_norm(steps, dim=-1)
    moved = norm > NOISE  # copies of a frame differ by rounding alone
    cosine = (steps[:, 1:] * steps[:, :-1]).sum(-1) / (norm[:, 1:] * norm[:, :-1]).clamp(min=EPSILON)
    inner = torch.where(moved[:, 1:] & moved[:, :-1], 1 - cosine, 1.0).to(torch.float64)
    ends = inner.new_ones((direction.shape[0], 1))
    return torch.cat((ends, inner, ends), 1)[:, : direction.shape[1]]

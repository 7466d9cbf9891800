"""DyCoke's temporal stage (CVPR 2025): one of four frames stays whole; the others lose tokens that repeat.

Formulas from the paper and its code (KD-TAO/DyCoke, `dycole_ttm`). The second stage, which
prunes the key-value cache while decoding, is not implemented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vidcompress.checks import is_whole
from vidcompress.core.budget import VisualBudget, split_in_proportion
from vidcompress.core.layout import Modality
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.reductions import cosines_to_frames
from vidcompress.core.selection import (
    Selection,
    order_within_views,
    rank_within_views,
    top_per_view,
    with_separators,
)
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError, shown
from vidcompress.methods.evs import strided


@register_method
@dataclass(frozen=True)
class DyCoke(PerVisualMethod):
    """Windows of frames: the first frame stays whole, each other keeps the tokens least like its partner's.

    Tokens are compared at the same place. The partner of a frame at offset o in its window is the frame o & -o earlier:
    the frame before for odd offsets, and two frames earlier for offset 2, which is the first of the window.

    Attributes:
        window: frames per window, at least 1.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "dycoke"
    summary: ClassVar[str] = (
        "one whole frame per window of four, of the others what their partner frame does not show"
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})

    window: int = 4

    def __post_init__(self) -> None:
        if not is_whole(self.window) or self.window < 1:
            raise ArgumentError(f"window must be an integer of at least 1, got {shown(self.window)}; use 4")

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Select by the policy of the budget."""
        return self.reference(tokens, budget) if budget.policy == "reference" else self._exact(tokens, budget)

    def _exact(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep first frames whole and share the rest of the budget evenly over all others.

        The window doubles until the first frames fit into the budget. A budget below one frame keeps evenly strided
        tokens of the first frame.
        """
        layout, size = tokens.layout, tokens.layout.sizes[0]
        frames, total, window = len(layout.views), budget.tokens, self.window
        if total < size:
            kept = strided(layout.table[0], size, total)
            return Selection(with_separators(layout, kept, budget.separators))
        while -(-frames // window) * size > total:
            window *= 2
        pruned = [t for t in range(frames) if t % window]
        counts = [size] * frames
        spare = total - (frames - len(pruned)) * size
        for t, count in zip(pruned, split_in_proportion(spare, [size] * len(pruned)), strict=True):
            counts[t] = count
        partner = [t - (t % window & -(t % window)) for t in range(frames)]
        limits = torch.tensor(counts, device=layout.view.device)
        kept = top_per_view(self._novelty(tokens, partner), layout, limits, total)
        return Selection(with_separators(layout, kept, budget.separators))

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep int(R n) tokens of each pruned frame, most novel first, then the frame's separators.

        As in the code, the third frame of the last window is not pruned, nor is a frame behind the last pair.
        """
        layout, size = tokens.layout, tokens.layout.sizes[0]
        if budget.positions == 0:
            return Selection(layout.view.new_zeros(0))
        frames, kept = len(layout.views), int(budget.ratio * size)
        partner = list(range(frames))
        for t in range(frames):
            offset = t % self.window
            closed = offset % 2 or t - offset < frames - self.window
            if offset and closed:
                partner[t] = t - (offset & -offset)
        counts = [size if partner[t] == t else kept for t in range(frames)]
        limits = torch.tensor((*counts, 0), device=layout.view.device)
        novelty = self._novelty(tokens, partner)
        mask = (rank_within_views(novelty, layout) < limits[layout.view]) | layout.separator
        # Whole frames have equal scores and keep their order; a separator belongs to the frame whose tokens precede it.
        best = order_within_views(novelty, layout.view)
        index = best[torch.argsort((~mask)[best], stable=True)][: sum(counts) + layout.num_separators]
        frame = layout.view.masked_fill(layout.separator, -1).cummax(0).values
        return Selection(index[torch.argsort(frame[index] * 2 + layout.separator[index], stable=True)])

    def _novelty(self, tokens: VisualTokens, partner: list[int]) -> torch.Tensor:
        """Return minus the cosine (N,) to the same place of the partner frame; 0 in frames without a partner."""
        layout = tokens.layout
        alone = torch.tensor([*(t == p for t, p in enumerate(partner)), True], device=layout.view.device)
        index = torch.tensor(partner, device=layout.view.device)
        novelty = -cosines_to_frames(tokens.features, layout, index)
        return novelty.masked_fill(alone[layout.view], 0.0)

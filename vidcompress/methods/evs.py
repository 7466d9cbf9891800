"""EVS, efficient video sampling: keep the tokens that changed since the frame before.

Formulas from the implementation in vLLM (module video_prune.evs, as of 0.32).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.core.budget import VisualBudget, tokens_to_keep
from vidcompress.core.layout import Modality
from vidcompress.core.method import PerVisualMethod, Positions, register_method
from vidcompress.core.reductions import cosines, cosines_to_frames
from vidcompress.core.selection import Selection, best_first, with_separators
from vidcompress.core.stream.ranked import ChangeStream
from vidcompress.core.stream.stream import Stream, StreamSize
from vidcompress.core.tokens import VisualTokens

FORCED = 255.0


@register_method
@dataclass(frozen=True)
class EVS(PerVisualMethod):
    """The first frame, then the tokens least like the token at their place one frame earlier, over the whole clip.

    A budget below one frame keeps evenly strided tokens of the first frame.
    """

    name: ClassVar[str] = "evs"
    summary: ClassVar[str] = "the first frame, then the tokens that changed most since the frame before"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})
    positions: ClassVar[Positions] = "original"

    def dissimilarity(self, tokens: VisualTokens) -> Tensor:
        """Return 1 - cosine (N,) to the token at the same place one frame earlier, and 255 in the first frame."""
        layout, frames = tokens.layout, len(tokens.layout.views)
        partner = (torch.arange(frames, device=layout.view.device) - 1).clamp(min=0)
        change = 1 - cosines_to_frames(tokens.features, layout, partner)
        return torch.where(layout.view == 0, FORCED, change)

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep the tokens of greatest change; under `reference` max(n, int(R N)) of them, with n tokens per frame."""
        layout, size = tokens.layout, tokens.layout.sizes[0]
        if budget.policy == "reference":
            total = tokens_to_keep(layout, budget)
            if total:
                total = min(layout.num_tokens, max(size, int(budget.ratio * layout.num_tokens)))
        else:
            total = budget.tokens
        change = None
        if total < size:
            kept = strided(layout.table[0], size, total)
        else:
            change = torch.where(
                layout.separator, -torch.inf, self.dissimilarity(tokens).nan_to_num(nan=-1.0)
            )
            kept = best_first(change)[:total].sort().values
        return Selection(with_separators(layout, kept, budget.separators), scores=change)

    def stream(self, size: StreamSize) -> Stream:
        """Return a stream that keeps what `select` keeps; it holds one whole frame more, the last."""

        def change(features: Tensor, before: Tensor) -> Tensor:
            return (1 - cosines(features, before)).nan_to_num(nan=-1.0)

        return ChangeStream(self.select, size, change, FORCED, strided)


def strided(positions: Tensor, size: int, count: int) -> Tensor:
    """Return `count` of the first `size` positions, evenly spaced."""
    i = torch.arange(count, device=positions.device)
    return positions[(2 * i + 1) * size // max(1, 2 * count)]

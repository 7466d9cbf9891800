"""DivPrune (CVPR 2025): keep the tokens that are farthest from one another.

Formulas from the paper and from reading its code (vbdi/divprune @ 799e2d9); nothing is derived from that code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch

from vidcompress.checks import one_of
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Modality
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.reductions import full_precision
from vidcompress.core.selection import Selection, with_separators
from vidcompress.core.tokens import VisualTokens
from vidcompress.ops.diversity import grouped, groups_of
from vidcompress.ops.farthest import Start, farthest_points


@register_method
@dataclass(frozen=True)
class DivPrune(PerVisualMethod):
    """Max-min diversity: each next token is the one whose nearest kept token is farthest, by cosine distance.

    Attributes:
        start: the first token: the one whose nearest neighbour is farthest (`farthest_neighbour`, the authors' code),
            or one of the two tokens that are farthest apart (`farthest_pair`, another reading of the paper).

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "divprune"
    summary: ClassVar[str] = "the tokens that are farthest from one another (max-min diversity)"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    compares: ClassVar = "all"
    sequential: ClassVar[bool] = True

    start: Start = "farthest_neighbour"

    def __post_init__(self) -> None:
        one_of("start", self.start, get_args(Start))

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Choose tokens, then add separators (`exact`), or let separators compete, as the authors do (`reference`)."""
        if budget.policy == "reference":
            return self.reference(tokens, budget)
        with full_precision(tokens.features):
            groups = groups_of(tokens.features, tokens.layout, whole=True)
            order = farthest_points(groups, budget.tokens, self.start)
            kept = groups.index[0][order[0]].sort().values
        return Selection(with_separators(tokens.layout, kept, budget.separators))

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep round(R N) of all N positions in sequence order; separators are copies of one vector, so few survive."""
        layout = tokens.layout
        count = min(len(layout), max(1, round(budget.ratio * layout.full_length)))
        with full_precision(tokens.features):
            everything = torch.arange(len(layout), device=layout.view.device)[None]
            groups = grouped(tokens.features, everything)
            order = farthest_points(groups, count, self.start)
        return Selection(order[0].sort().values)

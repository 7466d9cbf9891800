"""Control: fewer frames, sampled before the encoder, which saves encoder time too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vidcompress.checks import one_of
from vidcompress.core.budget import VisualBudget, tokens_to_keep
from vidcompress.core.layout import Layout, Modality, _first
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.selection import Selection, with_separators
from vidcompress.core.stream.ranked import RankedStream
from vidcompress.core.stream.stream import Stream, StreamSize, whole_clip
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import BudgetError
from vidcompress.ops.position_order import best_positions, golden_order

Spacing = Literal["even", "golden"]


@register_method
@dataclass(frozen=True)
class Frames(PerVisualMethod):
    """Whole frames, evenly spaced from the first to the last; the harder control for video methods.

    Frames keep as many of their newlines as fit into the budget.

    Attributes:
        rule: `even` as above, or `golden`, the best frames by number / golden ratio modulo 1, which are almost evenly
            spaced however long the clip gets, so that a stream can keep them too.

    Raises:
        ArgumentError: an unknown rule.
    """

    name: ClassVar[str] = "frames"
    summary: ClassVar[str] = "fewer frames, evenly spaced, left out before the encoder"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})
    compares: ClassVar = "nothing"
    changes_views: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    rule: Spacing = "even"

    def __post_init__(self) -> None:
        one_of("rule", self.rule, get_args(Spacing))

    def frames(self, layout: Layout, budget: VisualBudget) -> tuple[int, ...]:
        """Return the numbers of the frames to encode: as many as fit into the budget with their newlines.

        A budget of zero gives one frame, because encoders need one; `select` then sends none of its tokens.

        Raises:
            BudgetError: one frame does not fit; the message names the smallest budget that fits.
        """
        count = self._reach(layout, budget)[0]
        frames = len(layout.views)
        if self.rule == "golden":
            return tuple(best_positions(golden_order(np.arange(frames)), max(1, count)).tolist())
        if count <= 1:
            return (0,)
        return tuple(i * (frames - 1) // (count - 1) for i in range(count))

    def stream(self, size: StreamSize) -> Stream:
        """Return a stream that keeps the frames that `select` keeps, of `rule="golden"`."""
        if self.rule != "golden":
            whole_clip("'frames' with rule='even'", "rule='golden'")

        def score(features: Tensor, first: int) -> Tensor:
            order = golden_order(np.arange(first, first + len(features)))
            return torch.from_numpy(order).to(features.device)[:, None].expand(features.shape[:2])

        return RankedStream(self.select, size, score, whole=True)

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep every token of the frames; a layout of all frames loses the others here."""
        layout = tokens.layout
        if budget.positions == 0:
            return Selection(layout.view.new_zeros(0))
        if len(layout) < layout.full_length:  # the other frames were never encoded
            separators = self._reach(layout, budget)[1]
            return Selection(with_separators(layout, layout.token_index, separators))
        chosen = self.frames(layout, budget)
        separators = self._reach(layout, budget)[1]
        keep = torch.zeros(len(layout.views) + 1, dtype=torch.bool, device=layout.view.device)
        keep.index_fill_(0, torch.tensor(chosen, device=keep.device), True)
        index = _first(keep[layout.view], layout.sizes[0] * len(chosen))
        return Selection(with_separators(layout, index, separators))

    def _reach(self, layout: Layout, budget: VisualBudget) -> tuple[int, int]:
        """Return the numbers of frames and of separators that make the largest count; from geometry alone."""
        size, in_all = layout.sizes[0], layout.num_separators
        total = (layout.full_length - in_all) // size
        if budget.positions == 0:
            return 0, 0
        reference = budget.policy == "reference"
        room = tokens_to_keep(layout, budget) if reference else budget.positions
        if budget.keep_separators:
            most, floor = (room, 0) if reference else (room - in_all, in_all)
            reached = (min(total, most // size), in_all)
        else:
            # Newlines of dropped frames are not sent; those of kept frames fill the rest of the budget.
            per_frame, shared = (in_all // total, 0) if in_all % total == 0 else (0, in_all)
            own = [n * per_frame + shared if budget.separators else 0 for n in range(total + 1)]
            counts = [(n, min(own[n], room - n * size)) for n in range(1, min(total, room // size) + 1)]
            floor, reached = (
                0,
                max(counts, key=lambda pair: (pair[0] * size + pair[1], pair[1]), default=(0, 0)),
            )
        if reached[0] < 1:
            raise BudgetError(
                f"method 'frames' sends whole frames of {size} tokens, but this video's budget is {room} positions; it "
                f"needs at least {size + floor}: raise retention_ratio or max_tokens, or use method 'pool' or 'uniform'"
            )
        return reached

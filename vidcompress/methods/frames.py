"""Control: fewer frames, sampled before the encoder, so that its time falls too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..budget import Plan
from ..errors import BudgetError
from ..registry import register_method
from ..selection import Selection, with_separators
from ..views import Layout, Modality, VisualTokens, _first
from .base import Method, tokens_to_keep


@register_method
@dataclass(frozen=True)
class Frames(Method):
    """Whole frames, evenly spaced from the first to the last; the harder control for video methods.

    Frames are sent with as many of their own newlines as the plan has room for.
    """

    name: ClassVar[str] = "frames"
    summary: ClassVar[str] = "fewer frames, evenly spaced, left out before the encoder"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})
    exact: ClassVar[bool] = False

    def frames(self, layout: Layout, plan: Plan) -> tuple[int, ...]:
        """Numbers of the frames to encode: the most whose tokens and newlines fit into the budget.

        With a budget of nothing one frame is named, because encoders need one; `select` then sends none of it.

        Raises:
            BudgetError: not even one frame fits; the message names the smallest budget that would do.
        """
        count = self._reach(layout, plan)[0]
        frames = len(layout.views)
        if count <= 1:
            return (0,)
        return tuple(i * (frames - 1) // (count - 1) for i in range(count))

    def select(self, tokens: VisualTokens, plan: Plan) -> Selection:
        """Every token of the frames; a layout that still has them all is thinned out here."""
        layout = tokens.layout
        if plan.budget == 0:
            return Selection(layout.view.new_zeros(0))
        if len(layout) < layout.full_length:  # the other frames were never encoded
            separators = self._reach(layout, plan)[1]
            return Selection(with_separators(layout, layout.token_index, separators))
        chosen = self.frames(layout, plan)
        separators = self._reach(layout, plan)[1]
        keep = torch.zeros(len(layout.views) + 1, dtype=torch.bool, device=layout.view.device)
        keep.index_fill_(0, torch.tensor(chosen, device=keep.device), True)
        index = _first(keep[layout.view], layout.sizes[0] * len(chosen))
        return Selection(with_separators(layout, index, separators))

    def _reach(self, layout: Layout, plan: Plan) -> tuple[int, int]:
        """How many frames fit, and how many separators go with them; from geometry alone."""
        size, in_all = layout.sizes[0], layout.num_separators
        total = (layout.full_length - in_all) // size
        if plan.budget == 0:
            return 0, 0
        if plan.policy == "reference":
            room, per_frame = tokens_to_keep(layout, plan), 0
        else:
            room, per_frame = plan.budget, in_all // total if in_all % total == 0 else 0
        for count in range(min(total, room // size), 0, -1):
            # Newlines of frames that are not there are of no use, unless all were asked for.
            all_wanted = per_frame == 0 or plan.separators == in_all
            separators = plan.separators if all_wanted else min(plan.separators, count * per_frame)
            if plan.policy == "reference" or count * size + separators <= room:
                return count, separators
        thinnable = plan.policy == "exact" and (plan.separators < in_all or in_all == 1)
        if thinnable and room >= size:
            return 1, room - size  # newlines give way to the one frame
        lowest = size if thinnable or plan.policy == "reference" else size + in_all
        raise BudgetError(
            f"method 'frames' sends whole frames of {size} tokens, but this video's budget is {room} positions; it "
            f"needs at least {lowest}: raise retention_ratio or max_tokens, or use method 'pool' or 'uniform'"
        )

"""DyCoke's temporal stage (CVPR 2025): one of four frames stays whole; the others lose tokens that repeat.

Formulas from the paper and its code (KD-TAO/DyCoke, `dycole_ttm`). The second stage, which
prunes the key-value cache while decoding, is not implemented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.checks import is_whole
from vidcompress.core.budget import VisualBudget, split_in_proportion
from vidcompress.core.layout import Modality, _first
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.reductions import cosines, cosines_to_frames
from vidcompress.core.selection import (
    Selection,
    order_within_views,
    rank_within_views,
    top_per_view,
    with_separators,
)
from vidcompress.core.stream.stream import Chosen, Stream, StreamSize, whole_clip
from vidcompress.core.stream.table import ranks
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

    def stream(self, size: StreamSize) -> Stream:
        """Return a stream that keeps what `select` keeps; it holds log2 of the frames seen as whole frames besides.

        Raises:
            UnsupportedInputError: a window that is no power of two, whose partners change when it doubles.
        """
        if self.window & (self.window - 1):
            whole_clip(f"'dycoke' with window={self.window}", "a window that is a power of two")
        return WindowStream(self, size)

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

    def _novelty(self, tokens: VisualTokens, partner: list[int]) -> Tensor:
        """Return minus the cosine (N,) to the same place of the partner frame; 0 in frames without a partner."""
        layout = tokens.layout
        alone = torch.tensor([*(t == p for t, p in enumerate(partner)), True], device=layout.view.device)
        index = torch.tensor(partner, device=layout.view.device)
        novelty = -cosines_to_frames(tokens.features, layout, index)
        return novelty.masked_fill(alone[layout.view], 0.0)


class WindowStream(Stream):
    """DyCoke as frames come: with windows that are powers of two, the partner of frame t is always t & (t - 1).

    The window only doubles, so a frame that is not the first of one never gets whole again, and its share of the budget
    is at most that of `most` tokens now. Beside the table stand the frames that later ones will be compared with: the
    last multiple of each power of two.
    """

    exact: ClassVar[bool] = True

    def __init__(self, method: DyCoke, size: StreamSize) -> None:
        super().__init__(method.select, size)
        self.window = int(method.window)

    def _arrive(self, features: Tensor, row: int) -> None:
        first, count = self._arrived, len(features)
        last = first + count - 1
        levels = max(1, last.bit_length() + 1)
        partners = self.own.get("partners", features[:0])  # entry j is the last multiple of 2^j
        # A level that is new stands for multiples of a power of two above all frames so far: frame 0 alone.
        held = len(partners)
        start = partners[-1:] if held else features[:1]
        partners = torch.cat((partners, start.expand(levels - held, *features.shape[1:])))
        at = [
            t if t == 0 else (t & (t - 1)) if (t & (t - 1)) >= first else -(t & -t).bit_length() - 1
            for t in range(first, last + 1)
        ]
        index = [levels + p - first if p >= 0 else -p - 1 for p in at]
        both = torch.cat((partners, features))
        compared = both[torch.tensor(index, device=features.device)]
        self.table.write(row, score=-cosines(features, compared).flatten())
        newest = [(last >> level) << level for level in range(levels)]
        index = [levels + t - first if t >= first else level for level, t in enumerate(newest)]
        self.own["partners"] = both[torch.tensor(index, device=features.device)]

    def _limits(self, most: int, whole_frames: int | None = None) -> Tensor:
        """Most tokens (K,) of the frame of each token held, when `most` are kept; fewer frames may be counted whole."""
        window, frame = self.window, self.table["frame"]
        while -(-self.frames // window) * self.frame_size > most:
            window *= 2
        whole = -(-self.frames // window)
        spare = most - (whole if whole_frames is None else whole_frames) * self.frame_size
        pruned = max(1, self.frames - whole)
        # Evenly shared, earlier frames first: ceil((spare - number among the pruned) / pruned).
        share = (spare - (frame - 1 - frame // window) + pruned - 1) // pruned
        return torch.where(frame % window == 0, self.frame_size, share.clamp(0, self.frame_size))

    def _survivors(self, retained: int) -> Tensor:
        frame, most = self.table["frame"], self.size.most
        if most < self.frame_size:  # then all that is ever kept is of the first frame
            return (frame == 0).nonzero()[:, 0]
        # Later there are fewer whole frames, at least one, and the others share the rest.
        return (ranks(self.table["score"], frame) < self._limits(most, 1)).nonzero()[:, 0]

    def _choose(self, count: int) -> Chosen:
        if count < self.frame_size:
            rows = torch.arange(self.frame_size, device=self.table["frame"].device)
            return Chosen(strided(rows, self.frame_size, count))
        return Chosen(_first(ranks(self.table["score"], self.table["frame"]) < self._limits(count), count))

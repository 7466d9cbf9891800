"""Streams of tokens that are ranked once: the score is final when a token comes, so the best stay the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.core.selection import best_first
from vidcompress.core.stream.stream import Chosen, Select, Stream, StreamSize
from vidcompress.errors import BudgetError


class RankedStream(Stream):
    """The best tokens by a final score, ties by position: always those of `select` on the whole clip.

    Args:
        select: of the method.
        size: limits of the stream.
        score: of frames (k, n, D), the first of which has a number: (k, n), higher is kept.
        whole: whether only whole frames are kept, all tokens of which have one score.
    """

    exact: ClassVar[bool] = True

    def __init__(
        self, select: Select, size: StreamSize, score: Callable[[Tensor, int], Tensor], whole: bool = False
    ) -> None:
        super().__init__(select, size)
        self.score, self.whole = score, whole

    def _arrive(self, features: Tensor, row: int) -> None:
        self.table.write(row, score=self.score(features, self._arrived).flatten())

    def _survivors(self, retained: int) -> Tensor:
        return self._best(max(self.frame_size, retained))

    def _best(self, count: int) -> Tensor:
        return best_first(self.table["score"])[:count].sort().values

    def _choose(self, count: int) -> Chosen:
        if self.whole:
            if count < self.frame_size:
                raise BudgetError(
                    f"count={count}: a frame has {self.frame_size} tokens, and this method keeps whole frames; ask for "
                    f"{self.frame_size} or more"
                )
            count -= count % self.frame_size
        return Chosen(self._best(count))


class ChangeStream(RankedStream):
    """As `RankedStream`, by the change since the frame before; a budget below one frame is spread over the first.

    Args:
        select: of the method.
        size: limits of the stream.
        change: of frames (k, n, D) since those before them (k, n, D): (k, n).
        forced: score of the first frame, above all others.
        spread: positions of a row of tokens, their number and a count: that many of them, evenly spaced.
    """

    def __init__(
        self,
        select: Select,
        size: StreamSize,
        change: Callable[[Tensor, Tensor], Tensor],
        forced: float,
        spread: Callable[[Tensor, int, int], Tensor],
    ) -> None:
        super().__init__(select, size, self._changed)
        self.change, self.forced, self.spread = change, forced, spread

    def _changed(self, features: Tensor, first: int) -> Tensor:
        before = torch.cat((self.own.get("last", features[:1]), features[:-1]))
        score = self.change(features, before)
        if first == 0:
            score[0] = self.forced
        self.own["last"] = features[-1:].clone()
        return score

    def _choose(self, count: int) -> Chosen:
        if count < self.frame_size:
            rows = torch.arange(self.frame_size, device=self.table["frame"].device)
            return Chosen(self.spread(rows, self.frame_size, count))
        return super()._choose(count)

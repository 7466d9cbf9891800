"""Streams of methods that share the budget over frames by weight and keep the best tokens of each frame."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vidcompress.core.batch import shared_out, timed_share
from vidcompress.core.layout import _first
from vidcompress.core.selection import largest_remainder
from vidcompress.core.stream.stream import Chosen, Select, Stream, StreamSize
from vidcompress.core.stream.table import FrameRows, ranks
from vidcompress.errors import ArgumentError

ROUNDING = 1e-12
"""What float64 arithmetic may change of a share, as part of it."""


class Counts(NamedTuple):
    """Tokens kept of each row of frames.

    Attributes:
        kept: (F,) int64, at most those held; they sum to the budget.
        whole: (F,) int64, what they are when nothing was dropped.
    """

    kept: Tensor
    whole: Tensor


class SharedStream(Stream):
    """Frames share the budget by weights of all frames seen; of each the best tokens held are kept.

    Args:
        select: of the method.
        size: limits of the stream.
        coverage: share of a budget below the number of frames that follows time.
        largest: columns of the frame statistics that are maxima.
    """

    def __init__(
        self, select: Select, size: StreamSize, coverage: float = 0.0, largest: tuple[str, ...] = ()
    ) -> None:
        super().__init__(select, size)
        self.coverage, self.rows = coverage, FrameRows(size.rows, largest)

    @abstractmethod
    def _weights(self, ratio: float) -> Tensor:
        """Tokens wanted of each row (F,) float64, when a share `ratio` of all tokens is kept."""

    @abstractmethod
    def _scores(self) -> Tensor:
        """Scores (K,) of the tokens held, higher is kept, comparable within a row."""

    def _row(self) -> Tensor:
        """Row (K,) int64 of each token held."""
        return self.table["frame"] >> self.rows.shift

    def _sizes(self) -> Tensor:
        """Tokens (F,) int64 that each row has seen."""
        run = 1 << self.rows.shift
        frames = torch.full((self.rows.used,), run, dtype=torch.int64)
        frames[-1] = self.rows.frames - run * (self.rows.used - 1)
        return (frames * self.frame_size).to(self.table["frame"].device)

    def _held(self) -> Tensor:
        """Tokens (F,) int64 that are held of each row."""
        row = self._row()
        return torch.zeros(self.rows.used, dtype=torch.int64, device=row.device).index_add_(
            0, row, torch.ones_like(row)
        )

    def _counts(self, count: int) -> Counts:
        """Share out `count` tokens; what a row no longer holds goes to the others by weight."""
        held, weights = self._held(), self._weights(count / self.tokens)
        whole = shared_out(weights, count, self._sizes(), self.coverage)
        if self.coverage:
            kept = timed_share(weights, count, self._sizes(), self.coverage, held)
        else:
            kept = torch.minimum(whole, held)
        return Counts(
            kept + largest_remainder(weights, count - kept.sum(-1, keepdim=True), held - kept), whole
        )

    def _best(self, scores: Tensor, counts: Tensor) -> Tensor:
        """Mask (K,) bool of the best tokens of each row."""
        row = self._row()
        return ranks(scores, row) < counts[row]

    def _survivors(self, retained: int) -> Tensor:
        kept = self._best(self._scores(), self._counts(retained).kept)
        self._drop(~kept)
        return _first(kept, retained)

    def _drop(self, dropped: Tensor) -> None:
        """Note what an eviction drops: (K,) bool of the tokens held."""

    def _choose(self, count: int) -> Chosen:
        return Chosen(_first(self._best(self._scores(), self._counts(count).kept), count))

    def state(self) -> dict[str, Tensor]:
        """As of every stream, with the frame statistics."""
        numbers = torch.tensor([self.rows.frames, self.rows.shift], dtype=torch.int64)
        rows = {f"rows.{name}": values for name, values in self.rows.state().items()}
        return super().state() | rows | {"runs": numbers}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """As of every stream, with the frame statistics.

        Raises:
            ArgumentError: parts are missing or do not fit this stream.
        """
        super().restore(state)
        if "runs" not in state:
            raise ArgumentError("state lacks 'runs': pass what Stream.state() returned, of the same method")
        frames, shift = map(int, state["runs"].tolist())
        if frames != self._arrived:
            raise ArgumentError(
                f"state has sums of {frames} frames, and {self._arrived} arrived: pass what Stream.state() returned"
            )
        rows = {key[5:]: value for key, value in state.items() if key.startswith("rows.")}
        self.rows.restore(rows, frames, shift)


def certain(
    counts: Tensor, weights: Tensor, slack: Tensor, total: int, caps: Tensor, coverage: float
) -> Tensor:
    """Return (F,) bool: the counts of `shared_out` that are the same for all weights within `slack`.

    Args:
        counts: (F,) int64, made of the other arguments.
        weights, total, caps, coverage: as in `shared_out`.
        slack: (F,) float64, how far off each weight may be.
    """
    timed, sure = torch.zeros_like(counts), torch.ones_like(counts, dtype=torch.bool)
    off = slack.sum() / weights.sum().clamp(min=1e-300) + ROUNDING
    if coverage:
        timed = timed_share(weights, total, caps, coverage)
        running = weights.cumsum(0) * (timed.sum() / weights.sum())
        edge = (running % 1 - 0.5).abs() > 2 * off * running
        sure = edge & torch.cat((torch.ones_like(edge[:1]), edge[:-1]))
    counts, caps = counts - timed, caps - timed
    full = counts >= caps
    free = torch.where(full, 0.0, weights)
    level = (counts.sum() - torch.where(full, counts, 0).sum()) / free.sum().clamp(min=1e-300)
    shares = free * level
    off = slack.sum() / free.sum().clamp(min=1e-300) + ROUNDING
    margin = level * slack + 2 * off * (1 + shares)
    # Rounded up or down: the remainders of the two groups must lie apart, and every share away from a whole number.
    rest = shares - shares.floor()
    up = (counts > shares.floor()) & ~full
    lowest = torch.where(up, rest - margin, torch.inf).amin().clamp(max=1.0)
    highest = torch.where(up | full, -torch.inf, rest + margin).amax().clamp(min=0.0)
    apart = torch.where(up, rest - margin > highest, rest + margin < lowest)
    inside = (rest > margin) & (rest < 1 - margin)
    saturated = weights * level > caps + level * slack + 2 * off * (1 + caps)
    return sure & (full | apart & inside) & (saturated | ~full).all()

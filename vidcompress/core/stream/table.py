"""Tables of a stream: the tokens that it holds, and sums over frames that it has seen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vidcompress.core.reductions import rows_per_block
from vidcompress.core.selection import order_within_views
from vidcompress.errors import ArgumentError

GROWTH = 1024  # rows that a table without a limit begins with


class TokenTable:
    """Tokens held, in sequence order, in one block of memory that is made once.

    Attributes:
        capacity: rows of the block.
        held: rows in use.
        columns: tensors (capacity, ...) by name: `features` (D), `frame` and `place`, and what a method adds.
    """

    def __init__(self, capacity: int, like: Tensor) -> None:
        """Make room for `capacity` tokens with features such as `like` (..., D)."""
        self.capacity, self.held = capacity, 0
        number = torch.empty(capacity, dtype=torch.int64, device=like.device)
        self.columns = {
            "features": torch.empty(capacity, like.shape[-1], dtype=like.dtype, device=like.device),
            "frame": number,
            "place": torch.empty_like(number),
        }

    def __getitem__(self, name: str) -> Tensor:
        """Return the rows in use of a column; no copy."""
        return self.columns[name][: self.held]

    def append(self, features: Tensor, first: int) -> None:
        """Write frames (k, n, D), the first of which has the number `first`, behind the rows in use."""
        frames, size, width = features.shape
        rows = slice(self.held, self.held + frames * size)
        number = torch.arange(frames * size, device=features.device)
        self.columns["features"][rows] = features.reshape(-1, width)
        self.columns["frame"][rows] = number // size + first
        self.columns["place"][rows] = number % size
        self.held += frames * size

    def write(self, row: int, **values: Tensor) -> None:
        """Write columns (m,) of the m rows from `row` on; a new column is made."""
        for name, value in values.items():
            if name not in self.columns:
                self.columns[name] = value.new_zeros(self.capacity)
            self.columns[name][row : row + len(value)] = value

    def compact(self, rows: Tensor) -> None:
        """Keep the rows (K,) int64, ascending; they move to the front block by block, without a copy of the table."""
        for column in self.columns.values():
            start, step = 0, rows_per_block(column, column[0].numel())
            for part in rows.split(step):  # row j comes from a row behind j, which no earlier block wrote
                column[start : start + len(part)] = column.index_select(0, part)
                start += len(part)
        self.held = len(rows)

    def state(self) -> dict[str, Tensor]:
        """Return copies of the rows in use by column."""
        return {name: self[name].clone() for name in self.columns}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the rows of `state` instead of those in use."""
        self.held = len(state["frame"])
        for name, values in state.items():
            if name not in self.columns:
                self.columns[name] = values.new_zeros(self.capacity)
            self.columns[name][: self.held] = values


class FrameRows:
    """Statistics of frames: one row per frame, or per run of 2^k frames where the rows are limited.

    A full table with a limit joins neighbours in pairs, so that every row has twice as many frames and half of the rows
    are free again. Columns are sums; those named in `largest` are maxima.

    Attributes:
        limit: most rows, an even number; None grows without end.
        shift: k.
        frames: frames seen.
        columns: tensors (rows, ...) by name.
    """

    def __init__(self, limit: int | None = None, largest: tuple[str, ...] = ()) -> None:
        self.limit, self.largest, self.shift, self.frames = limit, largest, 0, 0
        self.columns: dict[str, Tensor] = {}

    @property
    def used(self) -> int:
        """Rows in use."""
        return -(-self.frames // (1 << self.shift))

    def __getitem__(self, name: str) -> Tensor:
        """Return the rows in use of a column; no copy."""
        return self.columns[name][: self.used]

    @property
    def full(self) -> bool:
        """Whether the next frame has no row until neighbours are joined."""
        return self.limit is not None and self.frames == self.limit << self.shift

    def room(self, count: int) -> int:
        """Return how many of the next `count` frames can be added at once; full rows are joined first."""
        if self.limit is None:
            return count
        if self.full:
            self._join()
        return min(count, (self.limit << self.shift) - self.frames)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add columns (k, ...) of the next k frames, at most `room`, to their rows."""
        like = next(iter(values.values()))
        row = torch.arange(self.frames, self.frames + len(like), device=like.device) >> self.shift
        self.frames += len(like)
        for name, value in values.items():
            self._column(name, value)
            self.enter(name, row, value)

    def enter(self, name: str, row: Tensor, value: Tensor) -> None:
        """Add values (k, ...) to a column at rows (k,) int64."""
        if name in self.largest:
            self.columns[name].scatter_reduce_(0, row, value, "amax")
        else:
            self.columns[name].index_add_(0, row, value)

    def _column(self, name: str, like: Tensor) -> Tensor:
        """Return a column with room for all rows; values such as `like`."""
        column = self.columns.get(name)
        if column is None or len(column) < self.used:
            start = -torch.inf if name in self.largest else 0.0
            larger = like.new_full((self.limit or max(GROWTH, 2 * self.used), *like.shape[1:]), start)
            if column is not None:
                larger[: len(column)] = column
            self.columns[name] = larger
        return self.columns[name]

    def _join(self) -> None:
        for name, column in self.columns.items():
            half, of_most = len(column) // 2, name in self.largest
            pairs = (column[0::2], column[1::2])
            column[:half] = torch.maximum(*pairs) if of_most else torch.add(*pairs)
            column[half:] = -torch.inf if of_most else 0
        self.shift += 1

    def state(self) -> dict[str, Tensor]:
        """Return copies of the rows in use by column."""
        return {name: self[name].clone() for name in self.columns}

    def restore(self, state: Mapping[str, Tensor], frames: int, shift: int) -> None:
        """Take the rows of `state` instead of those in use.

        Raises:
            ArgumentError: another number of rows than the frames have, or than the limit allows.
        """
        if not 0 <= shift < 32 or frames < 0 or (shift > 0 and self.limit is None):
            raise ArgumentError(
                f"state has {frames} frames in rows of 2^{shift}: pass what Stream.state() returned"
            )
        self.frames, self.shift, self.columns = frames, shift, {}
        if any(values.shape[:1] != (self.used,) for values in state.values()) or self.used > (
            self.limit or frames
        ):
            raise ArgumentError(
                f"state has other rows than its {frames} frames: pass what Stream.state() returned, of the same size"
            )
        for name, values in state.items():
            self._column(name, values)[: self.used] = values


def ranks(scores: Tensor, group: Tensor) -> Tensor:
    """Return (K,) int64: 0 for the best token of its group, 1 for the next; ties by position, NaN last.

    Args:
        scores: (K,), higher is better.
        group: (K,) int64, such as the frame of each token.
    """
    order = order_within_views(scores, group)
    theirs = group[order]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - torch.searchsorted(theirs, theirs)
    return rank

"""Views of several visuals side by side in one pass of a packed encoder, and their tokens back in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor


class Piece(NamedTuple):
    """Consecutive views of one visual.

    Attributes:
        visual: number of the visual.
        start, stop: the views [start, stop) of those to encode.
    """

    visual: int
    start: int
    stop: int


def passes(sizes: Sequence[tuple[int, int]], most: int) -> Iterator[list[Piece]]:
    """Cut the views of all visuals, in order, into passes of at most `most` patches; a larger view goes alone.

    Args:
        sizes: for each visual the number of its views and of the patches of one view.
        most: patches of one pass.
    """
    held: list[Piece] = []
    room = most
    for number, (views, patches) in enumerate(sizes):
        start = 0
        while start < views:
            count = min(views - start, room // patches)
            if count < 1 and held:
                yield held
                held, room = [], most
                continue
            count = max(1, count)
            held.append(Piece(number, start, start + count))
            start, room = start + count, max(0, room - count * patches)
    if held:
        yield held


class TokenRows:
    """Tensors with one row per token of a visual, filled a piece at a time.

    Args:
        count: number of its tokens.

    Attributes:
        columns: the tensors (count, ...), in the order of the pieces passed to `add`.
    """

    def __init__(self, count: int) -> None:
        self._count, self._filled = count, 0
        self.columns: list[Tensor] = []

    def add(self, parts: Sequence[Tensor]) -> None:
        """Add the next rows of every tensor; nothing is copied where a visual comes in one piece."""
        start, stop = self._filled, self._filled + parts[0].shape[0]
        self._filled = stop
        if stop - start == self._count:
            self.columns = list(parts)
            return
        if not self.columns:
            self.columns = [part.new_empty((self._count, *part.shape[1:])) for part in parts]
        for column, part in zip(self.columns, parts, strict=True):
            column[start:stop] = part

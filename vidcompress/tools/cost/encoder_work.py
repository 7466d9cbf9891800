"""Work of the vision tower: patches and pairs of patches of all views, and their number at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vidcompress.adapters.model_shape import EncoderShape

Grid = tuple[int, int, int]
"""Number of views, and rows and columns of tokens of each."""


@dataclass(frozen=True)
class EncoderWork:
    """Work of a vision tower on all views of a batch.

    Attributes:
        patches: of all views.
        tokens: in the encoder, patches and CLS tokens.
        pairs: of tokens that attend to one another in a layer over whole pictures.
        near: pairs in a layer whose attention stays within windows.
        values: numbers of all pixels.
        passes: number of times the weights are read.
        at_once: most tokens in the encoder at once. patches_at_once: patches of these.
    """

    patches: int
    tokens: int
    pairs: int
    near: int
    values: int
    passes: int
    at_once: int
    patches_at_once: int


def work_of(
    shape: EncoderShape, views: int, grids: Sequence[Grid], *, max_views: int, max_patches: int
) -> EncoderWork:
    """Compute the work on some views.

    Args:
        shape: of the encoder.
        views: number of pictures or frames, for an encoder of one size.
        grids: of views, for an encoder of any size.
        max_views, max_patches: bounds on one pass of the encoder.
    """
    if shape.image_size:
        together = min(max_views, views)
        return EncoderWork(
            patches=views * shape.patches,
            tokens=views * shape.tokens,
            pairs=views * shape.tokens**2,
            near=views * shape.tokens**2,
            values=views * shape.channels * shape.image_size**2,
            passes=math.ceil(views / max_views),
            at_once=together * shape.tokens,
            patches_at_once=together * shape.patches,
        )
    sides = [(count, rows * shape.merge, cols * shape.merge) for count, rows, cols in grids]
    patches = sum(count * rows * cols for count, rows, cols in sides)
    largest = max((rows * cols for _, rows, cols in sides), default=0)
    together = max(min(max_patches, patches), largest)
    return EncoderWork(
        patches=patches,
        tokens=patches,
        pairs=sum(count * (rows * cols) ** 2 for count, rows, cols in sides),
        near=sum(count * _near(rows, cols, shape.window) for count, rows, cols in sides),
        values=patches * shape.channels * shape.frames * shape.patch_size**2,
        passes=math.ceil(patches / together) if patches else 0,
        at_once=together,
        patches_at_once=together,
    )


def square(tokens: int) -> Grid:
    """Return the grid of one view of `tokens` tokens, nearly square."""
    rows = max(number for number in range(1, math.isqrt(tokens) + 1) if tokens % number == 0)
    return 1, rows, tokens // rows


def _near(rows: int, cols: int, window: int | None) -> int:
    """Count the pairs within windows; windows at the edges may be smaller."""
    if window is None:
        return (rows * cols) ** 2
    return math.prod(sum(side**2 for side in _cut(length, window)) for length in (rows, cols))


def _cut(length: int, window: int) -> Iterable[int]:
    return [min(window, length - start) for start in range(0, length, window)]

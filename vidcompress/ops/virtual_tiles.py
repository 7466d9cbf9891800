"""Virtual tiles: parts of an image at native resolution, which share its budget as crops do.

An image at native resolution has no thumbnail and no crops. Its own evidence, pooled to about 12 x 12 places, gives the
importance of each tile; no additional view is encoded or sent.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import torch

from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Layout, View

PLACES = 12 * 12
"""Approximate number of places of the commander."""


def tile_grid(grid: tuple[int, int], count: int) -> tuple[int, int] | None:
    """Return rows and columns of tiles, with tiles as near to squares as possible.

    Args:
        grid: (rows, cols) of the view in tokens.
        count: number N of tiles.

    Returns:
        (rows, cols) of tiles, rows x cols = N; of two that are equally near, the one of fewer rows. None where every
        such grid has more rows or columns than the view.
    """
    fits = [
        (rows, count // rows)
        for rows in range(1, min(count, grid[0]) + 1)
        if count % rows == 0 and count // rows <= grid[1]
    ]

    def stretch(tiles: tuple[int, int]) -> Fraction:
        sides = Fraction(grid[0], tiles[0]), Fraction(grid[1], tiles[1])
        return max(sides) / min(sides)

    return min(fits, key=stretch, default=None)


def pooled_grid(grid: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, cols) of the commander: about `PLACES` places in the view's shape, at most its tokens."""
    scale = min(1.0, math.sqrt(PLACES / (grid[0] * grid[1])))
    rows, cols = (max(1, math.floor(side * scale + 0.5)) for side in grid)
    return rows, cols


@lru_cache(maxsize=256)
@outside_caller_modes
def tiled_layout(layout: Layout, count: int) -> Layout | None:
    """Return the same positions in views of kind `tile`, with boxes in the commander's grid.

    The i-th of n rows of tiles begins at row floor(i rows / n) of the view, columns likewise; tiles cover the view.

    Args:
        layout: layout of a visual, on any device; an image that is one view of kind `image` is cut.
        count: number N of tiles, at least 1.

    Returns:
        A layout of N views, with the pooled grid as `grid` and the view's grid as `canvas`. None where no view is cut:
        one tile, other views, or a view that has fewer rows or columns than the tiles.
    """
    if count == 1 or [view.kind for view in layout.views] != ["image"]:
        return None
    grid = layout.views[0].rows, layout.views[0].cols
    tiles = tile_grid(grid, count)
    if tiles is None or layout.sizes[0] != grid[0] * grid[1]:
        return None
    tops, lefts = (
        [n * side // parts for n in range(parts + 1)] for side, parts in zip(grid, tiles, strict=True)
    )
    pooled = pooled_grid(grid)
    down, across = pooled[0] / grid[0], pooled[1] / grid[1]
    views = tuple(
        View("tile", bottom - top, right - left, (top * down, left * across, bottom * down, right * across))
        for top, bottom in pairwise(tops)
        for left, right in pairwise(lefts)
    )
    device = layout.view.device
    row = torch.searchsorted(torch.tensor(tops[1:-1], device=device), layout.row, right=True)
    col = torch.searchsorted(torch.tensor(lefts[1:-1], device=device), layout.col, right=True)
    return Layout(
        modality="image",
        views=views,
        view=torch.where(layout.separator, count, row * tiles[1] + col),
        row=layout.row,
        col=layout.col,
        line=layout.line,
        separator=layout.separator,
        grid=pooled,
        canvas=grid,
        sizes=tuple(view.rows * view.cols for view in views),
        num_separators=layout.num_separators,
        num_lines=layout.num_lines,
        source=layout.source,
        full_length=layout.full_length,
    )

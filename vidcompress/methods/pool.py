"""Control: spatial average pooling, in the finest steps that the grids allow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from vidcompress.core.budget import VisualBudget, tokens_to_keep
from vidcompress.core.layout import GLOBAL_VIEWS, Layout, Modality
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.reductions import rows_per_block, working_dtype
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import UnsupportedInputError


@dataclass(frozen=True)
class _State:
    """Sizes after pooling: (rows, cols) of each kind of grid, the number of copies, and the newlines that stay."""

    grids: tuple[tuple[int, int], ...]
    copies: tuple[int, ...]
    newline: tuple[str, ...]  # per kind of grid: "row", "grid" or "none"
    trailing: int

    def tokens(self) -> int:
        return sum(n * rows * cols for n, (rows, cols) in zip(self.copies, self.grids, strict=True))

    def separators(self) -> int:
        parts = zip(self.copies, self.grids, self.newline, strict=True)
        return self.trailing + sum(
            n * {"row": rows, "grid": 1, "none": 0}[rule] for n, (rows, _), rule in parts
        )


@register_method
@dataclass(frozen=True)
class Pool(PerVisualMethod):
    """Average pooling over space: thumbnail, crop canvas and frames shrink together.

    Sides shrink by factors within 2 of one another; of all such sizes the method takes the largest count within the
    budget. Each pooled row keeps its newline, unless the budget has none; the lone newline of a clip stays where it
    costs no tokens. Where one token per view is above the budget, newlines go first, then crops, and then frames are
    averaged over time.
    """

    name: ClassVar[str] = "pool"
    summary: ClassVar[str] = "spatial average pooling; over time too when one token per frame is too many"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    compares: ClassVar = "nothing"
    exact: ClassVar[bool] = False
    merges: ClassVar[bool] = True

    def check(self, layout: Layout) -> None:
        """Refuse what `Method.check` refuses, and views whose shape is not known.

        Raises:
            UnsupportedInputError: naming the view.
        """
        super().check(layout)
        for view in layout.views:
            if not view.shaped:
                raise UnsupportedInputError(
                    f"method {self.name!r} averages over rows and columns, and those of a {view.kind} of {view.cols} "
                    "tokens are not known; use uniform or random as the control"
                )

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Pool the features; each takes the position of the source token at the centre of its pooled cell.

        A token counts once: one that several pooled cells average is split among them by its weights.
        """
        layout = tokens.layout
        if budget.positions == 0:
            return Selection(layout.view.new_zeros(0))
        start = _start(layout, budget)
        state = _reach(start, layout, budget)
        if state == start:  # the tokens fit without averaging
            index = (
                torch.arange(len(layout), device=layout.view.device)
                if budget.separators
                else layout.token_index
            )
            return Selection(index)
        newline_of_line = layout.view.new_zeros(layout.num_lines + 1)
        newline_of_line[layout.line[layout.separator_index]] = layout.separator_index
        positions, features, masses = [], [], []
        kinds = _places(layout)
        for number, places in enumerate(kinds[: len(state.grids)]):
            index, pooled = _pooled(tokens.features, places, state.grids[number], state.copies[number])
            positions.append(index.flatten())
            features.append(rearrange(pooled, "copy row col d -> (copy row col) d"))
            masses.append(torch.from_numpy(_masses(places.shape, index.shape)).to(index.device))
            if state.newline[number] != "none":
                last = index[:, :, -1] if state.newline[number] == "row" else index[:, -1:, -1]
                positions.append(newline_of_line[layout.line[last.flatten()]])
                features.append(tokens.features[positions[-1]])
                masses.append(masses[-1].new_ones(len(positions[-1])))
        if state.trailing:
            positions.append(layout.separator_index[-1:])
            features.append(tokens.features[positions[-1]])
            masses.append(masses[-1].new_ones(1))
        index = torch.cat(positions)
        order = torch.argsort(index)
        heirless = None
        if len(state.grids) < len(kinds):  # no crop was pooled
            heirless = ~layout.separator
            heirless[kinds[0]] = False
        return Selection(
            index[order], torch.cat(features)[order], mass=torch.cat(masses)[order], heirless=heirless
        )


def _start(layout: Layout, budget: VisualBudget) -> _State:
    """Return the unpooled sizes, without newlines when the budget has none."""
    newlines, views = budget.separators > 0, len(layout.views)
    if layout.modality == "video":
        each, rest = divmod(layout.num_separators, views)
        rows = (layout.views[0].rows, layout.views[0].cols)
        newline = "none" if not newlines or rest or not each else "row" if each == rows[0] else "grid"
        return _State((rows,), (views,), (newline,), int(newlines and newline == "none"))
    if layout.canvas is None:  # one view, or crops whose places are unknown
        return _State((layout.grid,), (len(_filled(layout)),), ("none",), int(newlines))
    newline = "row" if newlines else "none"
    return _State((layout.grid, layout.canvas), (1, 1), ("none", newline), 0)


def _reach(state: _State, layout: Layout, budget: VisualBudget) -> _State:
    """Return the sizes of the largest count that fits; below one token per view newlines go, then crops, then time."""
    reference = budget.policy == "reference"  # separators come on top of the budget
    room = tokens_to_keep(layout, budget) if reference else budget.positions
    best = finest(state, room, reference, may_drop_newline=not budget.keep_separators)
    if best is not None:
        return best
    state = replace(state, grids=((1, 1),) * len(state.grids))
    bare = state if reference else replace(state, newline=("none",) * len(state.grids), trailing=0)

    def fits(candidate: _State) -> bool:
        return candidate.tokens() + (0 if reference else candidate.separators()) <= room

    if not fits(bare) and len(bare.grids) > 1:
        bare = _State(bare.grids[:1], bare.copies[:1], bare.newline[:1], bare.trailing)
    return bare if fits(bare) else replace(bare, copies=(min(room, bare.copies[0]), *bare.copies[1:]))


@lru_cache(maxsize=512)
def finest(state: _State, room: int, newlines_are_free: bool, may_drop_newline: bool) -> _State | None:
    """Return the sizes of the largest count that fits, with sides that shrink by factors within 2 of one another.

    Of equal counts the one that keeps the newline of a clip is taken, then the one whose factors are closest.
    """
    shapes = [_shapes(grid) for grid in state.grids]
    costs = []
    for (rows, cols, _), copies, rule in zip(shapes, state.copies, state.newline, strict=True):
        newlines = {"row": rows, "grid": np.ones_like(rows), "none": np.zeros_like(rows)}[rule]
        costs.append(copies * (rows * cols + (0 if newlines_are_free else newlines)))
    low = [np.log2(scales.min(0)) for _, _, scales in shapes]
    high = [np.log2(scales.max(0)) for _, _, scales in shapes]
    cost, lowest, highest = costs[0], low[0], high[0]
    if len(shapes) == 2:
        cost = costs[0][:, None] + costs[1]
        lowest = np.minimum(low[0][:, None], low[1])
        highest = np.maximum(high[0][:, None], high[1])
    ratio = highest - lowest
    states: list[tuple[int, int, float, _State]] = []
    for trailing in {state.trailing, 0} if may_drop_newline else {state.trailing}:
        total = cost + (0 if newlines_are_free else trailing)
        allowed = (total <= room) & (ratio <= 1 + 1e-9)
        if not allowed.any():
            continue
        most = int(total[allowed].max())
        squarest = np.where(allowed & (total == most), ratio, np.inf)
        where = np.unravel_index(int(squarest.argmin()), squarest.shape)
        grids = tuple((int(s[0][i]), int(s[1][i])) for s, i in zip(shapes, where, strict=True))
        states.append(
            (most, trailing, -float(squarest[where]), replace(state, grids=grids, trailing=trailing))
        )
    return max(states, key=lambda entry: entry[:3])[3] if states else None


def _shapes(grid: tuple[int, int]) -> tuple[Any, Any, Any]:
    """Return rows and cols of all pooled sizes of a grid with factors within 2 of one another, and the factors."""
    rows, cols = (side.ravel() for side in np.meshgrid(*(np.arange(1, n + 1) for n in grid), indexing="ij"))
    scales = np.stack((rows / grid[0], cols / grid[1]))
    near = scales.max(0) <= scales.min(0) * 2 + 1e-9
    return rows[near], cols[near], scales[:, near]


def _places(layout: Layout) -> list[Tensor]:
    """Return the positions of the cells of each kind of grid: (copies, rows, cols)."""
    rows, cols = layout.views[0].rows, layout.views[0].cols
    if layout.modality == "video":
        return [rearrange(layout.table, "frame (row col) -> frame row col", row=rows, col=cols)]
    if layout.canvas is None:
        views = torch.stack([layout.table[view] for view in _filled(layout)])
        return [rearrange(views, "view (row col) -> view row col", row=rows, col=cols)]
    thumb = next(i for i, view in enumerate(layout.views) if view.kind in GLOBAL_VIEWS)
    cells = layout.canvas[0] * layout.canvas[1]
    off_canvas = layout.separator | (layout.view == thumb)
    cell = torch.where(off_canvas, cells, layout.row * layout.canvas[1] + layout.col)
    positions = torch.arange(len(layout), device=cell.device)
    return [
        _as_grid(layout.table[thumb, : layout.sizes[thumb]], layout.grid),
        _as_grid(cell.new_zeros(cells + 1).scatter(0, cell, positions)[:-1], layout.canvas),
    ]


def _filled(layout: Layout) -> list[int]:
    """Return the numbers of the views that have tokens; a crop of mere padding has none."""
    return [view for view, size in enumerate(layout.sizes) if size]


def _as_grid(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Reshape (rows * cols,) to one copy of a grid: (1, rows, cols)."""
    return rearrange(cells, "(row col) -> 1 row col", row=grid[0], col=grid[1])


def _pooled(features: Tensor, places: Tensor, size: tuple[int, int], copies: int) -> tuple[Tensor, Tensor]:
    """Pool cells (copies', rows, cols): positions (copies, *size), and features (copies, *size, D)."""
    dtype, width = working_dtype(features), features.shape[1]
    step = rows_per_block(features, places[0].numel() * width)
    parts = []
    for some in torch.split(places, step):
        cells = rearrange(features[some].to(dtype), "copy row col d -> copy d row col")
        parts.append(rearrange(adaptive_avg_pool2d(cells, size), "copy d row col -> copy row col d"))
    pooled = torch.cat(parts)
    if copies < places.shape[0]:
        series = rearrange(pooled, "copy row col d -> 1 (row col d) copy")
        row, col = size
        pooled = rearrange(
            adaptive_avg_pool1d(series, copies), "1 (row col d) copy -> copy row col d", row=row, col=col
        )
    for axis, (old, new) in enumerate(zip(places.shape, (copies, *size), strict=True)):
        i = torch.arange(new, device=places.device)
        places = places.index_select(axis, (2 * i + 1) * old // (2 * new))
    return places, pooled.to(features.dtype)


@lru_cache(maxsize=512)
def _masses(places: tuple[int, ...], pooled: tuple[int, ...]) -> Any:
    """Return (copies * row * col,) float32: how many of the cells (copies', rows, cols) each pooled cell stands for."""
    mass = np.ones(1)
    for old, new in zip(places, pooled, strict=True):
        number, cell = np.arange(new)[:, None], np.arange(old)
        member = (number * old // new <= cell) & (cell * new < (number + 1) * old)
        weight = member / member.sum(1, keepdims=True)
        mass = np.multiply.outer(mass, (weight / weight.sum(0)).sum(1))
    return mass.astype(np.float32).ravel()

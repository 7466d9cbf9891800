"""Control: spatial average pooling, as finely graded as the grids allow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from ..budget import Plan
from ..moments import DEVICE_BLOCK, working_dtype
from ..registry import register_method
from ..selection import Selection
from ..views import Layout, Modality, VisualTokens
from .base import Method, tokens_to_keep


@dataclass(frozen=True)
class _State:
    """Sizes after pooling: (rows, cols) of each kind of grid, how many copies of each, and what newlines stay."""

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
class Pool(Method):
    """Average pooling over space: thumbnail, crop canvas and frames shrink together.

    One scale runs down from 1 and every grid follows it, one dimension at a time, until the count fits: a side of
    D tokens shrinks to k when the scale reaches k / D. Each pooled row keeps one newline (if the plan has any). Where
    a single token per view is still too many, newlines go first, then crops, and frames are averaged over time.
    """

    name: ClassVar[str] = "pool"
    summary: ClassVar[str] = "spatial average pooling; over time too when one token per frame is too many"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    exact: ClassVar[bool] = False

    def select(self, tokens: VisualTokens, plan: Plan) -> Selection:
        """Pooled features, each at the position of the source token at the pooled cell's centre."""
        layout = tokens.layout
        if plan.budget == 0:
            return Selection(layout.view.new_zeros(0))
        start = _start(layout, plan)
        state = _reach(start, layout, plan)
        if state == start:  # nothing to average: the tokens themselves
            index = (
                torch.arange(len(layout), device=layout.view.device)
                if plan.separators
                else layout.token_index
            )
            return Selection(index)
        newline_of_line = layout.view.new_zeros(layout.num_lines + 1)
        newline_of_line[layout.line[layout.separator_index]] = layout.separator_index
        positions, features = [], []
        for number, places in enumerate(_places(layout)[: len(state.grids)]):
            index, pooled = _pooled(tokens.features, places, state.grids[number], state.copies[number])
            positions.append(index.flatten())
            features.append(pooled.flatten(0, 2))
            if state.newline[number] != "none":
                last = index[:, :, -1] if state.newline[number] == "row" else index[:, -1:, -1]
                positions.append(newline_of_line[layout.line[last.flatten()]])
                features.append(tokens.features[positions[-1]])
        if state.trailing:
            positions.append(layout.separator_index[-1:])
            features.append(tokens.features[positions[-1]])
        index = torch.cat(positions)
        order = torch.argsort(index)
        return Selection(index[order], torch.cat(features)[order])


def _start(layout: Layout, plan: Plan) -> _State:
    """The unpooled sizes. Newlines are left out altogether when the plan has none."""
    wanted, views = plan.separators > 0, len(layout.views)
    if layout.modality == "video":
        each, rest = divmod(layout.num_separators, views)
        rows = (layout.views[0].rows, layout.views[0].cols)
        newline = "none" if not wanted or rest or not each else "row" if each == rows[0] else "grid"
        return _State((rows,), (views,), (newline,), int(wanted and newline == "none"))
    if layout.canvas is None:
        return _State((layout.grid,), (1,), ("none",), int(wanted))
    newline = "row" if wanted else "none"
    return _State((layout.grid, layout.canvas), (1, 1), ("none", newline), 0)


def _reach(state: _State, layout: Layout, plan: Plan) -> _State:
    """Follow the scale down to the first state that fits."""
    reference = plan.policy == "reference"  # there every separator comes on top of the budget
    room = tokens_to_keep(layout, plan) if reference else plan.budget

    def fits(candidate: _State) -> bool:
        return candidate.tokens() + (0 if reference else candidate.separators()) <= room

    sides = [(grid, axis) for grid in range(len(state.grids)) for axis in (0, 1)]
    steps = sorted(
        (-Fraction(k, state.grids[grid][axis]), order, k)
        for order, (grid, axis) in enumerate(sides)
        for k in range(1, state.grids[grid][axis])
    )
    for _, order, k in steps:
        if fits(state):
            return state
        grid, axis = sides[order]
        size = list(state.grids[grid])
        size[axis] = k
        state = replace(state, grids=(*state.grids[:grid], (size[0], size[1]), *state.grids[grid + 1 :]))
    if fits(state):
        return state
    if not reference:
        state = replace(state, newline=("none",) * len(state.grids), trailing=0)
    if not fits(state) and len(state.grids) > 1:
        state = _State(state.grids[:1], state.copies[:1], state.newline[:1], state.trailing)
    return state if fits(state) else replace(state, copies=(min(room, state.copies[0]), *state.copies[1:]))


def _places(layout: Layout) -> list[Tensor]:
    """Positions of the cells of each kind of grid: (copies, rows, cols)."""
    rows, cols = layout.views[0].rows, layout.views[0].cols
    if layout.modality == "video":
        return [layout.table.view(-1, rows, cols)]
    thumb = next(i for i, view in enumerate(layout.views) if view.kind == "thumbnail")
    places = [layout.table[thumb, : layout.sizes[thumb]].view(1, *layout.grid)]
    if layout.canvas is not None:
        cells = layout.canvas[0] * layout.canvas[1]
        off_canvas = layout.separator | (layout.view == thumb)
        cell = torch.where(off_canvas, cells, layout.row * layout.canvas[1] + layout.col)
        positions = torch.arange(len(layout), device=cell.device)
        places.append(cell.new_zeros(cells + 1).scatter(0, cell, positions)[:-1].view(1, *layout.canvas))
    return places


def _pooled(features: Tensor, places: Tensor, size: tuple[int, int], copies: int) -> tuple[Tensor, Tensor]:
    """Pool cells (copies', rows, cols): positions (copies, *size), and features (copies, *size, D)."""
    dtype, width = working_dtype(features), features.shape[1]
    step = max(1, DEVICE_BLOCK // max(1, places[0].numel() * width * dtype.itemsize))
    parts = []
    for some in torch.split(places, step):
        cells = features[some].to(dtype).permute(0, 3, 1, 2)
        parts.append(adaptive_avg_pool2d(cells, size).permute(0, 2, 3, 1))
    pooled = torch.cat(parts)
    if copies < places.shape[0]:
        series = pooled.flatten(1).t()[None]
        pooled = adaptive_avg_pool1d(series, copies)[0].t().reshape(copies, *pooled.shape[1:])
    for axis, (old, new) in enumerate(zip(places.shape, (copies, *size), strict=True)):
        i = torch.arange(new, device=places.device)
        places = places.index_select(axis, (2 * i + 1) * old // (2 * new))
    return places, pooled.to(features.dtype)

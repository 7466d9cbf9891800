"""Maps have every token that was sent at its own place, and nothing else; runs of lengths give the mask again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from layouts import IMAGES, VIDEOS
from vidcompress.core.layout import Layout
from vidcompress.core.report import VisualReport
from vidcompress.core.report.maps import mask_of, runs_of
from vidcompress.errors import ArgumentError

LAYOUTS = {**IMAGES, **VIDEOS}


def report_of(layout: Layout, entries: torch.Tensor) -> VisualReport:
    return VisualReport.from_selection(layout, layout.source[entries], budget=len(entries))


def some_entries(layout: Layout, seed: int = 0) -> torch.Tensor:
    draw = torch.rand(len(layout), generator=torch.Generator().manual_seed(seed))
    return torch.nonzero(draw < 0.3).flatten()


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12)))
def test_runs_give_the_mask_again(mask: Any) -> None:
    runs = runs_of(mask)
    assert np.array_equal(mask_of(runs, mask.shape), mask)
    assert sum(runs) == mask.size and all(run > 0 for run in runs[1:])
    if mask.size:  # the control: the other cells
        assert not np.array_equal(mask_of([0, *runs] if runs[0] else runs[1:], mask.shape), mask)


@pytest.mark.parametrize("runs", [[3], [5, -1], [2.0, 2.0], [True] * 4, "4", None, [1, 2, 3]])
def test_other_runs_are_refused(runs: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"runs=.*must be whole numbers of at least 0 that sum to 2 x 2 = 4"
    ):
        mask_of(runs, (2, 2))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_token_sent_lies_at_its_own_place(name: str) -> None:
    layout = LAYOUTS[name]
    entries = some_entries(layout)
    maps = report_of(layout, entries).maps
    assert [view.grid for view in maps] == [(view.rows, view.cols) for view in layout.views]
    assert [int(view.cells.sum()) for view in maps] == list(layout.sizes)
    told = []
    for number, view in enumerate(maps):
        mine = torch.nonzero(layout.view == number).flatten()
        if not len(mine):
            continue
        first = (int(layout.row[mine].min()), int(layout.col[mine].min()))
        for row, col in zip(*np.nonzero(view.kept), strict=True):
            there = (layout.row == int(row) + first[0]) & (layout.col == int(col) + first[1])
            told += torch.nonzero(there & (layout.view == number)).flatten().tolist()
    sent = [int(entry) for entry in entries if not layout.separator[entry]]
    assert sorted(told) == sent
    others = report_of(
        layout, torch.tensor([n for n in range(len(layout)) if n not in set(entries.tolist())])
    ).maps
    for view, other in zip(maps, others, strict=True):
        assert np.array_equal(other.kept, view.cells & ~view.kept)


@pytest.mark.parametrize("name", LAYOUTS)
def test_scores_masses_and_stages_lie_where_their_tokens_lie(name: str) -> None:
    layout = LAYOUTS[name]
    entries = some_entries(layout)
    visual = report_of(layout, entries)
    visual.scores = torch.full((layout.full_length,), torch.nan)
    visual.scores[layout.source] = torch.arange(len(layout), dtype=torch.float32)
    visual.mass = torch.where(layout.separator[entries], 1.0, entries + 1.0).float()
    left = torch.arange(len(entries)) % 2 == 0
    visual.left = lambda: {2: left}
    for view in visual.maps:
        scores, mass, stage = view.scores, view.mass, view.stages[2]
        assert scores is not None and mass is not None
        assert np.array_equal(np.isnan(scores), ~view.cells)
        assert np.array_equal(mass > 0, view.kept)
        assert np.array_equal(mass[view.kept], scores[view.kept] + 1)
        assert not (stage & ~view.kept).any()
        own = {int(n) for n in scores[stage]}
        assert own == {int(n) for n in entries[left]} & {int(n) for n in scores[view.kept]}


def test_a_crop_lies_where_the_overlay_draws_it() -> None:
    layout = IMAGES["two by two"]
    visual = report_of(layout, some_entries(layout))
    assert layout.canvas is not None
    rows, cols = layout.canvas
    together = np.zeros((rows * 6, cols * 6), np.bool_)
    crops = [view for view in visual.maps if view.kind == "crop"]
    for view in crops:
        together |= view.on_picture(view.kept, *together.shape)
    whole = np.zeros((rows, cols), np.bool_)
    for entry in visual.kept_entries:
        if layout.views[min(int(layout.view[entry]), len(layout.views) - 1)].kind == "crop":
            if not layout.separator[entry]:
                whole[int(layout.row[entry]), int(layout.col[entry])] = True
    assert np.array_equal(together, whole.repeat(6, 0).repeat(6, 1))
    assert not np.array_equal(together, np.roll(together, 6, axis=1))
    scores = np.ones(crops[0].grid, np.float32)
    assert np.isnan(crops[0].on_picture(scores, *together.shape)).any()


def test_what_cannot_be_placed_is_refused() -> None:
    visual = report_of(VIDEOS["one newline"], torch.arange(3))
    view = visual.maps[0]
    with pytest.raises(ArgumentError, match=r"values=.*must be an array \(\d+, \d+\) as the view's grid"):
        view.on_picture(np.ones((1, 1), np.bool_), 4, 4)
    with pytest.raises(ArgumentError, match="height"):
        view.on_picture(view.kept, 0, 4)
    lost = type(view)("crop", None, None, view.cells, view.kept)
    with pytest.raises(ArgumentError, match="place=None: where this crop lies in the picture is not known"):
        lost.on_picture(lost.kept, 4, 4)

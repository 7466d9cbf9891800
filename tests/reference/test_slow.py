"""The package against an independent loop-style reference, on drawn inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import CLS, IMAGES, LAYOUTS, VIDEOS, make_tokens
from reference import slow
from vidcompress.core.batch import VisualBatch
from vidcompress.core.layout import GLOBAL_VIEWS, Layout
from vidcompress.core.reductions import distances
from vidcompress.core.scoring import Commander, allocate, commander_of_image, token_scores
from vidcompress.core.selection import largest_remainder
from vidcompress.methods.globalcom2 import GlobalCom2
from vidcompress.testing import select_alone

SMALL_VIDEOS = {name: layout for name, layout in VIDEOS.items() if len(layout) < 500}


def _thumb_grid(values: list[float], layout: Layout) -> list[list[float]]:
    rows, cols = layout.grid
    return [values[r * cols : (r + 1) * cols] for r in range(rows)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_largest_remainder_equals_exact_arithmetic(data: st.DataObject) -> None:
    caps = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=9))
    # Weights with few binary digits keep the float shares away from rounding ambiguity at exact ties.
    weights = [w / 8 for w in data.draw(st.lists(st.integers(0, 64), min_size=len(caps), max_size=len(caps)))]
    total = data.draw(st.integers(0, sum(caps)))
    counts = largest_remainder(torch.tensor(weights, dtype=torch.float64), total, torch.tensor(caps)).tolist()
    wanted = slow.largest_remainder(weights, total, caps)
    assert sum(counts) == total
    assert all(0 <= n <= cap for n, cap in zip(counts, caps, strict=True))
    assert sum(abs(a - b) for a, b in zip(counts, wanted, strict=True)) <= 2, (
        "only an exact tie may fall the other way"
    )
    if counts != wanted:
        shares_tie(weights, caps, counts, wanted)


def shares_tie(weights: list[float], caps: list[int], counts: list[int], wanted: list[int]) -> None:
    """The two views that differ must have equal remainders up to float64 rounding."""
    gaining = next(j for j in range(len(caps)) if counts[j] > wanted[j])
    losing = next(j for j in range(len(caps)) if counts[j] < wanted[j])
    total = sum(counts)
    rest = [(j, w) for j, w in enumerate(weights) if caps[j]]
    assert rest
    assert total >= 0
    unit = _unit(weights, caps, total)
    a, b = unit * weights[gaining], unit * weights[losing]
    assert a % 1 == pytest.approx(b % 1, abs=1e-6)


def _unit(weights: list[float], caps: list[int], total: int) -> float:
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        if sum(min(c, middle * w) for w, c in zip(weights, caps, strict=True)) < total:
            low = middle
        else:
            high = middle
    return low


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16), ids=str)
@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if len(layout) < 500])
def test_distances_match(name: str, dtype: torch.dtype) -> None:
    tokens = make_tokens(LAYOUTS[name], dtype=dtype)
    groups = slow.cells_of(tokens.layout)
    features = tokens.features.double().tolist()
    far = distances(VisualBatch([tokens]), whole=True)
    assert far.whole is not None
    everything = [sorted(i for group in groups for i in group)]
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    assert far.view.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for ours, theirs in (
        (far.view, slow.cosine_distances(features, groups)),
        (far.whole, slow.cosine_distances(features, everything)),
    ):
        for i, value in theirs.items():
            assert ours[i].item() == pytest.approx(value, abs=tolerance)


@pytest.mark.parametrize("policy", ("exact", "reference"))
@pytest.mark.parametrize("allocation", ("softmax_sum", "softmax_max"))
@pytest.mark.parametrize("name", IMAGES)
def test_image_rates_match(name: str, allocation: Any, policy: Any) -> None:
    layout = IMAGES[name]
    for seed in range(3):
        values = make_tokens(layout, seed=seed, dtype=torch.float64).evidence[CLS]
        commander = commander_of_image(values, layout)
        grid = _thumb_grid(values.tolist(), layout)
        worth: list[float | None] = []
        for view, size in zip(layout.views, layout.sizes, strict=True):
            box = view.nominal_box if policy == "reference" else view.box
            if view.kind in GLOBAL_VIEWS or (policy == "exact" and size == 0) or box is None:
                worth.append(None)
            else:
                cells = slow.covered(grid, box)
                if allocation == "softmax_sum":
                    worth.append(sum(area * value for area, value in cells))
                else:
                    worth.append(max((value for _, value in cells), default=0.0))
        wanted = slow.rates(worth, 0.3, 2.0)
        ours, _ = allocate(commander, layout, 0.3, allocation=allocation, tau=2.0, policy=policy)
        assert ours.tolist() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("name", SMALL_VIDEOS)
def test_video_rates_and_scores_match(name: str) -> None:
    tokens = make_tokens(VIDEOS[name], dtype=torch.float64)
    layout, groups = tokens.layout, slow.cells_of(tokens.layout)
    features = tokens.features.tolist()
    whole = slow.cosine_distances(features, [sorted(i for group in groups for i in group)])
    own = slow.cosine_distances(features, groups)
    worth: list[float | None] = [sum(whole[i] for i in group) for group in groups]
    commander, local = GlobalCom2().global_and_local(VisualBatch([tokens]))
    rates, importance = allocate(Commander(commander), layout, 0.2)
    assert rates.tolist() == pytest.approx(slow.rates(worth, 0.2, 10.0), abs=1e-12)
    assert importance is not None and importance.tolist() == pytest.approx(worth, abs=1e-9)
    scores = token_scores(commander, local, layout, score="holistic", alpha=0.3)
    global_hat, local_hat = slow.hats(whole, groups), slow.hats(own, groups)
    for i in whole:
        assert scores[i].item() == pytest.approx(0.3 * global_hat[i] + 0.7 * local_hat[i], abs=1e-10)


@pytest.mark.parametrize("name", IMAGES)
def test_image_scores_match(name: str) -> None:
    layout = IMAGES[name]
    values = make_tokens(layout, seed=3, dtype=torch.float64).evidence[CLS]
    groups = slow.cells_of(layout)
    grid = _thumb_grid(values.tolist(), layout)
    ours = token_scores(
        commander_of_image(values, layout).tokens, values, layout, score="holistic", alpha=0.5
    )
    for i in groups[0]:
        assert ours[i].item() == values[i].item(), "the thumbnail is scored by the commander alone"
    if layout.canvas is None:
        return
    top, left, height, width = layout.picture or (0, 0, *layout.canvas)
    seen, worst = slow.bilinear(grid, height, width), min(map(min, grid))
    large = [
        [
            seen[r - top][c - left] if top <= r < top + height and left <= c < left + width else worst
            for c in range(layout.canvas[1])
        ]
        for r in range(layout.canvas[0])
    ]
    rows, cols = layout.row.tolist(), layout.col.tolist()
    resized = {i: large[rows[i]][cols[i]] for group in groups[1:] for i in group}
    global_hat = slow.hats(resized, groups[1:])
    local_hat = slow.hats({i: values[i].item() for i in resized}, groups[1:])
    for i in resized:
        assert ours[i].item() == pytest.approx(0.5 * global_hat[i] + 0.5 * local_hat[i], abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(LAYOUTS)), st.integers(0, 10_000), st.floats(0.02, 0.98))
def test_exact_selection_is_split_then_top(name: str, seed: int, share: float) -> None:
    from vidcompress.core.budget import VisualBudget

    layout = LAYOUTS[name]
    tokens = make_tokens(layout, seed=seed, dtype=torch.float64)
    count = int(share * layout.num_tokens)
    budget = VisualBudget(len(layout), count, 0, share)
    method = GlobalCom2(tiles=1)  # tests/unit/methods/test_tiles.py has tiles token by token
    scores, allotment = method.scores(VisualBatch([tokens]), [budget])
    counts = slow.largest_remainder(allotment.weights.tolist(), count, list(layout.sizes))
    values = dict(enumerate(scores.tolist()))
    wanted = sorted(
        i for group, n in zip(slow.cells_of(layout), counts, strict=True) for i in slow.top(values, group, n)
    )
    index = select_alone(method, tokens, budget).index.tolist()
    assert len(index) == count
    if index != wanted:  # only an exact tie of remainders may be decided by the last bit
        assert len(set(index) ^ set(wanted)) <= 2

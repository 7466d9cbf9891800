"""Virtual tiles of `globalcom2`: an image at native resolution, cut and allotted as crops are, or left whole."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest
import torch

from layouts import CLS, IMAGES, LAYOUTS, VIDEOS, make_tokens
from vidcompress.adapters.layouts import image_layout, native_layout
from vidcompress.adapters.layouts import tiled_layout as layout_of_crops
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.layout import Layout, View
from vidcompress.core.method_lookup import get_method
from vidcompress.core.report import Report, VisualReport
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import LazyTokens, VisualTokens
from vidcompress.errors import ArgumentError
from vidcompress.methods.globalcom2 import GlobalCom2
from vidcompress.ops.virtual_tiles import pooled_grid, tile_grid, tiled_layout
from vidcompress.testing import select_alone

GRIDS = [(5, 7), (7, 5), (4, 4), (1, 9), (9, 1), (13, 17), (24, 24), (31, 8), (2, 40)]
NATIVE = {f"{rows} x {cols}": native_layout((rows, cols)) for rows, cols in GRIDS}
NATIVE["with a newline"] = replace(image_layout((5, 7)), views=(View("image", 5, 7),))
THUMBNAILS = {
    "LLaVA-1.5": image_layout((24, 24), newline=False),
    "LLaVA-NeXT, the thumbnail alone": image_layout((24, 24)),
    "InternVL, one tile": layout_of_crops((16, 16), (1, 1)),
    "one view": IMAGES["one view"],
}
LONE = {**NATIVE, **THUMBNAILS}


def plan(layout: Layout, ratio: float = 0.25, policy: Any = "exact") -> VisualBudget:
    budget = max(1, math.floor(ratio * len(layout) + 0.5))
    separators: Any = "keep" if policy == "reference" else "thin"
    return visual_budget(layout, budget, ratio=Fraction(ratio), separators=separators, policy=policy)


def own_evidence(tokens: VisualTokens, evidence: str) -> list[float]:
    """Of every token: its logits, or minus the cosine to the mean of the normalised tokens; without a method."""
    if evidence == "cls_logits":
        return [float(value) for value in tokens.evidence[CLS].float()]
    rows = tokens.features.double() / tokens.features.double().norm(dim=1, keepdim=True)
    mean = rows[~tokens.layout.separator].mean(0)
    return [float(value) for value in -(rows @ mean) / mean.norm()]


@pytest.mark.parametrize("evidence", ["cls_logits", "distance"])
@pytest.mark.parametrize("name", LONE)
def test_one_view_keeps_its_best_tokens_by_its_own_evidence(name: str, evidence: Any) -> None:
    """And nothing that a commander would decide makes a difference."""
    tokens = make_tokens(LONE[name])
    layout, budget = tokens.layout, plan(LONE[name])
    values = own_evidence(tokens, evidence)
    places = [n for n in range(len(layout)) if not layout.separator[n]]
    best = sorted(sorted(places, key=lambda n: (-values[n], n))[: budget.tokens])
    each: list[dict[str, Any]] = [
        {},
        {"tau": 0.1, "alpha": 0.0},
        {"allocation": "topk"},
        {"allocation": "gated"},
        {"score": "local"},
        {"score": "global"},
    ]
    for options in [{"tiles": 1, **one} for one in each] + (each if name in THUMBNAILS else []):
        selection = select_alone(get_method("globalcom2", evidence=evidence, **options), tokens, budget)
        kept = [n for n in selection.index.tolist() if not layout.separator[n]]
        assert kept == best, options
        assert selection.allotment is not None and selection.allotment.tiles is None


def slow_selection(
    tokens: VisualTokens, count: int, budget: VisualBudget, tau: float, evidence: str
) -> list[int]:
    """What tiles keep, by the formulas, token by token."""
    layout = tokens.layout
    rows, cols = layout.grid
    tiles = tile_grid((rows, cols), count)
    assert tiles is not None
    tops, lefts = ([n * side // k for n in range(k + 1)] for side, k in ((rows, tiles[0]), (cols, tiles[1])))
    at = {
        (int(r), int(c)): n
        for n, (r, c) in enumerate(zip(layout.row, layout.col, strict=True))
        if not layout.separator[n]
    }
    values = own_evidence(tokens, evidence)
    high, wide = pooled_grid((rows, cols))

    def mean_of(p: int, q: int) -> float:
        over = [
            values[at[r, c]]
            for r in range(p * rows // high, -(-(p + 1) * rows // high))
            for c in range(q * cols // wide, -(-(q + 1) * cols // wide))
        ]
        return sum(over) / len(over)

    pooled = [[mean_of(p, q) for q in range(wide)] for p in range(high)]

    def between(place: float, size: int) -> tuple[int, int, float]:
        place = max(place, 0.0)
        low = min(int(place), size - 1)
        return low, min(low + 1, size - 1), place - low

    def commander(r: int, c: int) -> float:
        a, b, f = between((r + 0.5) * high / rows - 0.5, high)
        x, y, g = between((c + 0.5) * wide / cols - 0.5, wide)
        upper = pooled[a][x] * (1 - g) + pooled[a][y] * g
        lower = pooled[b][x] * (1 - g) + pooled[b][y] * g
        return upper * (1 - f) + lower * f

    def cover(low: float, high: float, cell: int) -> float:
        return max(0.0, min(high, cell + 1) - max(low, cell))

    boxes = [(tops[i], lefts[j], tops[i + 1], lefts[j + 1]) for i in range(tiles[0]) for j in range(tiles[1])]
    sums = [
        sum(
            pooled[p][q]
            * cover(t * high / rows, b * high / rows, p)
            * cover(le * wide / cols, r * wide / cols, q)
            for p in range(high)
            for q in range(wide)
        )
        for t, le, b, r in boxes
    ]
    powers = [math.exp((s - max(sums)) / tau) for s in sums]
    sigma = [power / (sum(powers) + 1e-8) for power in powers]
    sizes = [(b - t) * (r - le) for t, le, b, r in boxes]
    weights = [
        n * min(1.0, budget.ratio * (1 + s - sum(sigma) / len(sigma)))
        for n, s in zip(sizes, sigma, strict=True)
    ]
    shares = [budget.tokens * weight / sum(weights) for weight in weights]
    assert all(share <= size for share, size in zip(shares, sizes, strict=True)), (
        "chosen so that no tile is full"
    )
    counts = [int(share) for share in shares]
    order = sorted(range(count), key=lambda n: (counts[n] - shares[n], n))
    for n in order[: budget.tokens - sum(counts)]:
        counts[n] += 1
    kept = []
    for (t, le, b, r), number in zip(boxes, counts, strict=True):
        inside = [(i, j) for i in range(t, b) for j in range(le, r)]
        own = [values[at[cell]] for cell in inside]
        if evidence == "distance":
            own = _to_the_mean(tokens, [at[cell] for cell in inside])
        over = [commander(*cell) for cell in inside]
        scale, own_scale = (math.sqrt(sum(x * x for x in xs)) for xs in (over, own))
        scores = [0.5 * a / scale + 0.5 * b / own_scale for a, b in zip(over, own, strict=True)]
        best = sorted(range(len(inside)), key=lambda n: (-scores[n], n))[:number]
        kept += [at[inside[n]] for n in best]
    return sorted(kept)


def _to_the_mean(tokens: VisualTokens, places: list[int]) -> list[float]:
    rows = tokens.features[places].double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    mean = rows.mean(0)
    return (-(rows @ mean) / mean.norm()).tolist()


@pytest.mark.parametrize("evidence", ["cls_logits", "distance"])
@pytest.mark.parametrize("count", [2, 4, 6])
@pytest.mark.parametrize("name", ["5 x 7", "13 x 17", "24 x 24", "31 x 8", "with a newline"])
def test_tiles_are_allotted_and_scored_by_the_formulas(name: str, count: int, evidence: Any) -> None:
    tokens, budget = make_tokens(NATIVE[name], seed=3, dtype=torch.float64), plan(NATIVE[name], 0.3)
    selection = select_alone(GlobalCom2(tiles=count, tau=3.0, evidence=evidence), tokens, budget)
    kept = [n for n in selection.index.tolist() if not tokens.layout.separator[n]]
    assert kept == slow_selection(tokens, count, budget, 3.0, evidence)
    other = select_alone(GlobalCom2(tiles=1, evidence=evidence), tokens, budget)
    whole = [n for n in other.index.tolist() if not tokens.layout.separator[n]]
    assert kept != whole or len(tokens) < 100, (
        "another selection than whole; of few tokens it may be the same"
    )


def test_five_by_seven_in_four() -> None:
    """Odd sides: tiles of 2 x 3, 2 x 4, 3 x 3 and 3 x 4, and the budget to the token at every size."""
    layout = NATIVE["5 x 7"]
    tiled = tiled_layout(layout, 4)
    assert tiled is not None
    assert tiled.sizes == (6, 8, 9, 12) and tiled.grid == tiled.canvas == (5, 7)
    assert [view.box for view in tiled.views] == [(0, 0, 2, 3), (0, 3, 2, 7), (2, 0, 5, 3), (2, 3, 5, 7)]
    tokens = make_tokens(layout)
    for budget in range(36):
        selection = select_alone(GlobalCom2(tiles=4, tau=0.5), tokens, visual_budget(layout, budget))
        assert len(selection) == len(set(selection.index.tolist())) == budget
        assert selection.index.tolist() == sorted(selection.index.tolist())


@pytest.mark.parametrize("count", [2, 3, 4, 6, 9, 12])
@pytest.mark.parametrize("name", NATIVE)
def test_tiles_cover_the_view(name: str, count: int) -> None:
    layout = NATIVE[name]
    rows, cols = layout.views[0].rows, layout.views[0].cols
    tiled = tiled_layout(layout, count)
    if tiled is None:
        assert all(count % n or n > rows or count // n > cols for n in range(1, count + 1))
        return
    assert len(tiled.views) == count and min(tiled.sizes) >= 1
    assert torch.bincount(tiled.view, minlength=count + 1).tolist() == [*tiled.sizes, layout.num_separators]
    high, wide = tiled.grid
    area = sum((b - t) * (r - le) for t, le, b, r in (view.box or (0, 0, 0, 0) for view in tiled.views))
    assert area == pytest.approx(high * wide)
    for view, row, col, separator in zip(
        tiled.view.tolist(), layout.row, layout.col, layout.separator, strict=True
    ):
        if separator:
            assert view == count
            continue
        top, left, bottom, right = tiled.views[view].box or (0, 0, 0, 0)
        assert top - 1e-9 <= row * high / rows and (row + 1) * high / rows <= bottom + 1e-9
        assert left - 1e-9 <= col * wide / cols and (col + 1) * wide / cols <= right + 1e-9
    assert high <= rows and wide <= cols and tiled.canvas == (rows, cols)


@pytest.mark.parametrize(
    ("grid", "count", "tiles"),
    [
        ((5, 7), 4, (2, 2)),
        ((10, 40), 4, (1, 4)),
        ((40, 10), 4, (4, 1)),
        ((24, 24), 6, (2, 3)),  # 3 x 2 is as near: the one of fewer rows
        ((30, 20), 6, (3, 2)),
        ((24, 24), 5, (1, 5)),
        ((1, 9), 4, (1, 4)),
        ((9, 1), 4, (4, 1)),
        ((3, 1), 4, None),
        ((2, 2), 5, None),
        ((3, 3), 1, (1, 1)),
    ],
)
def test_rows_and_columns_of_tiles(grid: Any, count: int, tiles: Any) -> None:
    assert tile_grid(grid, count) == tiles


def test_the_commander_has_about_144_places() -> None:
    assert [pooled_grid(grid) for grid in ((24, 24), (5, 7), (12, 12), (40, 10), (37, 59))] == [
        (12, 12),
        (5, 7),
        (12, 12),
        (24, 6),
        (10, 15),
    ]


def test_a_louder_tile_gets_more_and_an_even_allocation_does_not() -> None:
    layout = NATIVE["24 x 24"]
    tokens = make_tokens(layout)
    loud = (layout.row >= 12) & (layout.col < 12)  # the third of 2 x 2
    values = tokens.evidence[CLS] + loud * 1.0
    tokens = VisualTokens(tokens.features, layout, {CLS: values})
    reports = {
        allocation: report_of(GlobalCom2(tiles=4, allocation=allocation, evidence="cls_logits"), tokens)
        for allocation in ("softmax_sum", "softmax_max", "topk", "gated", "uniform")
    }
    for allocation in ("softmax_sum", "topk", "gated"):
        kept = [tile.kept for tile in reports[allocation].tiles]
        assert kept[2] == max(kept) > 36 and sum(kept) == 144, allocation
    assert [tile.kept for tile in reports["uniform"].tiles] == [36] * 4
    assert min(tile.kept for tile in reports["gated"].tiles) == 0


def report_of(method: Any, tokens: VisualTokens) -> VisualReport:
    selection = select_alone(method, tokens, plan(tokens.layout))
    return VisualReport.from_selection(
        tokens.layout, selection.index, budget=len(selection), allotment=selection.allotment
    )


def test_the_report_tells_of_tiles() -> None:
    tokens = make_tokens(NATIVE["24 x 24"])
    visual = report_of(GlobalCom2(tiles=6), tokens)
    assert [(view.kind, view.total, view.kept, view.share) for view in visual.views] == [
        ("image", 576, 144, None)
    ]
    assert len(visual.tiles) == 6 and {tile.kind for tile in visual.tiles} == {"tile"}
    assert sum(tile.kept for tile in visual.tiles) == visual.kept == 144
    assert sum(tile.share or 0 for tile in visual.tiles) == pytest.approx(1)
    assert all(tile.importance is not None and tile.grid == (12, 8) for tile in visual.tiles)
    entry = json.loads(json.dumps(visual.to_dict()))
    assert [tile["kind"] for tile in entry["tiles"]] == ["tile"] * 6
    report = Report("globalcom2", visuals=[visual])
    lines = report.explain().splitlines()
    assert "commander: sum of the global view's scores over the view" in lines[1]
    assert [line.split()[:2] for line in lines[-6:]] == [["tile", str(n)] for n in range(1, 7)]
    counts = "  ".join(f"{tile.kept}/96" for tile in visual.tiles)
    assert report.text().splitlines()[1:] == ["  image 0: 144 of 576 (25.0 %)", f"    6 tiles      {counts}"]
    assert visual.note is None
    whole = report_of(GlobalCom2(tiles=1), tokens)
    assert whole.tiles == () and "tiles" not in whole.to_dict() and whole.note is None
    lines = Report("x", visuals=[whole]).text().splitlines()
    assert lines[1:] == ["  image 0: 144 of 576 (25.0 %)", "    image        144/576"]


def test_the_report_says_where_tiles_did_nothing() -> None:
    for method, grid, note in (
        (GlobalCom2(), (3, 1), "its 3 x 1 tokens cannot be cut into 4 tiles, so it is ranked as one view"),
        (
            GlobalCom2(tiles=5),
            (4, 4),
            "its 4 x 4 tokens cannot be cut into 5 tiles, so it is ranked as one view",
        ),
        (GlobalCom2(tiles=1), (3, 1), None),
        (GlobalCom2(), (4, 1), None),
    ):
        tokens = make_tokens(native_layout(grid))
        alone = report_of(method, tokens)
        assert alone.note == note and bool(alone.tiles) == (grid == (4, 1))
        for selection in method.select(VisualBatch([tokens] * 2), [plan(tokens.layout)] * 2):
            assert selection.allotment is not None and selection.allotment.note == (note or "")
    for name in THUMBNAILS:  # they never were to be cut
        assert report_of(GlobalCom2(), make_tokens(THUMBNAILS[name])).note is None


def test_the_note_of_a_method_follows_that_of_the_budget() -> None:
    layout = native_layout((3, 1))
    allotment = select_alone(GlobalCom2(), make_tokens(layout), plan(layout)).allotment
    index = torch.arange(1)
    both = VisualReport.from_selection(layout, index, budget=1, note="few tokens", allotment=allotment)
    assert allotment is not None and both.note == f"few tokens; {allotment.note}"


@pytest.mark.parametrize("name", [*LAYOUTS, *THUMBNAILS])
def test_nothing_but_native_pictures_is_cut(name: str) -> None:
    layout = {**LAYOUTS, **THUMBNAILS}[name]
    tokens, budget = make_tokens(layout), plan(layout)
    if name == "image, native resolution":
        assert tiled_layout(layout, 4) is not None
        return
    assert tiled_layout(layout, 4) is None
    plain, cut = (select_alone(GlobalCom2(tiles=tiles), tokens, budget) for tiles in (1, 4))
    assert torch.equal(plain.index, cut.index)
    assert cut.allotment is not None and cut.allotment.tiles is None


@pytest.mark.parametrize("evidence", ["auto", "distance"])
def test_a_batch_is_its_pictures_in_any_order(evidence: Any) -> None:
    method = GlobalCom2(tiles=4, tau=0.5, evidence=evidence)
    layouts = [
        NATIVE["5 x 7"],
        IMAGES["two by two"],
        NATIVE["24 x 24"],
        NATIVE["with a newline"],
        NATIVE["5 x 7"],
    ]
    tokens = [make_tokens(layout, seed=seed) for seed, layout in enumerate(layouts)]
    budgets = [plan(layout) for layout in layouts]
    alone = [select_alone(method, one, budget) for one, budget in zip(tokens, budgets, strict=True)]
    for order in list(permutations(range(5)))[::17]:
        together = method.select(VisualBatch([tokens[n] for n in order]), [budgets[n] for n in order])
        for n, one in zip(order, together, strict=True):
            same(one, alone[n])
    crops = [make_tokens(IMAGES["two by two"], seed=seed) for seed in range(3)]
    plans = [plan(one.layout) for one in crops]
    whole = GlobalCom2(tiles=1, tau=0.5, evidence=evidence).select(VisualBatch(crops), plans)
    for plain, cut in zip(whole, method.select(VisualBatch(crops), plans), strict=True):
        same(plain, cut)
        assert cut.allotment is not None and cut.allotment.tiles is None


def same(one: Selection, other: Selection) -> None:
    assert torch.equal(one.index, other.index)
    assert one.allotment is not None and other.allotment is not None
    assert torch.allclose(one.allotment.weights, other.allotment.weights, rtol=1e-12)
    assert (one.allotment.tiles is None) == (other.allotment.tiles is None)
    if one.allotment.tiles is not None and other.allotment.tiles is not None:
        assert one.allotment.tiles.sizes == other.allotment.tiles.sizes


def test_pictures_of_one_view_and_clips_in_their_own_batches() -> None:
    method = GlobalCom2(tiles=4)
    clips = [make_tokens(VIDEOS["no newline"], seed=seed) for seed in range(2)]
    plans = [plan(one.layout) for one in clips]
    for cut, plain in zip(
        method.select(VisualBatch(clips), plans),
        GlobalCom2(tiles=1).select(VisualBatch(clips), plans),
        strict=True,
    ):
        assert torch.equal(cut.index, plain.index)


def test_features_that_wait_for_the_projector_go_on_waiting() -> None:
    layout = NATIVE["24 x 24"]
    given = make_tokens(layout)

    def refuse(hidden: torch.Tensor) -> torch.Tensor:
        raise AssertionError("projected")

    lazy = LazyTokens(given.features, layout, {CLS: given.evidence[CLS]}, refuse, torch.zeros(12))
    method = GlobalCom2(tiles=4, evidence="cls_logits")
    assert torch.equal(
        select_alone(method, lazy, plan(layout)).index, select_alone(method, given, plan(layout)).index
    )
    assert lazy.layout is layout and given.layout is layout


def test_broken_evidence_still_meets_the_budget() -> None:
    layout = NATIVE["13 x 17"]
    tokens = make_tokens(layout)
    for value in (float("nan"), float("inf")):
        broken = tokens.evidence[CLS].clone()
        broken[::3] = value
        chosen = select_alone(
            GlobalCom2(tiles=6, evidence="cls_logits"),
            VisualTokens(tokens.features, layout, {CLS: broken}),
            plan(layout),
        )
        assert len(set(chosen.index.tolist())) == plan(layout).positions


@pytest.mark.parametrize("tiles", [0, -1, 1.5, True, "4", 145, None, float("nan")])
def test_numbers_of_tiles_that_are_refused(tiles: Any) -> None:
    with pytest.raises(ArgumentError, match="tiles must be an integer from 1 to 144, got "):
        GlobalCom2(tiles=tiles)


def test_the_authors_know_no_tiles() -> None:
    """Under `reference` nothing is cut, and the report says so where tiles were asked for."""
    layout = NATIVE["with a newline"]
    tokens, budget = make_tokens(layout), plan(layout, policy="reference")
    one, four = (select_alone(GlobalCom2(tiles=tiles), tokens, budget) for tiles in (1, 4))
    assert torch.equal(one.index, four.index) and len(one) > 0
    assert one.allotment is not None and four.allotment is not None
    assert four.allotment.tiles is None and one.allotment.note == ""
    note = "policy='reference' reproduces code without tiles, so it is ranked as one view"
    assert four.allotment.note == note
    assert not torch.equal(select_alone(GlobalCom2(), tokens, plan(layout)).index, one.index)


def test_the_default_is_four() -> None:
    tokens, budget = make_tokens(NATIVE["24 x 24"]), plan(NATIVE["24 x 24"])
    default, four, one = (
        select_alone(get_method("globalcom2", **options), tokens, budget)
        for options in ({}, {"tiles": 4}, {"tiles": 1})
    )
    assert torch.equal(default.index, four.index) and not torch.equal(default.index, one.index)
    assert default.allotment is not None and default.allotment.tiles is not None
    assert len(default.allotment.tiles.views) == 4

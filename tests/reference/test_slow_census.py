"""Census against its loops, on drawn inputs: identical sets and masses, one by one and in rounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from layouts import IMAGES, LAYOUTS, VIDEOS, make_tokens
from reference import slow_census as slow
from vidcompress.adapters.layouts import image_layout, video_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Layout
from vidcompress.core.tokens import VisualTokens
from vidcompress.methods.census import Census, places_of
from vidcompress.ops import coverage
from vidcompress.testing import select_alone

DIM = 8
DRAWN = settings(max_examples=25, deadline=None)


def draw_features(data: st.DataObject, count: int) -> Tensor:
    """(count, DIM) float64: numbers of few digits, with copies among the tokens, and sometimes broken ones."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    features = torch.randint(-8, 9, (count, DIM), generator=generator).double()
    features[:, 0] += 0.5  # no token is zero
    if count > 1 and data.draw(st.booleans()):
        source = torch.randint(0, count, (count // 2,), generator=generator)
        target = torch.randint(0, count, (count // 2,), generator=generator)
        features[target] = features[source]
    if data.draw(st.booleans()):
        features[int(torch.randint(0, count, (1,), generator=generator))] = data.draw(
            st.sampled_from([0.0, torch.nan, torch.inf])
        )
    return features


def draw_layout(data: st.DataObject) -> Layout:
    if data.draw(st.booleans()):
        return data.draw(st.sampled_from([layout for name, layout in IMAGES.items() if len(layout) < 100]))
    grid = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    return video_layout(
        data.draw(st.integers(1, 9)), grid, data.draw(st.sampled_from(["none", "end", "row"]))
    )


def plan_for(layout: Layout, count: int) -> VisualBudget:
    """Exactly `count` tokens and no separators."""
    return VisualBudget(len(layout), count, 0, count / max(1, layout.num_tokens))


def slow_points(tokens: VisualTokens, method: Census) -> slow.Points:
    step = coverage.grid_step(method.place, method.time, torch.float64)
    options = {"place": method.place, "time": method.time, "floor": method.floor}
    return slow.points(tokens.features.tolist(), tokens.layout, step, **options)


def ours(tokens: VisualTokens, method: Census, count: int) -> dict[int, float]:
    """Kept tokens, numbered without separators, and their masses."""
    selection = select_alone(method, tokens, plan_for(tokens.layout, count))
    number = {position: n for n, position in enumerate(tokens.layout.token_index.tolist())}
    assert selection.mass is not None
    pairs = zip(selection.index.tolist(), selection.mass.tolist(), strict=True)
    return {number[position]: mass for position, mass in pairs}


def draw_method(data: st.DataObject) -> Census:
    factor = st.sampled_from([0.0, 0.3, 1.0, 3.0])
    return Census(
        place=data.draw(factor), time=data.draw(factor), floor=data.draw(st.sampled_from([0.05, 0.2, 1.0]))
    )


@DRAWN
@given(st.data())
def test_the_same_tokens_and_masses_as_token_by_token(data: st.DataObject) -> None:
    layout = draw_layout(data)
    tokens, method = VisualTokens(draw_features(data, len(layout)), layout), draw_method(data)
    count = data.draw(st.integers(1, layout.num_tokens))
    of = slow_points(tokens, method)
    assert ours(tokens, method, count) == slow.masses(of, slow.one_by_one(of, count))


@DRAWN
@given(st.data())
def test_the_same_tokens_in_rounds(data: st.DataObject) -> None:
    """The limit and the size of a round are lowered, so that small inputs are chosen in rounds."""
    layout = draw_layout(data)
    tokens, method = VisualTokens(draw_features(data, len(layout)), layout), draw_method(data)
    rounds, part = data.draw(st.sampled_from([(3, 2), (6, 3), (12, 4)]))
    count = data.draw(st.integers(1, layout.num_tokens))
    of = slow_points(tokens, method)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ONE_BY_ONE", 0), ("ROUNDS", rounds), ("PART", part)):
            patch.setattr(coverage, name, value)
        patch.setattr("vidcompress.methods.census.ONE_BY_ONE", 0)
        kept = ours(tokens, method, count)
    expected = slow.in_rounds(of, count, method.gamma, rounds, part)
    assert kept == slow.masses(of, expected)


@pytest.mark.parametrize(
    "option, value", [("place", 0.0), ("place", 3.0), ("time", 0.0), ("time", 3.0), ("floor", 1.0)]
)
def test_other_options_are_other_tokens(option: str, value: float) -> None:
    """A control: the comparison above sees place, time and weight."""
    tokens = make_tokens(VIDEOS["newline per row"], dtype=torch.float64)
    method: Any = {option: value}
    of, count = slow_points(tokens, Census()), 30
    assert ours(tokens, Census(), count) == slow.masses(of, slow.one_by_one(of, count))
    assert set(ours(tokens, Census(**method), count)) != set(slow.one_by_one(of, count))


def test_the_heir_is_nearest_in_direction_and_not_in_place() -> None:
    tokens = make_tokens(IMAGES["landscape"], dtype=torch.float64)
    of, count = slow_points(tokens, Census()), 20
    kept = slow.one_by_one(of, count)
    masses = ours(tokens, Census(), count)
    assert masses == slow.masses(of, kept)
    assert masses != slow.masses(of, kept, by_place=True)


def test_projected_directions_are_the_same_tokens() -> None:
    """Twelve numbers to five by signs; a control without the projection keeps others."""
    layout = VIDEOS["one newline"]
    tokens = make_tokens(layout, dtype=torch.float64)
    signs = coverage.random_signs(12, 5, torch.device("cpu"), torch.float64)
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    lower = replace(tokens, features=tokens.features @ signs)
    of = slow_points(lower, Census())
    expected = slow.masses(of, slow.one_by_one(of, 25))
    assert ours(tokens, Census(width=5), 25) == expected
    assert set(ours(tokens, Census(), 25)) != set(expected)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_places_lie_in_the_whole_picture(layout: Layout) -> None:
    places = places_of(layout)
    assert places.shape == (len(layout), 3)
    assert bool((places >= 0).all() and (places <= 1).all())
    for position in layout.token_index.tolist():
        expected = slow.where(layout, position, 1.0, 1.0)
        assert places[position, : len(expected)].tolist() == pytest.approx(expected, abs=1e-12)


def test_thumbnail_and_crops_have_one_frame_of_reference() -> None:
    """The lower right cell of the last crop lies where that of the thumbnail does, but for the size of a cell."""
    layout = image_layout((6, 6), (2, 2))
    places = places_of(layout)[:, :2]
    thumbnail, crop = places[layout.table[0, -1]], places[layout.table[4, -1]]
    assert thumbnail.tolist() == pytest.approx([5.5 / 6] * 2)
    assert crop.tolist() == pytest.approx([11.5 / 12] * 2)
    boxed = replace(layout, canvas=None)
    inside = places_of(boxed)[boxed.table[1, 0], :2]
    assert inside.tolist() == pytest.approx([0.5 / 12] * 2), "by its box where there is no canvas"
    bare = replace(boxed, views=tuple(replace(view, box=None) for view in boxed.views))
    assert places_of(bare)[bare.table[1, 0], :2].tolist() == pytest.approx([0.5 / 6] * 2)


@DRAWN
@given(st.data())
def test_order_of_the_frames_tokens_does_not_matter(data: st.DataObject) -> None:
    """Without place and time, tokens in another order are the same tokens, where none tie."""
    layout = video_layout(4, (3, 4), "none")
    seed = data.draw(st.integers(0, 10_000))
    features = torch.randn(
        len(layout), DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    order = torch.randperm(len(layout), generator=torch.Generator().manual_seed(seed + 1))
    method, count = Census(place=0, time=0), data.draw(st.integers(1, len(layout)))
    plain, shuffled = (ours(VisualTokens(x, layout), method, count) for x in (features, features[order]))
    assert {int(order[n]): mass for n, mass in shuffled.items()} == plain


@DRAWN
@given(st.data())
def test_a_batch_is_each_alone(data: st.DataObject) -> None:
    """Visuals of many sizes and budgets, one by one and in rounds, float32."""
    layouts = [layout for layout in IMAGES.values() if len(layout) < 400]
    if data.draw(st.booleans()):
        layouts = [video_layout(frames, grid, "end") for frames in (1, 3, 40) for grid in ((3, 3), (4, 5))]
    drawn = data.draw(st.lists(st.sampled_from(layouts), min_size=2, max_size=4))
    visuals = [make_tokens(layout, seed=data.draw(st.integers(0, 50))) for layout in drawn]
    counts = [data.draw(st.integers(0, layout.num_tokens)) for layout in drawn]
    budgets = [plan_for(layout, count) for layout, count in zip(drawn, counts, strict=True)]
    method = Census(
        width=data.draw(st.sampled_from([6, 128])),
        weight=data.draw(st.sampled_from(["commander", "cls", "question"])),
        selection=data.draw(st.sampled_from(["coverage", "proportional"])),
    )
    for one in visuals:
        if data.draw(st.booleans()):
            one.evidence = {}
    limit = data.draw(st.sampled_from([512, 20]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage, "ONE_BY_ONE", limit)
        patch.setattr("vidcompress.methods.census.ONE_BY_ONE", limit)
        alone = [select_alone(method, one, budget) for one, budget in zip(visuals, budgets, strict=True)]
        together = method.select(VisualBatch(visuals), budgets)
    for one, other, layout, count in zip(alone, together, drawn, counts, strict=True):
        assert torch.equal(one.index, other.index) and len(one) == count
        assert one.mass is not None and other.mass is not None
        assert torch.equal(one.mass, other.mass)
        assert float(one.mass.sum()) == (layout.num_tokens if count else 0)

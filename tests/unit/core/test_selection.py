"""From scores to positions: splits, ranks, ties and separators."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import IMAGES, LAYOUTS, VIDEOS, make_tokens
from vidcompress.core.layout import Layout
from vidcompress.core.selection import (
    Selection,
    largest_remainder,
    rank_within_views,
    top_per_view,
    with_separators,
)


def split(weights: list[float], total: int, caps: list[int]) -> list[int]:
    return largest_remainder(torch.tensor(weights, dtype=torch.float64), total, torch.tensor(caps)).tolist()


@pytest.mark.parametrize(
    "weights, total, caps, wanted",
    [
        ([1, 1, 1], 3, [5, 5, 5], [1, 1, 1]),
        ([1, 1, 1], 4, [5, 5, 5], [2, 1, 1]),  # ties go to the earlier view
        ([1, 2, 1], 2, [5, 5, 5], [1, 1, 0]),
        ([9, 1, 1], 12, [4, 9, 9], [4, 4, 4]),  # what a full view cannot take goes to the others
        ([0, 0, 0], 3, [3, 3, 3], [1, 1, 1]),
        ([0, 1], 5, [4, 3], [2, 3]),  # weight zero takes tokens only when the others are full
        ([1, 1], 0, [4, 4], [0, 0]),
        ([1, 1], 8, [4, 4], [4, 4]),
        ([1, 1, 1], 2, [0, 4, 4], [0, 1, 1]),
        ([float("nan"), 1], 2, [3, 3], [0, 2]),
        ([1e300, 1e-300], 3, [2, 2], [2, 1]),
        ([1], 0, [0], [0]),
    ],
)
def test_splits(weights: list[float], total: int, caps: list[int], wanted: list[int]) -> None:
    assert split(weights, total, caps) == wanted


@settings(deadline=None)
@given(st.data())
def test_splits_always_sum_to_the_total(data: st.DataObject) -> None:
    caps = data.draw(st.lists(st.integers(0, 700), min_size=1, max_size=40))
    value = st.floats(0, 1e6, allow_nan=False) | st.just(0.0)
    weights = data.draw(st.lists(value, min_size=len(caps), max_size=len(caps)))
    total = data.draw(st.integers(0, sum(caps)))
    counts = split(weights, total, caps)
    assert sum(counts) == total
    assert all(0 <= n <= cap for n, cap in zip(counts, caps, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_equal_scores_keep_the_first_tokens(layout: Layout) -> None:
    counts = torch.tensor([(size + 1) // 2 for size in layout.sizes])
    kept = top_per_view(torch.zeros(len(layout)), layout, counts, int(counts.sum()))
    wanted = [row[:n] for row, n in zip(layout.table.tolist(), counts.tolist(), strict=True)]
    assert kept.tolist() == sorted(i for row in wanted for i in row)


def test_nan_is_kept_last_and_infinity_first() -> None:
    layout = IMAGES["one view"]
    scores = torch.zeros(len(layout))
    scores[3], scores[5], scores[7] = torch.nan, torch.inf, -torch.inf
    rank = rank_within_views(scores, layout)
    assert rank[5] == 0
    assert rank[3] == 19, "worse than minus infinity"
    assert rank[7] == 18


def test_fullest_lines_keep_their_separators() -> None:
    layout = VIDEOS["newline per row"]  # rows of five tokens and a newline
    kept = torch.tensor([0, 6, 7, 18, 19, 20, 24])
    assert with_separators(layout, kept, 0) is kept
    assert with_separators(layout, kept, 1).tolist() == [0, 6, 7, 18, 19, 20, 23, 24]
    assert with_separators(layout, kept, 3).tolist() == [0, 5, 6, 7, 11, 18, 19, 20, 23, 24], (
        "ties by position"
    )
    everything = with_separators(layout, kept, layout.num_separators).tolist()
    assert len(everything) == 7 + layout.num_separators
    assert everything == sorted(everything)


def test_selection_gathers_and_names_its_sources() -> None:
    tokens = make_tokens(VIDEOS["no newline"])
    selection = Selection(torch.tensor([4, 2]))
    assert len(selection) == 2
    assert torch.equal(selection.gather(tokens), tokens.features[[4, 2]])
    fewer = tokens.layout.restrict_to_frames(torch.tensor([1, 3]), (1, 3))
    assert Selection(torch.tensor([0, 9])).source(fewer).tolist() == [9, 27]
    made = Selection(torch.tensor([0]), torch.ones(1, 12))
    assert torch.equal(made.gather(tokens), torch.ones(1, 12))

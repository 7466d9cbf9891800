"""The two verbs: every allocation, every score, and what they do where there is nothing to go by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from layouts import CLS, IMAGES, VIDEOS, make_tokens
from vidcompress.adapters.layouts import image_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.layout import GLOBAL_VIEWS, Layout
from vidcompress.core.reductions import distances, products_with
from vidcompress.core.scoring import (
    Commander,
    allocate,
    commander_of_image,
    token_scores,
    unit_norm,
)
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import UnsupportedInputError
from vidcompress.methods.globalcom2 import gated_views, redistribute

TWO_BY_TWO = IMAGES["two by two"]


def commander(grid: torch.Tensor, layout: Layout) -> Commander:
    values = torch.zeros(len(layout), dtype=grid.dtype)
    values[layout.view == 0] = grid.flatten()
    return commander_of_image(values, layout)


def one_hot(row: int, col: int, value: float = 30.0) -> torch.Tensor:
    grid = torch.zeros(6, 6, dtype=torch.float64)
    grid[row, col] = value
    return grid


@pytest.mark.parametrize("allocation", ["softmax_sum", "softmax_max", "topk"])
def test_the_crop_under_the_peak_gets_most(allocation: Any) -> None:
    rates = allocate(commander(one_hot(1, 4), TWO_BY_TWO), TWO_BY_TWO, 0.02, allocation=allocation)[0]
    assert rates[0] == 0.02, "the thumbnail keeps R"
    assert rates[1:].argmax() == 1, "row 1, column 4 lies in the crop at the top right"


@pytest.mark.parametrize("layout", [*IMAGES.values(), *VIDEOS.values()], ids=[*IMAGES, *VIDEOS])
@pytest.mark.parametrize("allocation", ["uniform", "softmax_sum", "softmax_max", "topk"])
def test_mean_rate_is_the_ratio_unless_capped(layout: Layout, allocation: Any) -> None:
    tokens = make_tokens(layout, seed=4)
    if layout.modality == "image":
        chief = commander_of_image(tokens.evidence[CLS], layout)
    else:
        whole = distances(VisualBatch([VisualTokens(tokens.features, layout)]), whole=True).whole
        assert whole is not None
        chief = Commander(whole)
    rates = allocate(chief, layout, 0.05, allocation=allocation)[0]
    assert rates.dtype == torch.float64
    assert bool(((rates >= 0) & (rates <= 1)).all())
    live = [j for j, view in enumerate(layout.views) if view.kind not in GLOBAL_VIEWS and layout.sizes[j]]
    if live and rates.max() < 1:
        assert rates[live].mean().item() == pytest.approx(0.05, abs=1e-9)


def test_topk_counts_the_best_places() -> None:
    grid = torch.zeros(6, 6)
    grid[0, 0], grid[0, 1], grid[5, 5], grid[2, 2] = 4, 3, 2, 1
    rates = allocate(commander(grid, TWO_BY_TWO), TWO_BY_TWO, 4 / 36, allocation="topk")[0]
    # Three of the best four places lie in the first crop, one in the last; the mean stays R.
    assert rates[1:].tolist() == pytest.approx([4 / 36 * 3, 0, 0, 4 / 36 * 1])


def test_a_box_with_fractions_counts_fractions() -> None:
    views = list(TWO_BY_TWO.views)
    views[1] = replace(views[1], box=(0.5, 0.0, 1.5, 1.0))
    layout = replace(TWO_BY_TWO, views=tuple(views))
    grid = torch.zeros(6, 6, dtype=torch.float64)
    grid[0, 0], grid[1, 0] = 2.0, 4.0
    worth = torch.log(allocate(commander(grid, layout), layout, 0.1, tau=1.0)[0][1:] / 0.1 - 0.75)
    assert (worth[0] - worth[1]).item() == pytest.approx(0.5 * 2 + 0.5 * 4, rel=1e-6)


def test_padding_is_ignored_in_reference_and_left_out_in_exact() -> None:
    layout = IMAGES["fully padded crops"]
    assert layout.sizes[1:] != (12, 12, 12)
    logits = -torch.rand(
        len(layout), dtype=torch.float64
    )  # negative sums: an empty crop must not win with zero
    chief = commander_of_image(logits, layout)
    exact = allocate(chief, layout, 0.3)[0]
    reference = allocate(chief, layout, 0.3, policy="reference")[0]
    full = [j for j, size in enumerate(layout.sizes) if size and j]
    assert exact[full].mean().item() == pytest.approx(0.3)
    assert not torch.equal(exact, reference)


@pytest.mark.parametrize("allocation", ["softmax_sum", "softmax_max", "topk"])
def test_broken_evidence_means_no_preference(allocation: Any) -> None:
    chief = commander(torch.full((6, 6), torch.nan), TWO_BY_TWO)
    rates = allocate(chief, TWO_BY_TWO, 0.2, allocation=allocation)[0]
    assert bool(rates.isfinite().all())


def test_rates_never_exceed_one() -> None:
    assert allocate(commander(one_hot(0, 0), TWO_BY_TWO), TWO_BY_TWO, 0.9)[0].max() == 1.0


def test_scores_local_global_holistic() -> None:
    layout = TWO_BY_TWO
    local = make_tokens(layout, seed=1, dtype=torch.float64).evidence[CLS]
    chief = commander_of_image(local, layout)
    crops = (layout.view > 0) & ~layout.separator
    both = token_scores(chief.tokens, local, layout, score="holistic", alpha=0.5)
    assert torch.equal(token_scores(chief.tokens, local, layout, score="global", alpha=0.5), chief.tokens)
    own = token_scores(chief.tokens, local, layout, score="local", alpha=0.5)
    assert torch.equal(own[crops], local[crops])
    expected = (unit_norm(chief.tokens, layout) + unit_norm(local, layout)) / 2
    torch.testing.assert_close(both[crops], expected[crops])
    thumb = layout.view == 0
    for scores in (both, own):
        assert torch.equal(scores[thumb], chief.tokens[thumb])


def test_zero_evidence_has_zero_hats() -> None:
    assert not unit_norm(torch.zeros(len(TWO_BY_TWO)), TWO_BY_TWO).any()


def test_an_image_without_a_thumbnail_has_no_commander() -> None:
    views = tuple(replace(view, kind="crop") for view in TWO_BY_TWO.views)
    with pytest.raises(UnsupportedInputError, match="without a thumbnail has no commander"):
        commander_of_image(torch.zeros(len(TWO_BY_TWO)), replace(TWO_BY_TWO, views=views))


def test_distances_do_not_see_separators() -> None:
    layout = VIDEOS["newline per row"]
    tokens = make_tokens(layout)
    before = distances(VisualBatch([VisualTokens(tokens.features, layout)]), whole=True)
    tokens.features[layout.separator] = -1e4
    after = distances(VisualBatch([VisualTokens(tokens.features, layout)]), whole=True)
    keep = ~layout.separator
    assert before.whole is not None
    assert after.whole is not None
    assert torch.equal(before.view[keep], after.view[keep])
    assert torch.equal(before.whole[keep], after.whole[keep])


@pytest.mark.parametrize("layout", VIDEOS.values(), ids=VIDEOS)
def test_runs_and_gathers_agree(layout: Layout) -> None:
    """The zero-copy path of ordinary clips and the general one give the same distances."""
    tokens = make_tokens(layout, dtype=torch.float64)
    general = replace(layout)
    general.__dict__["run"] = None  # as for a layout whose frames are no runs
    fast, slow = (
        distances(VisualBatch([VisualTokens(tokens.features, layout)]), whole=True),
        distances(VisualBatch([VisualTokens(tokens.features, general)]), whole=True),
    )
    assert fast.whole is not None
    assert slow.whole is not None
    torch.testing.assert_close(fast.view, slow.view, atol=1e-12, rtol=0)
    torch.testing.assert_close(fast.whole, slow.whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("layout", [TWO_BY_TWO, VIDEOS["one newline"]], ids=["image", "video"])
def test_autocast_has_no_say(layout: Layout) -> None:
    tokens = make_tokens(layout, dim=64)
    plain = distances(VisualBatch([VisualTokens(tokens.features, layout)]), whole=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = distances(VisualBatch([VisualTokens(tokens.features, layout)]), whole=True)
    assert torch.equal(plain.view, inside.view)
    assert plain.whole is not None
    assert inside.whole is not None
    assert torch.equal(plain.whole, inside.whole)


def test_products_of_nothing() -> None:
    assert products_with(torch.zeros(0, 3), torch.zeros(3)).shape == (0,)


def test_crops_worth_least_send_nothing_and_hand_on_what_they_had() -> None:
    layout = image_layout((4, 4), (2, 2))  # thumbnail and four crops of 16 tokens each
    grid = torch.zeros(4, 4)
    grid[:2, :2], grid[2:, 2:], grid[2:, :2] = 3.0, 5.0, 1.0  # crops are worth 12, 0, 4 and 20
    chief = Commander(torch.zeros(len(layout)), grid)
    for needed, wanted in ((1, "10001"), (32, "10001"), (33, "11001"), (49, "11011"), (65, "11111")):
        assert gated_views(chief, layout, needed).tolist() == [mark == "1" for mark in wanted]
    crops = torch.tensor([False, True, True, True, True])
    weights = torch.tensor([8.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    handed = redistribute(weights, torch.tensor([True, True, False, False, True]), crops)
    assert handed.tolist() == pytest.approx([8, 2, 0, 0, 8])


def test_fully_padded_crops_are_never_worth_keeping_others_for() -> None:
    layout = image_layout((4, 4), (2, 2), unpadded=(0, 0, 4, 8))  # the lower crops are padding
    chief = Commander(torch.zeros(len(layout)), torch.arange(16.0).view(4, 4))
    assert gated_views(chief, layout, 1).tolist() == [True, False, True, True, True]

"""The controls: what is kept, where pooled tokens stand, which frames are sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layouts import IMAGES, LAYOUTS, VIDEOS, make_tokens
from vidcompress.adapters.layouts import image_layout, video_layout
from vidcompress.core.budget import visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.method_lookup import get_method
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import BudgetError
from vidcompress.testing import select_alone


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_none_keeps_everything(layout: Layout) -> None:
    tokens = make_tokens(layout)
    selection = select_alone(get_method("none"), tokens, visual_budget(layout, 1))
    assert selection.index.tolist() == list(range(len(layout)))


def test_random_is_seeded_and_spreads() -> None:
    tokens = make_tokens(VIDEOS["no newline"])
    budget = visual_budget(tokens.layout, 9)
    draws = {
        tuple(select_alone(get_method("random", seed=s), tokens, budget).index.tolist()) for s in range(300)
    }
    assert len(draws) > 290
    hits = np.bincount([i for draw in draws for i in draw], minlength=45) / len(draws)
    assert np.abs(hits - 0.2).max() < 0.09, "every token is equally likely"
    torch.manual_seed(1)
    first = select_alone(get_method("random"), tokens, budget).index
    torch.manual_seed(2)
    assert torch.equal(select_alone(get_method("random"), tokens, budget).index, first), (
        "the global seed has no say"
    )


@pytest.mark.parametrize("seed", [0, 5])
def test_random_depends_on_the_seed_and_the_number_of_tokens_alone(seed: int) -> None:
    drawn = []
    for newlines in ("none", "end", "row"):
        layout = video_layout(5, (3, 4), newlines)  # type: ignore[arg-type]
        budget = visual_budget(layout, 20, separators="drop")
        index = select_alone(
            get_method("random", seed=seed), make_tokens(layout, seed=len(drawn)), budget
        ).index
        drawn.append(torch.isin(layout.token_index, index).tolist())
    assert sum(drawn[0]) == 20
    assert drawn[0] == drawn[1] == drawn[2]


def test_uniform_takes_the_middle_of_each_stride() -> None:
    layout = VIDEOS["no newline"]
    index = select_alone(get_method("uniform"), make_tokens(layout), visual_budget(layout, 10)).index
    assert index.tolist() == [int((i + 0.5) * 45 / 10) for i in range(10)]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_pool_reaches_as_far_as_it_can_and_keeps_means(layout: Layout) -> None:
    tokens, method = make_tokens(layout), get_method("pool")
    budgets = (
        range(len(layout) + 1)
        if len(layout) < 200
        else sorted({1, 5, 50, len(layout) // 2, len(layout) - 1, len(layout)})
    )
    reached = []
    for budget in budgets:
        selection = select_alone(method, tokens, visual_budget(layout, budget))
        assert len(selection) <= budget
        assert len(selection) > 0 or budget == 0
        assert bool((selection.index[1:] > selection.index[:-1]).all())
        assert selection.gather(tokens).shape == (len(selection), 12)
        reached.append(len(selection))
    assert reached == sorted(reached), "more budget never gives less"
    assert reached[-1] == len(layout)


def test_pool_averages_cells_and_places_them_at_their_centre() -> None:
    layout = image_layout((4, 4))
    features = torch.arange(16.0)[:, None].repeat(1, 2)
    tokens = VisualTokens(torch.cat((features, torch.full((1, 2), -5.0))), layout)
    selection = select_alone(get_method("pool"), tokens, visual_budget(layout, 5))
    assert selection.index.tolist() == [5, 7, 13, 15, 16]
    assert selection.gather(tokens)[:, 0].tolist() == [2.5, 4.5, 10.5, 12.5, -5.0]


def test_pool_gives_each_pooled_row_one_newline() -> None:
    layout = image_layout((4, 4), (2, 2))
    selection = select_alone(get_method("pool"), make_tokens(layout), visual_budget(layout, 30))
    kept = selection.index
    newlines = layout.separator[kept]
    canvas = kept[(layout.view[kept] > 0) & ~newlines]
    rows = layout.row[canvas].unique()
    assert layout.row[kept[newlines]].tolist() == rows.tolist()
    assert not bool(newlines[0])
    assert bool(newlines[-1])


def test_pool_drops_newlines_and_views_and_time_in_that_order() -> None:
    image = image_layout((4, 4), (2, 2))
    method, tokens = get_method("pool"), make_tokens(image)
    assert [len(select_alone(method, tokens, visual_budget(image, b))) for b in (0, 1, 2, 3)] == [0, 1, 2, 3]
    assert select_alone(method, tokens, visual_budget(image, 1)).features is not None
    video = video_layout(7, (3, 3), "row")
    clip = make_tokens(video)
    for budget in range(8):
        selection = select_alone(method, clip, visual_budget(video, budget))
        assert len(selection) == budget, "time is averaged to exactly the budget"
        assert not bool(video.separator[selection.index].any())
    means = clip.features[video.token_index].view(7, 9, 12).mean(1)
    one = select_alone(method, clip, visual_budget(video, 1))
    torch.testing.assert_close(one.gather(clip)[0], means.mean(0))
    assert int(video.view[one.index[0]]) == 3, "the frame in the middle"


@pytest.mark.parametrize("newlines", ["none", "end", "row"])
def test_frames_are_those_of_linspace(newlines: str) -> None:
    layout = video_layout(16, (2, 3), newlines)  # type: ignore[arg-type]
    method, each = get_method("frames"), len(layout) // 16
    for count in range(1, 17):
        budget = visual_budget(layout, count * each + layout.trailing_separator)
        frames = method.frames(layout, budget)
        assert frames == tuple(np.linspace(0, 15, count, dtype=int).tolist())


@pytest.mark.parametrize("layout", VIDEOS.values(), ids=VIDEOS)
@pytest.mark.parametrize("separators", ["thin", "keep", "drop"])
def test_frames_before_and_after_the_encoder_agree(layout: Layout, separators: str) -> None:
    method, tokens = get_method("frames"), make_tokens(layout)
    size = layout.sizes[0]
    lengths = range(len(layout) + 1) if len(layout) < 300 else (9, 10, 27, 500, len(layout))
    refused: list[tuple[int, str]] = []
    for positions in lengths:
        try:
            budget = visual_budget(layout, positions, separators=separators)  # type: ignore[arg-type]
            frames = method.frames(layout, budget)
        except BudgetError as error:
            refused.append((positions, str(error)))
            continue
        selection = select_alone(method, tokens, budget)
        assert len(selection) <= positions
        fewer = layout.restrict_to_frames(torch.tensor(frames), frames)
        encoded = VisualTokens(tokens.features[fewer.source], fewer)
        after = select_alone(method, encoded, budget)
        assert torch.equal(after.source(fewer), selection.source(layout))
        if positions:
            assert budget.positions - len(selection) < size + layout.num_separators // len(layout.views) + 1
    assert len(select_alone(method, tokens, visual_budget(layout, len(layout)))) == len(layout)
    for positions, message in refused:
        assert positions < size + layout.num_separators
        assert "needs" in message


def test_frames_drops_newlines_before_it_gives_up() -> None:
    layout = video_layout(8, (3, 3), "row")
    method, tokens = get_method("frames"), make_tokens(layout)
    assert method.frames(layout, visual_budget(layout, 10)) == (0,)
    assert len(select_alone(method, tokens, visual_budget(layout, 9))) == 9
    with pytest.raises(BudgetError, match="whole frames of 9 tokens.*budget is 8 positions.*at least 9"):
        method.frames(layout, visual_budget(layout, 8))
    lone = video_layout(8, (3, 3), "end")
    assert len(select_alone(method, make_tokens(lone), visual_budget(lone, 9))) == 9


def test_a_budget_of_nothing_names_one_frame_and_sends_none() -> None:
    layout = VIDEOS["one newline"]
    budget = visual_budget(layout, 0)
    assert get_method("frames").frames(layout, budget) == (0,)
    assert len(select_alone(get_method("frames"), make_tokens(layout), budget)) == 0


def test_only_frames_leaves_frames_out_before_the_encoder() -> None:
    layout = VIDEOS["one newline"]
    for name in ("none", "random", "uniform", "pool", "globalcom2", "vidcom2"):
        assert get_method(name).frames(layout, visual_budget(layout, 20)) is None
    assert IMAGES["one view"].modality not in get_method("frames").modalities

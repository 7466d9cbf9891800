"""DivPrune, CDPruner, EVS, DyCoke and FastVID against loops, on drawn inputs."""

from __future__ import annotations

from fractions import Fraction
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from layouts import QUESTION, RECEIVED
from reference import slow_methods as slow
from vidcompress.adapters.layouts import image_layout, video_layout
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.methods.cdpruner import CDPruner
from vidcompress.methods.divprune import DivPrune
from vidcompress.methods.dycoke import DyCoke
from vidcompress.methods.evs import EVS
from vidcompress.methods.fastvid import FastVID
from vidcompress.ops import farthest
from vidcompress.ops.diversity import Cosines, groups_of
from vidcompress.ops.farthest import farthest_points
from vidcompress.testing import select_alone

DIM = 8
DRAWN = settings(max_examples=40, deadline=None)


def draw_features(data: st.DataObject, count: int) -> Tensor:
    """(count, DIM) float64: numbers of few digits, with copies among the tokens."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    features = torch.randint(-8, 9, (count, DIM), generator=generator).double()
    features[:, 0] += 0.5  # no token is zero
    if count > 1 and data.draw(st.booleans()):
        source = torch.randint(0, count, (count // 2,), generator=generator)
        target = torch.randint(0, count, (count // 2,), generator=generator)
        features[target] = features[source]
    return features


def draw_layout(data: st.DataObject, images: bool = True) -> Layout:
    grid = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    if images and data.draw(st.booleans()):
        crops = data.draw(st.none() | st.tuples(st.integers(1, 2), st.integers(1, 2)))
        return image_layout(grid, crops)
    return video_layout(
        data.draw(st.integers(1, 11)), grid, data.draw(st.sampled_from(["none", "end", "row"]))
    )


def draw_tokens(data: st.DataObject, layout: Layout) -> VisualTokens:
    features = draw_features(data, len(layout))
    features[layout.separator] = 50.0
    seed = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    question = torch.randn(3, DIM, generator=seed, dtype=torch.float64)
    attention = torch.rand(len(layout), generator=seed, dtype=torch.float64)
    return VisualTokens(features, layout, {QUESTION: question, RECEIVED: attention})


def views_of(tokens: VisualTokens) -> list[list[int]]:
    """Positions of each view, ascending."""
    owners = tokens.layout.view.tolist()
    return [[i for i, owner in enumerate(owners) if owner == v] for v in range(len(tokens.layout.views))]


def frames_of(tokens: VisualTokens) -> list[slow.Frame]:
    return [tokens.features[view].tolist() for view in views_of(tokens)]


def plan_for(tokens: VisualTokens, count: int) -> VisualBudget:
    """Exactly `count` tokens and no separators."""
    return VisualBudget(len(tokens), count, 0, count / max(1, tokens.layout.num_tokens))


@DRAWN
@given(st.data())
def test_divprune_takes_the_farthest_every_time(data: st.DataObject) -> None:
    tokens = draw_tokens(data, draw_layout(data))
    method = DivPrune(start=data.draw(st.sampled_from(["farthest_neighbour", "farthest_pair"])))
    groups = groups_of(tokens.features, tokens.layout, whole=data.draw(st.booleans()))
    held, asked = data.draw(st.sampled_from([farthest.HELD_BYTES, 1])), data.draw(st.booleans())
    with patch.object(farthest, "HELD_BYTES", held), patch.object(farthest, "_asked", lambda values: asked):
        order = farthest_points(groups, groups.index.shape[1], method.start)
    for index, inside, picks in zip(groups.index, groups.inside, order.tolist(), strict=True):
        size = int(inside.sum())
        features = tokens.features[index[inside]].tolist()
        for number, pick in enumerate(picks[:size]):
            worth = slow.spread(features, picks[:number], method.start)
            assert worth[pick] >= max(worth.values()) - 1e-6
            if worth[pick] < 1e-9:
                assert pick == min(worth), "copies of what was taken come in order"
    count = data.draw(st.integers(0, tokens.layout.num_tokens))
    index = select_alone(method, tokens, plan_for(tokens, count)).index
    assert len(index) == len(index.unique()) == count
    if len(groups.index) == 1 and held > 1:
        assert index.tolist() == sorted(groups.index[0][order[0, :count]].tolist())


def test_divprune_ties_fall_to_the_earlier_token() -> None:
    """Four directions, three copies of each: cosines are exactly 0 and 1."""
    features = torch.eye(4, dtype=torch.float32)[torch.tensor([2, 2, 0, 1, 0, 3, 1, 2, 3, 0, 1, 3])]
    layout = video_layout(1, (3, 4), "none")
    order = farthest_points(groups_of(features, layout, whole=True), 12)
    assert order[0].tolist() == [0, 2, 3, 5, 1, 4, 6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("options", [{}, {"start": "farthest_pair"}])
def test_without_room_for_the_matrix_the_rows_are_the_same(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    layout = video_layout(5, (4, 5), "row")
    features = torch.randn(len(layout), DIM, dtype=torch.float64)
    tokens = VisualTokens(features, layout, {QUESTION: torch.randn(3, DIM, dtype=torch.float64)})
    methods = (DivPrune(**options), CDPruner())  # type: ignore[arg-type]
    held = [select_alone(method, tokens, plan_for(tokens, 30)).index for method in methods]
    assert Cosines(groups_of(features, layout, whole=True).unit).matrix is not None
    monkeypatch.setattr(farthest, "HELD_BYTES", 500)
    monkeypatch.setattr("vidcompress.ops.diversity.MATRIX_ELEMENTS", 10)
    assert Cosines(groups_of(features, layout, whole=True).unit).matrix is None
    for method, index in zip(methods, held, strict=True):
        assert torch.equal(select_alone(method, tokens, plan_for(tokens, 30)).index, index)


def test_divprune_reference_lets_newlines_compete() -> None:
    """They are copies of one vector far from everything: one is taken early, the others at the very end."""
    layout = image_layout((4, 4), (2, 2))
    features = torch.randn(len(layout), DIM, dtype=torch.float64)
    features[layout.separator] = -features.mean(0)
    tokens = VisualTokens(features, layout)
    budget = visual_budget(layout, 1, ratio=Fraction(1, 4), separators="keep", policy="reference")
    index = select_alone(DivPrune(), tokens, budget).index
    assert len(index) == round(len(layout) / 4)
    assert int(layout.separator[index].sum()) == 1


@DRAWN
@given(st.data())
def test_cdpruner_takes_the_largest_gain_every_time(data: st.DataObject) -> None:
    tokens = draw_tokens(data, draw_layout(data))
    sign = data.draw(st.sampled_from(["positive", "negative"]))
    method = CDPruner(
        relevance=sign, kernel=data.draw(st.sampled_from(["product", "exponential"])), theta=0.6
    )
    views = views_of(tokens)
    everything = [i for view in views for i in view]
    features = tokens.features.tolist()
    raw = {slow.cosine(features[i], q) for i in everything for q in tokens.evidence[QUESTION].tolist()}
    if len(raw) <= 3:
        return  # copies of one token have no range of relevance
    wanted = slow.relevance(
        [features[i] for i in everything], tokens.evidence[QUESTION].tolist(), 1 if sign == "positive" else -1
    )
    ours = method.relevance_of(tokens)
    assert ours[everything].tolist() == pytest.approx(wanted, abs=1e-9)
    groups, picks = method.picks(
        tokens, groups_of(tokens.features, tokens.layout, whole=False).index.shape[1]
    )
    weight = ours if method.kernel == "product" else torch.exp(0.6 / 0.8 * ours)
    for view, order, gain in zip(views, picks.order.tolist(), picks.gain.tolist(), strict=True):
        mine, w = [features[i] for i in view], weight[view].tolist()
        assert sorted(order[: len(view)]) == list(range(len(view))), "each token once, copies too"
        for number in range(min(len(view), 6)):
            if gain[number] < 1e-4:
                break  # no volume left: copies, or relevance of nearly nothing
            worth = slow.gains(mine, w, order[:number])
            assert gain[number] == pytest.approx(worth[order[number]], rel=1e-6)
            assert worth[order[number]] >= max(worth.values()) * (1 - 1e-9) - 1e-12


def test_cdpruner_takes_copies_last_and_by_relevance() -> None:
    """The authors' code picks NaN and the same token again here."""
    layout = video_layout(1, (1, 6), "none")
    rows = torch.tensor([[1.0, 0.0, 0.2], [1.0, 0.0, 0.2], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    features = torch.cat((rows, rows[:2]))
    tokens = VisualTokens(features, layout, {QUESTION: torch.tensor([[0.2, 1.0, 0.0]])})
    _, picks = CDPruner(relevance="positive").picks(tokens, 6)
    assert picks.order[0].tolist() == [2, 0, 3, 1, 4, 5]
    assert picks.gain[0, 2:].tolist() == [0.0] * 4


def test_cdpruner_without_a_question_is_diversity_alone() -> None:
    layout = video_layout(2, (3, 3), "end")
    features = torch.randn(len(layout), DIM)
    bare = VisualTokens(features, layout)
    asked = VisualTokens(features, layout, {QUESTION: torch.randn(4, DIM)})
    budget = plan_for(bare, 7)
    alone = select_alone(CDPruner(), bare, budget).index
    assert torch.equal(alone, select_alone(CDPruner(relevance="none"), asked, budget).index)
    empty = VisualTokens(features, layout, {QUESTION: torch.zeros(0, DIM)})
    assert torch.equal(alone, select_alone(CDPruner(), empty, budget).index)


def test_cdpruner_follows_the_question() -> None:
    layout = video_layout(1, (6, 6), "none")
    features = torch.randn(36, DIM)
    kept = set()
    for number in range(6):
        tokens = VisualTokens(features, layout, {QUESTION: features[number : number + 1] * 2})
        index = select_alone(CDPruner(), tokens, plan_for(tokens, 3)).index.tolist()
        assert number in index, "the token that the question is about"
        kept.add(tuple(index))
    assert len(kept) > 1


@DRAWN
@given(st.data())
def test_evs_matches(data: st.DataObject) -> None:
    tokens = draw_tokens(data, draw_layout(data, images=False))
    method = EVS()
    layout, size = tokens.layout, tokens.layout.sizes[0]
    worth = slow.changes(frames_of(tokens))
    assert method.dissimilarity(tokens)[layout.token_index].tolist() == pytest.approx(worth, abs=1e-9)
    count = data.draw(st.integers(0, layout.num_tokens))
    index = select_alone(method, tokens, plan_for(tokens, count)).index.tolist()
    if count < size:
        first = [(2 * i + 1) * size // (2 * count) for i in range(count)]
        assert index == [views_of(tokens)[0][i] for i in first]
        return
    # Rounding may order equal changes either way, so what is compared is what the tokens are worth.
    positions = layout.token_index.tolist()
    kept = [worth[positions.index(i)] for i in index]
    assert sorted(kept) == pytest.approx(sorted(worth[i] for i in slow.best(worth, count)), abs=1e-9)
    still = [i for i, value in zip(positions, worth, strict=True) if value == 0]
    taken = [i for i in still if i in index]
    assert taken == still[: len(taken)], "unchanged tokens come in order"


def test_evs_of_a_still_clip_is_its_first_frame_then_the_next() -> None:
    layout = video_layout(4, (2, 3), "end")
    features = torch.randn(6, DIM).repeat(4, 1)
    tokens = VisualTokens(torch.cat((features, torch.ones(1, DIM))), layout)
    assert select_alone(EVS(), tokens, plan_for(tokens, 9)).index.tolist() == list(range(9))


@DRAWN
@given(st.data())
def test_dycoke_matches(data: st.DataObject) -> None:
    tokens = draw_tokens(data, draw_layout(data, images=False))
    layout, views, frames = tokens.layout, views_of(tokens), frames_of(tokens)
    ratio = data.draw(st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]))
    budget = visual_budget(layout, 1, ratio=Fraction(str(ratio)), separators="keep", policy="reference")
    index = select_alone(DyCoke(), tokens, budget).index
    kept = slow.dycoke_reference(frames, ratio)
    position = {i: t for t, view in enumerate(views) for i in view}
    for t, places in enumerate(kept):
        mine = [i for i in index.tolist() if position.get(i) == t]
        assert len(mine) == len(places)
        if len(places) == len(views[t]):
            assert sorted(mine) == views[t]
        compare_novelty(frames, views, mine, [views[t][i] for i in places], t)
    assert int(layout.separator[index].sum()) == layout.num_separators

    window, count = data.draw(st.integers(1, 6)), data.draw(st.integers(0, layout.num_tokens))
    index = select_alone(DyCoke(window=window), tokens, plan_for(tokens, count)).index.tolist()
    exact = slow.dycoke_exact(frames, count, window)
    if exact is None:
        assert all(position[i] == 0 for i in index)
        return
    for t, places in enumerate(exact):
        mine = [i for i in index if position[i] == t]
        assert len(mine) == len(places)
    assert len(index) == count
    if not any(len(set(map(tuple, frame))) < len(frame) for frame in frames):
        assert index == [views[t][i] for t, places in enumerate(exact) for i in places] or near(
            frames, views, index
        )


def compare_novelty(
    frames: list[slow.Frame], views: list[list[int]], mine: list[int], theirs: list[int], t: int
) -> None:
    """The same tokens, or ones that are as unlike the partner frame as far as float64 tells."""
    if mine == theirs or t == 0:
        return
    partner = t - 1 if t % 2 else t - 2
    worth = [
        [1 - slow.cosine(frames[t][i], frames[partner][i]) for i in (views[t].index(p) for p in kept)]
        for kept in (mine, theirs)
    ]
    assert sorted(worth[0]) == pytest.approx(sorted(worth[1]), abs=1e-9)


def near(frames: list[slow.Frame], views: list[list[int]], index: list[int]) -> bool:
    """Whether two places of a frame change alike, so that either may be kept."""
    for t in range(1, len(frames)):
        for step in (1, 2, 4, 8):
            if t >= step:
                worth = sorted(slow.cosine(a, b) for a, b in zip(frames[t], frames[t - step], strict=True))
                if any(b - a < 1e-9 for a, b in zip(worth, worth[1:], strict=False)):
                    return True
    return False


def test_dycoke_keeps_the_unpaired_frame_that_the_authors_drop() -> None:
    for frames in (1, 2, 3, 5, 7):
        layout = video_layout(frames, (2, 2), "end")
        tokens = VisualTokens(torch.randn(len(layout), DIM), layout)
        budget = visual_budget(layout, 1, ratio=Fraction(1, 4), separators="keep", policy="reference")
        index = select_alone(DyCoke(), tokens, budget).index
        counts = [int((layout.view[index] == t).sum()) for t in range(frames)]
        expected = [1 if t % 2 or (t % 4 == 2 and t - 2 < frames - 4) else 4 for t in range(frames)]
        assert counts == expected


@DRAWN
@given(st.data())
def test_fastvid_segments_and_anchor_counts_match(data: st.DataObject) -> None:
    frames = data.draw(st.integers(1, 14))
    pooled = draw_features(data, frames)
    count, tau = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([-1.0, 0.2, 0.9]))
    stride = data.draw(st.integers(1, 5))
    layout = video_layout(frames, (2, 5), "none")
    method = FastVID(auxiliary="a", segments=count, tau=tau, stride=stride)
    evidence = {Evidence("pooled", auxiliary="a"): pooled}
    tokens = VisualTokens(torch.randn(len(layout), DIM), layout, evidence)
    segment = method.segments_of(tokens).tolist()
    wanted = slow.segments(pooled.tolist(), count, tau)
    if segment != wanted:
        alike = sorted(slow.cosine(a, b) for a, b in zip(pooled.tolist(), pooled.tolist()[1:], strict=False))
        assert any(b - a < 1e-9 for a, b in zip(alike, alike[1:], strict=False)), (
            "only an exact tie may differ"
        )
        return
    ratio = data.draw(st.sampled_from([0.3, 0.5, 0.8]))
    budget = visual_budget(layout, 1, ratio=Fraction(str(ratio)), separators="keep", policy="reference")
    index = select_alone(method, tokens, budget).index
    each = int(10 * ratio)
    context = int(each * 0.4)
    peaks = slow.anchors(wanted, stride, context)
    kept = [int((layout.view[index] == t).sum()) for t in range(frames)]
    assert kept == [each - context + min(peaks[t], 10 - each + context) for t in range(frames)]


@DRAWN
@given(st.data())
def test_fastvid_tokens_match(data: st.DataObject) -> None:
    """Salient tokens, peaks and merged features, given the segments."""
    layout = video_layout(
        data.draw(st.integers(1, 7)), (2, 5), data.draw(st.sampled_from(["none", "end", "row"]))
    )
    tokens = draw_tokens(data, layout)
    if data.draw(st.booleans()):  # without copies: real numbers, no ties
        tokens.features[:] = torch.randn(tokens.features.shape, dtype=torch.float64)
    method = FastVID(
        segments=data.draw(st.integers(1, 4)),
        tau=data.draw(st.sampled_from([-1.0, 0.5])),
        context_share=data.draw(st.sampled_from([0.0, 0.4, 1.0])),
        beta=data.draw(st.sampled_from([0.0, 0.6, 1.0])),
        neighbours=data.draw(st.integers(1, 4)),
    )
    count = data.draw(st.integers(1, layout.num_tokens))
    selection = select_alone(method, tokens, plan_for(tokens, count))
    assert len(selection) == count
    assert selection.features is not None
    frames, views = frames_of(tokens), views_of(tokens)
    place = {i: (t, n) for t, view in enumerate(views) for n, i in enumerate(view)}
    context = int(count * method.context_share)
    shares = [
        (count - context) // len(views) + (t < (count - context) % len(views)) for t in range(len(views))
    ]
    attention = tokens.evidence[RECEIVED].tolist()
    salient = {
        (t, n) for t, view in enumerate(views) for n in slow.best([attention[i] for i in view], shares[t])
    }
    index = selection.index.tolist()
    sent = [place[i] for i in index]
    assert salient <= set(sent)
    peaks = [p for p in sent if p not in salient]
    assert len(peaks) == context
    segment = method.segments_of(tokens).tolist()
    new = dict(zip(peaks, slow.merged(frames, segment, salient, peaks, method.beta), strict=True))
    everything = len(peaks) + len(salient) == layout.num_tokens
    for row, p in zip(selection.features.tolist(), sent, strict=True):
        t, n = p
        wanted = frames[t][n] if everything or p in salient else new[p]
        if distinct(frames):
            assert row == pytest.approx(wanted, abs=1e-9)
    for t, frame in enumerate(frames):
        free = [n for n in range(10) if (t, n) not in salient]
        scores = slow.peak_scores(frame, free, method.neighbours) if free else {}
        mine = [n for s, n in peaks if s == t]
        top = sorted(scores.values(), reverse=True)[: len(mine)]
        if len(set(map(tuple, frame))) == len(frame):
            assert sorted((scores[n] for n in mine), reverse=True) == pytest.approx(top, abs=1e-9)


def distinct(frames: list[slow.Frame]) -> bool:
    """Whether no two tokens of the clip point the same way, so that the nearest peak is one and not several."""
    rows = torch.tensor(frames, dtype=torch.float64).flatten(0, 1)
    cosines = torch.nn.functional.normalize(rows, dim=-1)
    return bool(((cosines @ cosines.T).fill_diagonal_(0) < 1 - 1e-9).all())


def test_fastvid_peaks_of_copies_come_in_order() -> None:
    """16 tokens, two of each of 8: sums and means are exact, so ties are ties."""
    frame = torch.randint(-8, 9, (8, DIM), generator=torch.Generator().manual_seed(1)).double().repeat(2, 1)
    layout = video_layout(1, (4, 4), "none")
    tokens = VisualTokens(frame, layout)
    wanted = slow.peak_scores(frame.tolist(), list(range(16)), 4)
    order = sorted(wanted, key=lambda n: (-wanted[n], n))
    for count in range(1, 16):
        index = select_alone(FastVID(context_share=1.0), tokens, plan_for(tokens, count)).index
        assert index.tolist() == sorted(order[:count])


def test_fastvid_reference_keeps_the_newlines_of_rows_that_have_tokens() -> None:
    layout = video_layout(2, (6, 2), "row")
    tokens = VisualTokens(torch.randn(len(layout), DIM), layout, {RECEIVED: torch.rand(len(layout))})
    budget = visual_budget(layout, 1, ratio=Fraction(1, 3), separators="keep", policy="reference")
    index = select_alone(FastVID(), tokens, budget).index
    newline = layout.separator[index]
    assert set(layout.line[index[~newline]].tolist()) == set(layout.line[index[newline]].tolist())
    assert 0 < int(newline.sum()) < layout.num_separators

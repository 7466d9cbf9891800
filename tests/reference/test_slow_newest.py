"""The newest methods against loops, on drawn inputs: copies, ties and the smallest sizes among them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from layouts import LAYOUTS, RECEIVED, make_tokens
from reference import slow_newest as slow
from reference.slow_methods import Token, segments
from reference.test_slow_methods import DIM, draw_features, draw_layout, frames_of, plan_for, views_of
from vidcompress.adapters.layouts import video_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import visual_budget
from vidcompress.core.pruning.method import Between
from vidcompress.core.selection import Selection, largest_remainder
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.methods.dart import Dart
from vidcompress.methods.flashvid import FlashVid
from vidcompress.methods.holitom import RECEIVED as ATTENTION
from vidcompress.methods.holitom import HoliTom
from vidcompress.methods.prunevid import PruneVid
from vidcompress.methods.vcast import VCast
from vidcompress.methods.vispruner import HIDDEN, VisPruner
from vidcompress.ops.attention_scores import shares
from vidcompress.ops.static_windows import most_static_windows, windows_of_clusters
from vidcompress.testing import select_alone

DRAWN = settings(max_examples=60, deadline=None)
SMALL = {name: layout for name, layout in LAYOUTS.items() if len(layout) < 300}


def draw_clip(data: st.DataObject) -> VisualTokens:
    """Tokens of a clip with copies of tokens, and sometimes copies of frames."""
    layout = draw_layout(data, images=False)
    features = draw_features(data, len(layout))
    frames = len(layout.views)
    for _ in range(data.draw(st.integers(0, 3))):
        source, target = (data.draw(st.integers(0, frames - 1)) for _ in "ab")
        features[layout.table[target]] = features[layout.table[source]]
    features[layout.separator] = 50.0
    return VisualTokens(features, layout)


def as_good(kept: Tensor, worth: list[list[float]], views: list[list[int]], counts: list[int]) -> None:
    """Each frame keeps its count of the best tokens; equal ones may stand for one another."""
    for view, scores, count in zip(views, worth, counts, strict=True):
        mine = [scores[n] for n, i in enumerate(view) if i in set(kept.tolist())]
        assert sorted(mine, reverse=True) == pytest.approx(sorted(scores, reverse=True)[:count], abs=1e-7)


def gap_of_remainders(curved: list[float], spare: int, tau: float) -> float:
    """Least gap between what rounding leaves of two frames: below rounding errors either may come first."""
    more = sorted(share * spare % 1 for share in slow.vcast_shares(curved, tau))
    return min((b - a for a, b in zip(more, more[1:], strict=False)), default=1.0)


@DRAWN
@given(st.data())
def test_vcast_matches(data: st.DataObject) -> None:
    tokens = draw_clip(data)
    layout, frames, views = tokens.layout, frames_of(tokens), views_of(tokens)
    if any(slow.length(slow.mean(frame)) < 1e-6 for frame in frames):
        return  # a mean without a direction
    method = VCast(tau=data.draw(st.sampled_from([0.1, 0.7, 3.0])))
    measured = method.measure(VisualBatch([tokens]))
    curved = slow.curvatures(frames)
    assert measured.curvature.tolist() == pytest.approx(curved, abs=1e-6)
    worth = [slow.vcast_scores(frame) for frame in frames]
    assert measured.token[layout.token_index].tolist() == pytest.approx(sum(worth, []), abs=1e-9)
    count = data.draw(st.integers(0, layout.num_tokens))
    kept = select_alone(method, tokens, plan_for(tokens, count)).index
    counts = [int((layout.view[kept] == t).sum()) for t in range(len(frames))]
    assert sum(counts) == count
    ratio = Fraction(data.draw(st.integers(1, 40)), 40)
    budget = visual_budget(layout, 1, ratio=ratio, separators="keep", policy="reference")
    sent = select_alone(method, tokens, budget).index
    theirs = [int((layout.view[sent] == t).sum()) for t in range(len(frames))]
    as_good(kept, worth, views, counts)
    as_good(sent, worth, views, theirs)
    assert int(layout.separator[sent].sum()) == layout.num_separators
    total = max(len(frames), round(ratio * layout.num_tokens))
    exact, code = measured.curvature.tolist(), slow.vcast_reference_counts
    if len(set(exact)) == 1 or gap_of_remainders(exact, max(0, count - len(frames)), method.tau) > 1e-7:
        assert counts == slow.vcast_counts(exact, count, len(views[0]), method.tau)
    if len(frames) == 1 or gap_of_remainders(exact, total - len(frames), method.tau) > 1e-7:
        assert theirs == code(exact, ratio, len(views[0]), method.tau)


def test_vcast_gives_the_leftovers_to_frames_one_by_one_and_the_code_to_one_frame() -> None:
    """Two frames where the clip turns back, among six; three tokens are left over."""
    torch.manual_seed(0)
    layout = video_layout(6, (5, 5), "none")
    tokens = VisualTokens(torch.randn(150, DIM, dtype=torch.float64), layout)
    budget = visual_budget(layout, 1, ratio=Fraction(1, 3), separators="keep", policy="reference")
    index = [select_alone(VCast(), tokens, plan).index for plan in (plan_for(tokens, 50), budget)]
    ours, theirs = ([int((layout.view[kept] == t).sum()) for t in range(6)] for kept in index)
    assert sum(ours) == sum(theirs) == 50
    curved = VCast().measure(VisualBatch([tokens])).curvature.tolist()
    more = [share * 44 for share in slow.vcast_shares(curved, 0.7)]
    over = [count - 1 - int(m) for count, m in zip(ours, more, strict=True)]
    assert set(over) == {0, 1} and sum(over) > 1
    assert max(count - 1 - int(m) for count, m in zip(theirs, more, strict=True)) == sum(over)


@DRAWN
@given(st.data())
def test_dart_matches(data: st.DataObject) -> None:
    """Rows of different pictures, with and without text behind them; states along axes tie exactly, others do not."""
    rows, columns = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 14))
    seed = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    states = torch.randn(rows, columns, DIM, generator=seed)
    keys = torch.randint(-9, 10, (rows, columns, 6), generator=seed).float()
    if data.draw(st.booleans()):
        states = torch.eye(DIM)[torch.randint(0, 3, (rows, columns), generator=seed)]
    visual, weights, wanted, counts = (
        torch.zeros(rows, columns, dtype=torch.bool),
        torch.zeros(rows, columns),
        [],
        [],
    )
    method = Dart(image_pivots=data.draw(st.integers(1, 5)), text_pivots=data.draw(st.integers(0, 5)))
    for row in range(rows):
        end = data.draw(st.integers(1, columns))
        begin = data.draw(st.integers(0, end - 1))
        visual[row, begin:end], weights[row, end:] = True, 1.0
        counts.append(data.draw(st.integers(1, end - begin)))
        norms = keys[row].abs().sum(-1).tolist()
        places = list(range(begin, end)), list(range(end, columns))
        pivots = method.image_pivots, method.text_pivots
        wanted.append(slow.dart(norms, states[row].tolist(), *places, counts[-1], pivots))
    nothing = torch.zeros(rows, 0, 0, columns)
    between = Between(states, nothing, weights, visual, visual, (keys, keys), tuple(counts), keys)
    score = method.score(between)
    for row, (own, others) in enumerate(wanted):
        assert (score[row] == 2).nonzero().flatten().tolist() == sorted(own)
        assert (score[row] == 1).nonzero().flatten().tolist() == sorted(others)
        assert int((score[row] > 0).sum()) == counts[row], "exactly the budget"


def test_dart_counts_of_the_authors_are_not_the_budget() -> None:
    assert Dart().reference_counts(576, Fraction(128, 576)) == [132]
    assert Dart().reference_counts(576, Fraction(135, 576)) == [132]
    assert Dart().reference_counts(576, Fraction(136, 576)) == [140]
    assert Dart().reference_counts(5, Fraction(1)) == [4]


@pytest.mark.parametrize("policy", ["exact", "reference"])
@DRAWN
@given(data=st.data())
def test_vispruner_matches(policy: str, data: st.DataObject) -> None:
    """States along axes, whose cosines are exactly 0 and 1, and drawn ones, which tie nowhere."""
    layout = SMALL[data.draw(st.sampled_from(sorted(SMALL)))]
    tokens = make_tokens(layout, seed=data.draw(st.integers(0, 10_000)), dtype=torch.float64)
    evidence = dict(tokens.evidence)
    if data.draw(st.booleans()):
        kinds = torch.arange(len(layout)) * data.draw(st.integers(1, 9)) // 3 % 5
        evidence[HIDDEN] = 3.0 * torch.eye(5, dtype=torch.float64)[kinds]
    attention = Evidence("cls_attention", "features")
    if data.draw(st.booleans()):
        evidence[attention] = (evidence[attention].abs() * 1e6).long() % 3 / 64.0
    tokens = tokens.replace(evidence=evidence)
    method = VisPruner(important_share=data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])))
    ratio = Fraction(data.draw(st.integers(1, 40)), 40)
    budget = plan_for(tokens, int(ratio * layout.num_tokens))
    if policy == "reference":
        budget = visual_budget(layout, 1, ratio=ratio, separators="keep", policy="reference")
    kept = set(select_alone(method, tokens, budget).index.tolist())
    for view, count in zip(views_of(tokens), shares(layout, budget), strict=True):
        a, x = evidence[attention][view].tolist(), evidence[HIDDEN][view].tolist()
        important = int(Fraction(str(method.important_share)) * count)
        assert sorted(kept & set(view)) == [view[n] for n in slow.vispruner(a, x, count, important)]


def test_vispruner_of_copies_keeps_more_kinds_than_attention_does() -> None:
    """Ten directions, ten copies of each; attention alone keeps the last two."""
    layout = video_layout(1, (10, 10), "none")
    states = torch.eye(10, dtype=torch.float64)[torch.arange(100) // 10]
    evidence = {Evidence("cls_attention", "features"): torch.linspace(1, 2, 100), HIDDEN: states}
    tokens = VisualTokens(states, layout, evidence)
    kinds = []
    for share in (0.0, 0.5, 1.0):
        index = select_alone(VisPruner(important_share=share), tokens, plan_for(tokens, 12)).index
        kinds.append(len((index // 10).unique()))
    assert kinds[0] >= kinds[1] > kinds[2] == 2


def test_vispruner_drops_broken_tokens_and_sends_none_twice() -> None:
    layout = video_layout(2, (4, 5), "none")
    tokens = make_tokens(layout)
    attention = Evidence("cls_attention", "features")
    tokens.evidence[attention][[3, 19, 25]] = torch.nan
    for count in range(2, 35):
        index = select_alone(VisPruner(important_share=0.3), tokens, plan_for(tokens, count)).index.tolist()
        assert len(set(index)) == len(index) == count
        assert not {3, 25} & set(index) or count > 30


# -- windows, PruneVid and HoliTom -----------------------------------------------------------------------------------


def spans(start: Tensor, length: Tensor) -> list[tuple[int, int]]:
    firsts = sorted(set(start.tolist()))
    return [(t, t + int(length[t]) - 1) for t in firsts]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=14).filter(lambda row: max(row) < len(row)))
def test_windows_of_clusters_match(cluster: list[int]) -> None:
    start, length = windows_of_clusters(torch.tensor(cluster))
    assert spans(start, length) == slow.cut(slow.refined(cluster))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_windows_of_most_static_places_match(data: st.DataObject) -> None:
    frames, places = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5))
    chance = data.draw(st.sampled_from([0.1, 0.5, 0.8, 1.0]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9999)))
    same = torch.rand(frames - 1, places, generator=generator) <= chance
    longest = data.draw(st.sampled_from([2, 3, 1024]))
    start, length = most_static_windows(same, longest)
    wanted = slow.most_static(same.tolist(), longest) if frames > 1 else [(0, 0)]
    assert spans(start, length) == wanted


def draw_still_clip(data: st.DataObject) -> VisualTokens:
    """A clip whose tokens follow their place, some closely and some not; real numbers, so that little ties."""
    grid = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5)))
    layout = video_layout(
        data.draw(st.integers(1, 8)), grid, data.draw(st.sampled_from(["none", "end", "row"]))
    )
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9999)))
    features = torch.randn(len(layout), DIM, generator=generator, dtype=torch.float64)
    base = torch.randn(grid[0] * grid[1], DIM, generator=generator, dtype=torch.float64) * 2
    moving = torch.rand(grid[0] * grid[1], 1, generator=generator, dtype=torch.float64)
    size = data.draw(st.sampled_from([0.0, 0.5, 2.0]))
    features[layout.table] = features[layout.table] * moving * size + base
    if size == 0.0:  # copies in time; none within a frame
        features[layout.table] = base
    attention = torch.rand(len(layout), generator=generator, dtype=torch.float64)
    evidence = {RECEIVED: attention, ATTENTION: attention}
    return VisualTokens(features, layout, evidence)


def compare_clusters(
    tokens: VisualTokens,
    selection: Selection,
    groups: dict[tuple[int, int], list[tuple[list[int], Token]]],
    counts: dict[tuple[int, int], int],
    neighbours: int,
    beta: float | None = None,
) -> None:
    """Each group sends its clusters at the places of their centres, with the right means and masses."""
    assert selection.features is not None and selection.mass is not None
    sent = dict(zip(selection.index.tolist(), range(len(selection)), strict=True))
    for key, group in groups.items():
        k = min(neighbours, max(1, counts[key])) if beta is not None else neighbours
        for centre, members, token in slow.clusters([x for _, x in group], counts[key], k, beta):
            assert group[centre][0][0] in sent, "a centre is sent at the first of its places"
            number = sent[group[centre][0][0]]
            assert selection.features[number].tolist() == pytest.approx(token, abs=1e-6)
            assert selection.mass[number].item() == sum(len(group[m][0]) for m in members)


def items_of(
    tokens: VisualTokens, windows: list[tuple[int, int]], still: set[tuple[int, int]]
) -> dict[tuple[int, int], list[tuple[list[int], Token]]]:
    """Groups (0, window) of static and (1, frame) of dynamic items: their positions, and what they are."""
    views, frames = views_of(tokens), frames_of(tokens)
    groups: dict[tuple[int, int], list[tuple[list[int], Token]]] = {}
    for first, last in windows:
        inside = range(first, last + 1)
        places = range(len(views[0]))
        groups[0, first] = [
            ([views[t][n] for t in inside], slow.mean([frames[t][n] for t in inside]))
            for n in places
            if (first, n) in still
        ]
        for t in inside:
            groups[1, t] = [([views[t][n]], frames[t][n]) for n in places if (first, n) not in still]
    return groups


def split_over(
    groups: dict[tuple[int, int], list[Any]], frames: int, total: int
) -> dict[tuple[int, int], int]:
    """The package's split, which has a test of its own: only so do exact ties of remainders fall alike."""
    sizes = [len(groups.get((kind, t), [])) for kind in (0, 1) for t in range(frames)]
    caps = torch.tensor(sizes)
    counts = largest_remainder(caps.double(), total, caps).tolist()
    return {(kind, t): counts[kind * frames + t] for kind in (0, 1) for t in range(frames)}


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_prunevid_matches(data: st.DataObject) -> None:
    tokens = draw_still_clip(data)
    layout, frames = tokens.layout, frames_of(tokens)
    method = PruneVid(
        tau=data.draw(st.sampled_from([-1.0, 0.5, 0.8])), neighbours=data.draw(st.integers(1, 7))
    )
    found, alike = method.windows_of(tokens)
    windows = spans(found.start, found.length)
    close = {
        (first, n): slow.mean_cosine([frames[t][n] for t in range(first, last + 1)])
        for first, last in windows
        for n in range(len(frames[0]))
    }
    assert {key: float(alike[key]) for key in close} == pytest.approx(close, abs=1e-9)
    still = {
        (first, n): close[first, n]
        for first, last in windows
        for n in range(len(frames[0]))
        if last > first and close[first, n] > method.tau
    }
    lengths = {first: last - first + 1 for first, last in windows}
    count = data.draw(st.integers(1, layout.num_tokens))
    selection = select_alone(method, tokens, plan_for(tokens, count))
    assert len(selection) == len(selection.index.unique()) == count
    if len({round(value, 9) for value in still.values()}) == len(still):  # no ties of what rounding may order
        groups = items_of(tokens, windows, slow.thinned(still, lengths, layout.num_tokens - count))
        compare_clusters(tokens, selection, groups, split_over(groups, len(frames), count), method.neighbours)
    ratio = Fraction(data.draw(st.integers(1, 20)), 20)
    budget = visual_budget(layout, 1, ratio=ratio, separators="keep", policy="reference")
    groups = items_of(tokens, windows, set(still))
    counts = {
        key: len(group) if len(group) <= 14 else int(ratio * len(group)) for key, group in groups.items()
    }
    theirs = select_alone(method, tokens, budget)
    assert len(theirs) == sum(counts.values()) + layout.num_separators
    compare_clusters(tokens, theirs, groups, counts, method.neighbours)
    order = [
        (found.start[t], (int(found.start[t]), n) not in still)
        for i in theirs.index.tolist()
        for t, n in place_of(tokens, i)
    ]
    assert order == sorted(order), "window after window, static tokens first"


def place_of(tokens: VisualTokens, position: int) -> list[tuple[int, int]]:
    """Frame and place; nothing for a separator."""
    return [(t, view.index(position)) for t, view in enumerate(views_of(tokens)) if position in view]


def test_a_still_clip_is_merged_no_further_than_the_budget_allows() -> None:
    layout = video_layout(6, (3, 4), "none")
    frame = torch.randn(12, DIM, dtype=torch.float64)
    tokens = VisualTokens(frame.repeat(6, 1), layout)
    method = PruneVid()
    for count in (1, 11, 12, 13, 40, 71, 72):
        selection = select_alone(method, tokens, plan_for(tokens, count))
        assert selection.mass is not None and len(selection) == count
        assert selection.mass.sum().item() == (
            72 if selection.heirless is None else 72 - int(selection.heirless.sum())
        )
    (whole,) = (select_alone(method, tokens, plan_for(tokens, n)).mass for n in (72,))
    assert whole is not None and whole.tolist() == [1] * 72


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_holitom_matches(data: st.DataObject) -> None:
    tokens = draw_still_clip(data)
    layout, frames = tokens.layout, frames_of(tokens)
    method = HoliTom(
        tau=data.draw(st.sampled_from([-1.0, 0.5, 0.8])),
        neighbours=data.draw(st.integers(1, 7)),
        beta=data.draw(st.sampled_from([0.0, 0.6, 1.0])),
        longest=data.draw(st.sampled_from([2, 3, 1024])),
    )
    size, attention = len(frames[0]), tokens.evidence[ATTENTION].tolist()
    steps = [
        [slow.cosine(a, b) for a, b in zip(x, y, strict=True)]
        for x, y in zip(frames, frames[1:], strict=False)
    ]
    same = [[value > method.tau for value in row] for row in steps]
    windows = slow.most_static(same, method.longest) if steps else [(0, 0)]
    found, _ = method.windows_of(tokens)
    assert spans(found.start, found.length) == windows
    still = {
        (first, n): min(steps[t][n] for t in range(first, last))
        for first, last in windows
        for n in range(size)
        if last > first and all(same[t][n] for t in range(first, last))
    }
    assert int(found.static.sum()) == len(still)
    lengths = {first: last - first + 1 for first, last in windows}
    count = data.draw(st.integers(1, layout.num_tokens))
    selection = select_alone(method, tokens, plan_for(tokens, count))
    assert len(selection) == len(selection.index.unique()) == count
    if len({round(value, 9) for value in still.values()}) == len(still):
        groups = items_of(tokens, windows, slow.thinned(still, lengths, layout.num_tokens - count))
        compare_holitom(tokens, selection, groups, split_over(groups, len(frames), count), method, attention)
    ratio = Fraction(data.draw(st.integers(1, 20)), 20)
    budget = visual_budget(layout, 1, ratio=ratio, separators="keep", policy="reference")
    groups = items_of(tokens, windows, set(still))
    share = min(Fraction(1), ratio * layout.num_tokens / sum(map(len, groups.values())))
    counts = {
        key: round(share * len(group)) if key[0] == 0 else math.ceil(share * len(group))
        for key, group in groups.items()
    }
    theirs = select_alone(method, tokens, budget)
    lines = {int(layout.line[i]) for i in theirs.index.tolist() if not layout.separator[i]}
    newlines = len(lines) if layout.num_separators > 1 else layout.num_separators
    assert len(theirs) == sum(counts.values()) + newlines
    compare_holitom(tokens, theirs, groups, counts, method, attention)
    order = [
        (int(found.start[t]), (int(found.start[t]), n) not in still, t, n)
        for i in theirs.index.tolist()
        for t, n in place_of(tokens, i)
    ]
    assert order == sorted(order) or layout.num_separators > 1, "window after window, static tokens first"
    assert theirs.index.tolist() == sorted(theirs.index.tolist()) or layout.num_separators < 2


def compare_holitom(
    tokens: VisualTokens,
    selection: Selection,
    groups: dict[tuple[int, int], list[tuple[list[int], Token]]],
    counts: dict[tuple[int, int], int],
    method: HoliTom,
    attention: list[float],
) -> None:
    """Static groups send clusters, dynamic ones the tokens of most attention, unchanged."""
    static = {key: group for key, group in groups.items() if key[0] == 0}
    compare_clusters(tokens, selection, static, counts, method.neighbours, method.beta)
    assert selection.features is not None and selection.mass is not None and selection.heirless is not None
    sent = dict(zip(selection.index.tolist(), range(len(selection)), strict=True))
    for key, group in groups.items():
        if key[0] == 1:
            best = sorted(group, key=lambda item: -attention[item[0][0]])
            for number, ((position,), token) in enumerate(best):
                kept = number < counts[key]
                assert (position in sent) == kept and bool(selection.heirless[position]) == (not kept)
                if kept:
                    assert selection.features[sent[position]].tolist() == token
                    assert selection.mass[sent[position]] == 1


# -- FlashVID --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["exact", "reference"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flashvid_matches(policy: str, data: st.DataObject) -> None:
    tokens = draw_still_clip(data)
    layout, frames, views = tokens.layout, frames_of(tokens), views_of(tokens)
    method = FlashVid(
        segments=data.draw(st.integers(1, 4)),
        cut=data.draw(st.sampled_from([-1.0, 0.5, 0.9])),
        chosen_share=data.draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])),
        link=data.draw(st.sampled_from([0.0, 0.8, 0.95])),
        events=data.draw(st.booleans()),
        neighbours=data.draw(st.integers(1, 7)),
    )
    ratio, share = Fraction(data.draw(st.integers(1, 20)), 20), Fraction(str(method.chosen_share))
    size, number = len(frames[0]), len(frames)
    segment = segments([slow.mean(frame) for frame in frames], method.segments, method.cut)
    lengths = {s: segment.count(s) for s in segment}
    if policy == "exact":
        count = max(1, int(ratio * layout.num_tokens))
        budget = plan_for(tokens, count)
        chosen = math.ceil(share * count)
        each, others = [chosen // number + (t < chosen % number) for t in range(number)], count - chosen
    else:
        budget = visual_budget(layout, 1, ratio=ratio, separators="keep", policy="reference")
        whole = min(size, math.ceil(ratio * size * Fraction(5, 4)))
        each = [math.ceil(share * whole)] * number
        others = (whole - each[0]) * number
    selection = select_alone(method, tokens, budget)
    assert selection.features is not None and selection.mass is not None and selection.heirless is not None
    assert len(selection.index.unique()) == len(selection)
    if len({tuple(x) for frame in frames for x in frame}) < size * number and number > 1:
        assert policy == "reference" or len(selection) == budget.positions
        return  # a still clip: matches and links tie
    attention = [[tokens.evidence[ATTENTION][i].item() for i in view] for view in views]
    weights = slow.flash_weights(frames, attention, segment, method.events)
    kept = [slow.diverse(*row) for row in zip(frames, weights, each, strict=True)]
    free = [[n for n in range(size) if n not in kept[t]] for t in range(number)]
    open_ones = {s: sum(len(free[t]) for t in range(number) if segment[t] == s) for s in lengths}
    if policy == "exact":
        caps = torch.tensor([open_ones[s] for s in lengths])
        spans_of = torch.tensor(list(lengths.values())).double()
        owed = dict(zip(lengths, largest_remainder(spans_of, others, caps).tolist(), strict=True))
        most = {s: open_ones[s] - owed[s] for s in lengths}
    else:
        owed = {s: (others // number) * lengths[s] for s in lengths}
        most = {s: max(0, open_ones[s] - owed[s] - 1) for s in lengths}
    parent = slow.flash_links(frames, free, segment, method.link, most)

    def root_of(token: tuple[int, int]) -> tuple[int, int]:
        while token in parent:
            token = parent[token]
        return token

    trees: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for t in range(number):
        for n in free[t]:
            trees.setdefault(root_of((t, n)), []).append((t, n))
    roots = {t: sorted(root for root in trees if root[0] == t) for t in range(number)}
    left = {s: sum(len(roots[t]) for t in range(number) if segment[t] == s) for s in lengths}
    wanted = [Fraction(len(roots[t]) * owed[segment[t]], max(1, left[segment[t]])) for t in range(number)]
    if policy == "exact":
        sizes = torch.tensor([len(roots[t]) for t in range(number)])
        counts = largest_remainder(
            torch.tensor([float(w) for w in wanted], dtype=torch.float64), others, sizes
        ).tolist()
        counts = counts if others else [0] * number
    else:
        counts = [min(len(roots[t]), math.ceil(w)) for t, w in enumerate(wanted)]
    sent = dict(zip(selection.index.tolist(), range(len(selection)), strict=True))
    newlines = layout.num_separators if policy == "reference" else 0
    assert len(selection) == sum(map(len, kept)) + sum(counts) + newlines
    for t in range(number):
        for n in kept[t]:
            assert selection.features[sent[views[t][n]]].tolist() == frames[t][n]
        x = [slow.mean([frames[a][b] for a, b in trees[root]]) for root in roots[t]]
        k = min(method.neighbours, max(1, counts[t]))
        for centre, members, token in slow.clusters(x, counts[t], k):
            place = sent[views[t][roots[t][centre][1]]]
            assert selection.features[place].tolist() == pytest.approx(token, abs=1e-6)
            assert selection.mass[place].item() == sum(len(trees[roots[t][m]]) for m in members)
    lost = sum(len(trees[root]) for t in range(number) if not counts[t] for root in roots[t])
    assert int(selection.heirless.sum()) == lost


def test_vispruner_compares_features_where_the_projector_has_no_input_of_its_own() -> None:
    layout = video_layout(2, (4, 5), "none")
    tokens = make_tokens(layout)
    method, count = VisPruner(important_share=0.0), 14
    bare = tokens.replace(evidence={k: v for k, v in tokens.evidence.items() if k != HIDDEN})
    same = tokens.replace(evidence={**bare.evidence, HIDDEN: tokens.features})
    index = [select_alone(method, one, plan_for(one, count)).index.tolist() for one in (bare, same, tokens)]
    assert index[0] == index[1] != index[2]

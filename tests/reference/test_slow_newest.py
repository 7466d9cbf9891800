"""The newest methods against loops, on drawn inputs: copies, ties and the smallest sizes among them."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from layouts import LAYOUTS, make_tokens
from reference import slow_newest as slow
from reference.test_slow_methods import DIM, draw_features, draw_layout, frames_of, plan_for, views_of
from vidcompress.adapters.layouts import video_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import visual_budget
from vidcompress.core.pruning.method import Between
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.methods.dart import Dart
from vidcompress.methods.vcast import VCast
from vidcompress.methods.vispruner import HIDDEN, VisPruner
from vidcompress.ops.attention_scores import shares
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

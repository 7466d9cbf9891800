"""The newest methods against loops, on drawn inputs: copies, ties and the smallest sizes among them."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reference import slow_newest as slow
from reference.test_slow_methods import DIM, draw_features, draw_layout, frames_of, plan_for, views_of
from vidcompress.adapters.layouts import video_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import visual_budget
from vidcompress.core.tokens import VisualTokens
from vidcompress.methods.vcast import VCast
from vidcompress.testing import select_alone

DRAWN = settings(max_examples=60, deadline=None)


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

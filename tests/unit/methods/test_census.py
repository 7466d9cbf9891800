"""Census in rounds: how well they cover, what they ask of a device; its options, evidence and cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from device_questions import WATCHED, Count
from layouts import CLS, IMAGES, QUESTION, VIDEOS, make_tokens
from vidcompress.adapters.layouts import video_layout
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Layout
from vidcompress.core.method_lookup import get_method
from vidcompress.core.tokens import VisualTokens
from vidcompress.methods.census import Census
from vidcompress.ops import coverage
from vidcompress.testing import select_alone

FRAMES, SIDE = 24, 8
KEPT = 540


def plan_for(layout: Layout, count: int) -> VisualBudget:
    """Exactly `count` tokens and no separators."""
    return VisualBudget(len(layout), count, 0, count / layout.num_tokens)


def clip(changed: float, noise: float) -> VisualTokens:
    """A clip of 1,536 tokens in which a part of the places changes from frame to frame."""
    generator = torch.Generator().manual_seed(0)
    kinds, frames = torch.randn(20, 32, generator=generator), []
    now = kinds[torch.randint(0, 20, (SIDE * SIDE,), generator=generator)]
    for _ in range(FRAMES):
        other = kinds[torch.randint(0, 20, (SIDE * SIDE,), generator=generator)]
        now = torch.where(torch.rand(SIDE * SIDE, 1, generator=generator) < changed, other, now)
        frames.append(now + noise * torch.randn(now.shape, generator=generator))
    return VisualTokens(torch.cat(frames), video_layout(FRAMES, (SIDE, SIDE), "none"))


def radius(tokens: VisualTokens, index: Tensor) -> float:
    """Largest weighted squared distance of a token to its nearest kept one."""
    method, step = Census(), coverage.grid_step(1.0, 0.3, torch.float32)
    cloud = method._cloud([method._described(tokens, step)], 32, step)
    points = cloud.points[0, :-1]
    near = torch.cdist(points, points[index]).amin(1).square()
    return float((near * cloud.weight[0, :-1]).max())


@pytest.mark.parametrize(
    "changed, noise", [(0.08, 0.3), (0.0, 0.05), (1.0, 0.5)], ids=["some", "still", "all"]
)
def test_rounds_cover_as_well_as_one_by_one(
    changed: float, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 3 %, and better than a random choice; few rounds are the control."""
    tokens = clip(changed, noise)
    budget = plan_for(tokens.layout, KEPT)
    rounds = radius(tokens, select_alone(Census(), tokens, budget).index)
    random = radius(tokens, select_alone(get_method("random"), tokens, budget).index)
    monkeypatch.setattr(coverage, "ROUNDS", 6)
    few = radius(tokens, select_alone(Census(), tokens, budget).index)
    monkeypatch.setattr(coverage, "ONE_BY_ONE", 10_000)
    monkeypatch.setattr("vidcompress.methods.census.ONE_BY_ONE", 10_000)
    greedy = radius(tokens, select_alone(Census(), tokens, budget).index)
    assert rounds <= 1.03 * greedy
    assert 1.2 * rounds < random
    assert rounds < few, "what is filled up covers less"


def kernels(tokens: VisualTokens, count: int) -> Counter[str]:
    method, budget = Census(), plan_for(tokens.layout, count)
    select_alone(method, tokens, budget)  # tables of the layout
    with Count() as counted:
        select_alone(method, tokens, budget)
    return counted.seen


def test_rounds_do_not_grow_with_tokens_nor_ask_the_device() -> None:
    tokens = clip(0.08, 0.3)
    few, many = kernels(tokens, 520), kernels(tokens, 1400)
    assert few.keys() == many.keys()
    assert sum(many.values()) - sum(few.values()) <= 20, "a few more blocks of masses"
    assert sum(few[name] for name in WATCHED) == 0
    below = kernels(tokens, 512)
    assert below["bmm"] == 512 and few["bmm"] < 512, "one by one"
    assert sum(below[name] for name in WATCHED) == 0


def test_all_tokens_stand_for_themselves() -> None:
    for layout in (IMAGES["two by two"], VIDEOS["newline per row"]):
        budget = VisualBudget(len(layout), len(layout), layout.num_separators, 1.0)
        selection = select_alone(Census(), make_tokens(layout), budget)
        assert selection.index.tolist() == list(range(len(layout)))
        assert selection.mass is not None and selection.mass.tolist() == [1.0] * len(layout)


@pytest.mark.parametrize("selection", ["coverage", "proportional"])
def test_copies_count_for_their_copy(selection: Any) -> None:
    """Three kinds of token, 50, 10 and 4 of them; separators have mass 1."""
    layout = video_layout(4, (4, 4), "row")
    kinds = torch.eye(3)[torch.tensor([0] * 50 + [1] * 10 + [2] * 4)]
    features = torch.full((len(layout), 3), 9.0)
    features[layout.token_index] = kinds
    method = Census(place=0, time=0, selection=selection)
    found = select_alone(method, VisualTokens(features, layout), VisualBudget(len(layout), 8, 2, 0.1))
    assert found.mass is not None
    real = ~layout.separator[found.index]
    assert found.mass[~real].tolist() == [1.0, 1.0]
    kind = features[found.index].argmax(1)[real]
    total = [float(found.mass[real][kind == k].sum()) for k in range(3)]
    assert total == [50.0, 10.0, 4.0]
    counts = [int((kind == k).sum()) for k in range(3)]
    assert counts == ([4, 1, 1] if selection == "coverage" else [3, 2, 1])


def test_the_second_half_is_in_proportion() -> None:
    """Of 40 tokens, 20 cover two kinds of 200 and 56 tokens about alike, the others as 200 to 56."""
    layout = video_layout(4, (8, 8), "none")
    generator = torch.Generator().manual_seed(0)
    kind = torch.tensor([0] * 200 + [1] * 56)
    features = torch.eye(8)[kind] + 0.1 * torch.randn(256, 8, generator=generator)
    budget = plan_for(layout, 40)
    tokens = VisualTokens(features, layout)
    options: dict[str, Any] = {"place": 0, "time": 0}
    half = select_alone(Census(**options), tokens, plan_for(layout, 20)).index
    both = select_alone(Census(**options, selection="proportional"), tokens, budget).index
    assert set(half.tolist()) < set(both.tolist())
    added = sorted(set(both.tolist()) - set(half.tolist()))
    assert int((kind[added] == 0).sum()) in (15, 16, 17), "20 x 200 / 256 is 15.6"
    plain = select_alone(Census(**options), tokens, budget).index
    assert set(plain.tolist()) != set(both.tolist())


def test_evidence_weighs() -> None:
    tokens, bare = make_tokens(IMAGES["landscape"]), make_tokens(IMAGES["landscape"])
    bare.evidence = {}
    budget = plan_for(tokens.layout, 30)
    chosen = {w: select_alone(get_method("census", weight=w), tokens, budget) for w in ("commander", "cls")}
    chosen["question"] = select_alone(get_method("census", weight="question"), tokens, budget)
    sets = [tuple(selection.index.tolist()) for selection in chosen.values()]
    assert len(set(sets)) == 3
    for weight in ("cls", "question"):
        without = select_alone(get_method("census", weight=weight), bare, budget).index
        assert tuple(without.tolist()) == sets[0], "without evidence as commander"
    bare.evidence = {QUESTION: torch.zeros(0, 12)}
    asked = select_alone(get_method("census", weight="question"), bare, budget).index
    assert tuple(asked.tolist()) == sets[0]
    assert Census(weight="cls").needs("image", True) == (CLS,)
    assert Census(weight="question").needs("video", False) == (QUESTION,)


def test_without_a_cls_token_it_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidcompress.errors._WARNED", set())
    with pytest.warns(UserWarning, match="method 'census' wants CLS logits as weights"):
        assert Census(weight="cls").needs("image", False) == ()


def test_the_cost_is_that_of_the_shapes() -> None:
    """64 x 196 x 3584: at most 0.2 % of the 40e12 operations of SigLIP on 64 frames, at a tenth and at a quarter."""
    sizes, projection = [196] * 64, 12_544 * 3584 * 128
    for count, most in ((1254, 0.001), (3136, 0.0012)):
        operations = 2 * Census().multiplications(sizes, count, 3584)
        assert 2 * projection < operations < most * 40e12
    few = Census().multiplications(sizes, 100, 3584)
    assert few == projection + 12_544 * (99 * 133 + 100 * 128)
    assert Census().multiplications(sizes, 100, 64) == 12_544 * (99 * 69 + 100 * 64), "nothing is projected"
    half = Census(selection="proportional").multiplications(sizes, 200, 3584)
    assert half == few

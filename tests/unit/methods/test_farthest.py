"""Max-min diversity in linear memory: the picks of the whole matrix and of a loop, no large tensor, no question."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from device_questions import CountSyncs
from vidcompress.ops import farthest
from vidcompress.ops.diversity import TokenGroups, grouped
from vidcompress.ops.farthest import Passes, Start, farthest_points

WAYS = ("matrix", "passes", "rows")
STARTS = get_args(Start)


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes all tokens take one way: the whole matrix, a CPU's passes or an accelerator's rows."""

    def chosen(way: str) -> None:
        monkeypatch.setattr(farthest, "HELD_BYTES", 1 << 30 if way == "matrix" else 40_000)
        monkeypatch.setattr(farthest, "_asked", lambda values: way != "rows")

    return chosen


def drawn(count: int, width: int = 32, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def signs(count: int, seed: int = 0) -> Tensor:
    """(count, 16) of 1 and -1: norms are 4 and cosines are eighths, so nothing is rounded and most distances tie."""
    return (drawn(count, 16, seed) > 0).float() * 2 - 1


def group(features: Tensor) -> TokenGroups:
    return grouped(features, torch.arange(len(features))[None])


def one_by_one(features: Tensor, rounds: int, start: str) -> list[int]:
    """The same choice token by token, each distance by itself."""
    unit = features / features.norm(dim=1, keepdim=True)

    def distances(token: int) -> Tensor:
        values = 1 - (unit * unit[token]).sum(1)
        return torch.where(values > 1e-6, values, 0.0)

    scores = []
    for token in range(len(features)):
        others = distances(token)[torch.arange(len(features)) != token]
        scores.append(float(others.min() if start == "farthest_neighbour" else others.max()))
    picks = [scores.index(max(scores))]
    far = distances(picks[0])
    for _ in range(rounds - 1):
        far[picks[-1]] = -1
        worth = far.tolist()
        picks.append(worth.index(max(worth)))
        far = torch.minimum(far, distances(picks[-1]))
    return picks


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [drawn, signs])
def test_the_picks_are_those_of_a_loop(go: Any, way: str, start: Start, make: Any) -> None:
    features = make(300, seed=3)
    go(way)
    for rounds in (1, 2, 40, 300):
        order = farthest_points(group(features), rounds, start)
        assert order.tolist() == [one_by_one(features, rounds, start)]
    other = next(name for name in STARTS if name != start)
    assert one_by_one(features, 40, other) != one_by_one(features, 40, start)


@pytest.mark.parametrize("start", STARTS)
def test_more_tokens_than_are_held_at_once_are_chosen_as_with_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    """4,200 tokens, more than a CPU holds all distances of; nothing is set, and nearly all distances tie."""
    groups = group(signs(4200))
    assert groups.unit.shape[1] ** 2 > farthest._held(groups.unit)
    ours = farthest_points(groups, 500, start)
    with monkeypatch.context() as patched:
        patched.setattr(farthest, "_true_picks", lambda worth, *rest: worth.shape[1])
        assert not torch.equal(farthest_points(groups, 500, start), ours), "all that were proposed: others"
    monkeypatch.setattr(farthest, "HELD_BYTES", 1 << 30)
    monkeypatch.setattr(farthest, "Passes", None)
    assert torch.equal(farthest_points(groups, 500, start), ours)


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("start", STARTS)
def test_groups_of_unequal_sizes_and_broken_tokens(go: Any, way: str, start: Start) -> None:
    """Each group as if it were alone; tokens without a direction come last, in order."""
    features = drawn(400)
    features[10:30], features[50], features[60] = 0.0, torch.nan, torch.inf
    index = torch.full((3, 200), 400)
    parts = (torch.arange(0, 200), torch.arange(200, 237), torch.arange(237, 400))
    for row, part in zip(index, parts, strict=True):
        row[: len(part)] = part
    go("matrix")
    alone = [farthest_points(grouped(features, part[None]), len(part), start)[0] for part in parts]
    assert alone[0][-22:].tolist() == [*range(10, 30), 50, 60]
    go(way)
    together = farthest_points(grouped(features, index), 200, start)
    for mine, ours, part in zip(alone, together, parts, strict=True):
        assert torch.equal(ours[: len(part)], mine)
    assert not torch.equal(together[0, :37], together[1, :37])


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_only_broken_tokens_come_in_order(go: Any, way: str, value: float) -> None:
    go(way)
    order = farthest_points(group(torch.full((150, 4), value)), 150)
    assert order.tolist() == [list(range(150))]


def test_a_clip_of_copies_needs_few_rows_to_find_the_first_token(
    go: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that a row shows to be near something need no row of their own."""
    counted: list[int] = []
    cosines = Passes.cosines

    def counting(self: Passes, columns: Tensor) -> Tensor:
        counted.append(columns.shape[1])
        return cosines(self, columns)

    monkeypatch.setattr(Passes, "cosines", counting)
    go("passes")
    lone, rows = drawn(40, seed=1), {}
    for name, features in (("copies", torch.cat((lone.repeat(15, 1), lone[:1] + 1))), ("lone", drawn(601))):
        counted.clear()
        first = int(farthest_points(group(features), 1))
        rows[name] = sum(counted)
        assert first == one_by_one(features, 1, "farthest_neighbour")[0]
    assert rows["copies"] <= 60 < rows["lone"] < 601


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, Tensor):
                held = value.untyped_storage().nbytes() // value.itemsize
                self.elements = max(self.elements, held)
        return out


def growth(start: Start) -> float:
    """How many times larger the largest tensor is for four times as many tokens."""
    seen = []
    for count in (500, 2000):
        features = drawn(count, dtype=torch.float32)
        with Largest() as largest:
            farthest_points(group(features), count // 10, start)
        seen.append(largest.elements)
    return seen[1] / seen[0]


@pytest.mark.parametrize("start", STARTS)
def test_memory_is_linear_in_the_number_of_tokens(go: Any, start: Start) -> None:
    for way in ("passes", "rows"):
        go(way)
        assert growth(start) <= 4
    go("matrix")
    assert growth(start) == 16, "the whole matrix is seen"


@pytest.mark.parametrize("start", STARTS)
def test_an_accelerator_is_asked_nothing_and_a_cpu_once_per_pass(go: Any, start: Start) -> None:
    groups, questions = group(drawn(600)), {}
    for way in WAYS:
        go(way)
        for rounds in (50, 150):
            with CountSyncs() as count:
                farthest_points(groups, rounds, start)
            questions[way, rounds] = sum(count.seen.values())
    assert all(questions[way, 150] == 0 for way in ("matrix", "rows"))
    assert 0 < questions["passes", 150] - questions["passes", 50] < 100 / 4

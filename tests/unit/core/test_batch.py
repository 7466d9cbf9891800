"""Features of several visuals measured in one pass: the bits of each alone, and copies no larger than a block."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch

from layouts import IMAGES, VIDEOS, make_tokens
from vidcompress.core import reductions
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.method import ScoredMethod
from vidcompress.core.method_lookup import get_method
from vidcompress.core.reductions import in_groups
from vidcompress.core.report.visual import Allotment
from vidcompress.core.tokens import VisualTokens
from vidcompress.testing import select_alone

CLIPS = {name: layout for name, layout in VIDEOS.items() if name != "300 frames"}
FLOAT, HALF, DOUBLE = torch.float32, torch.bfloat16, torch.float64


def batch(
    layouts: dict[str, Layout], dim: int, dtype: torch.dtype, copies: int = 3
) -> tuple[list[VisualTokens], list[VisualBudget]]:
    """Visuals of every shape by turns, each with a ratio of its own."""
    tokens, budgets = [], []
    for number in range(copies * len(layouts)):
        layout = list(layouts.values())[number % len(layouts)]
        if number >= len(layouts):
            layout = replace(layout)  # alike, and not the same object
        ratio = Fraction(1 + number % 7, 8)
        tokens.append(make_tokens(layout, dim=dim, seed=number, dtype=dtype))
        budgets.append(visual_budget(layout, max(2, round(len(layout) * ratio)), ratio=ratio))
    return tokens, budgets


MEASURED: list[tuple[str, dict[str, Any], dict[str, Layout]]] = [
    ("globalcom2", {"evidence": "distance"}, IMAGES),
    ("globalcom2", {"evidence": "distance", "allocation": "gated"}, IMAGES),
    ("globalcom2", {}, CLIPS),
    ("globalcom2", {"allocation": "softmax_max"}, CLIPS),
    ("globalcom2", {"allocation": "uniform", "score": "global"}, CLIPS),
    ("globalcom2", {"allocation": "topk", "tau": 3.0}, CLIPS),
    ("vidcom2", {}, CLIPS),
    ("vidcom2", {"channel_share": 1.0, "widths": (0.5,)}, CLIPS),
]


@pytest.mark.parametrize(("dim", "dtype"), [(64, FLOAT), (64, HALF), (96, DOUBLE), (12, FLOAT)])
@pytest.mark.parametrize(("name", "options", "layouts"), MEASURED)
def test_scores_and_wishes_are_those_of_each_alone(
    name: str, options: dict[str, Any], layouts: dict[str, Layout], dim: int, dtype: torch.dtype
) -> None:
    method = get_method(name, **options)
    assert isinstance(method, ScoredMethod)
    layouts = {key: layout for key, layout in layouts.items() if len(layout) > 1}
    tokens, budgets = batch(layouts, dim, dtype)
    together = VisualBatch(tokens)
    scores, allotment = method.scores(together, budgets)
    assert isinstance(allotment, Allotment)
    alone = [method.scores(VisualBatch([one]), [budget]) for one, budget in zip(tokens, budgets, strict=True)]
    own = Allotment.join([wanted for _, wanted in alone])
    pairs = [(scores, torch.cat([of_tokens for of_tokens, _ in alone])), (allotment.weights, own.weights)]
    assert (allotment.importance is None) == (own.importance is None)
    if allotment.importance is not None and own.importance is not None:
        pairs.append((allotment.importance, own.importance))
    # Norms of the views of a ragged batch are sums over rows of another length: in float64 their last bit may differ.
    atol = 1e-14 if dtype == DOUBLE else 0.0
    for pair in pairs:
        found, expected = (meaningful(values, together.layout) for values in pair)
        torch.testing.assert_close(found, expected, rtol=0.0, atol=atol, equal_nan=True)
    chosen = method.select(together, budgets)
    for selection, one, budget in zip(chosen, tokens, budgets, strict=True):
        assert torch.equal(selection.index, select_alone(method, one, budget).index)


def meaningful(values: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Scores of separators mean nothing."""
    return values[~layout.separator] if len(values) == len(layout) else values


def measured(tokens: list[VisualTokens], **how: Any) -> tuple[list[VisualBatch], list[tuple[int, ...]]]:
    """The groups in which visuals are measured, and the numbers of their visuals."""
    groups: list[tuple[VisualBatch, tuple[int, ...]]] = []

    def measure(group: VisualBatch, numbers: tuple[int, ...]) -> list[torch.Tensor]:
        groups.append((group, numbers))
        return [group.features[:, 0]]

    in_groups(VisualBatch(tokens), measure, "N", **how)
    return [group for group, _ in groups], [numbers for _, numbers in groups]


def members(tokens: list[VisualTokens], **how: Any) -> list[tuple[int, ...]]:
    return measured(tokens, **how)[1]


def test_visuals_of_one_shape_share_a_group() -> None:
    tokens, _ = batch(CLIPS, 64, FLOAT, copies=2)
    half = len(CLIPS)
    assert members(tokens) == [(number, number + half) for number in range(half)]
    pictures, _ = batch(
        {name: IMAGES[name] for name in ("two by two", "landscape", "one crop")}, 64, FLOAT, 1
    )
    assert members(pictures) == [(0, 1), (2,)]  # crops of 6 x 6, and one of 5 x 7
    assert members(pictures, whole=True) == [(0,), (1,), (2,)]  # of other numbers of tokens
    assert members([*pictures, *pictures], whole=True) == [(0, 3), (1, 4), (2, 5)]


def test_rows_that_begin_anywhere_in_a_cache_line_stay_alone() -> None:
    layouts = {"clip": CLIPS["one newline"]}
    assert members(batch(layouts, 12, FLOAT)[0]) == [(0,), (1,), (2,)]
    assert members(batch(layouts, 16, FLOAT)[0]) == [(0, 1, 2)]
    assert members(batch(layouts, 16, FLOAT)[0], used=0.5) == [(0,), (1,), (2,)]  # 8 of the 16 channels
    assert members(batch(layouts, 8, DOUBLE)[0]) == [(0, 1, 2)]
    assert members([batch(layouts, 16, dtype, 1)[0][0] for dtype in (FLOAT, HALF)]) == [(0,), (1,)]


def test_a_copy_is_no_larger_than_a_quarter_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, _ = batch({"clip": CLIPS["one newline"]}, 16, FLOAT, copies=7)
    rows = len(tokens[0])
    monkeypatch.setattr(reductions, "CPU_BLOCK", 4 * 3 * rows * 16 * 4)
    assert members(tokens) == [(0, 1, 2), (3, 4, 5), (6,)]
    groups, _ = measured(tokens)
    assert len(groups[0].features) == 3 * rows
    assert groups[2].features is tokens[6].features, "a visual alone is not copied"
    monkeypatch.setattr(reductions, "CPU_BLOCK", 4 * (rows * 16 * 4 - 1))
    assert members(tokens) == [(number,) for number in range(7)]


def test_values_go_back_to_their_visuals() -> None:
    tokens, _ = batch({name: CLIPS[name] for name in ("one newline", "one frame")}, 16, FLOAT, copies=2)

    def measure(group: VisualBatch, numbers: tuple[int, ...]) -> list[torch.Tensor]:
        sizes = list(zip(group.lengths, group.views, strict=True))
        return [
            torch.cat([torch.arange(size[axis]) + 1000 * n for n, size in zip(numbers, sizes, strict=True)])
            for axis in (0, 1)
        ]

    positions, views = in_groups(VisualBatch(tokens), measure, "NV")
    for values, sizes in ((positions, [len(one) for one in tokens]), (views, [8, 1, 8, 1])):
        assert values.tolist() == [1000 * n + i for n, size in enumerate(sizes) for i in range(size)]

"""Several visuals selected in one pass: the same tokens as one by one, and hardly more kernels than for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from layouts import CLS, IMAGES, VIDEOS, make_tokens
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import Budget, VisualBudget, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.method import Method, PerVisualMethod
from vidcompress.core.method_lookup import get_method
from vidcompress.core.report.visual import Allotment
from vidcompress.core.selection import Selection, largest_remainder
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import BudgetError, UnsupportedInputError
from vidcompress.methods.fastervlm import FasterVLM
from vidcompress.methods.globalcom2 import GlobalCom2
from vidcompress.testing import select_alone

SCORED: list[tuple[str, dict[str, Any], dict[str, Layout]]] = [
    ("fastervlm", {}, IMAGES),
    ("fastervlm", {}, VIDEOS),
    ("hired", {}, IMAGES),
    ("globalcom2", {}, IMAGES),
    ("globalcom2", {"evidence": "distance"}, IMAGES),
    ("globalcom2", {"allocation": "topk"}, IMAGES),
    ("globalcom2", {}, VIDEOS),
    ("vidcom2", {}, VIDEOS),
    ("vidcom2", {"reconcile": "global"}, VIDEOS),
    ("random", {}, IMAGES),
    ("uniform", {}, VIDEOS),
]


def batch_of(
    layouts: dict[str, Layout], ratio: str, **how: Any
) -> tuple[list[VisualTokens], list[VisualBudget]]:
    """Tokens and budgets of all layouts that the budget can serve, seeded differently."""
    tokens, budgets = [], []
    for number, layout in enumerate(layouts.values()):
        (positions,) = Budget(ratio).split([len(layout)])
        try:
            budgets.append(visual_budget(layout, positions, ratio=Fraction(ratio), **how))
        except BudgetError:
            continue
        tokens.append(make_tokens(layout, seed=number))
    return tokens, budgets


@pytest.mark.parametrize("how", [{}, {"separators": "drop"}, {"separators": "keep"}, {"policy": "reference"}])
@pytest.mark.parametrize(("name", "options", "layouts"), SCORED)
def test_the_same_tokens_as_alone(
    name: str, options: dict[str, Any], layouts: dict[str, Layout], how: dict[str, Any]
) -> None:
    method = get_method(name, **options)
    for ratio in ("0.02", "0.1", "0.3", "0.9", "1"):
        if how.get("policy") == "reference":
            how = {**how, "separators": "keep"}
        tokens, budgets = batch_of(layouts, ratio, **how)
        alone = [select_alone(method, one, budget) for one, budget in zip(tokens, budgets, strict=True)]
        together = method.select(VisualBatch(tokens), budgets)
        assert len(together) == len(alone) >= 3
        for one, other in zip(alone, together, strict=True):
            assert torch.equal(one.index, other.index)


class Count(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        return func(*args, **(kwargs or {}))


COSTS: list[tuple[str, str, Layout, int, int]] = [
    ("fastervlm", "auto", IMAGES["landscape"], 0, 140),
    ("globalcom2", "auto", IMAGES["landscape"], 44, 140),
    ("globalcom2", "distance", IMAGES["landscape"], 44, 180),
    ("hired", "auto", IMAGES["landscape"], 40, 140),
    ("globalcom2", "auto", VIDEOS["one newline"], 0, 230),
    ("vidcom2", "auto", VIDEOS["newline per row"], 0, 282),
    ("random", "auto", IMAGES["landscape"], 0, 30),
    ("uniform", "auto", VIDEOS["one newline"], 0, 30),
]
"""Method, evidence, layout; operations for one visual more, and at most for all that is done once."""


@pytest.mark.parametrize(("name", "evidence", "layout", "each", "once"), COSTS)
def test_one_more_visual_costs_its_scores_only(
    name: str, evidence: str, layout: Layout, each: int, once: int
) -> None:
    method = get_method(name, **({} if evidence == "auto" else {"evidence": evidence}))
    budget = visual_budget(layout, len(layout) // 4, ratio=Fraction(1, 4))
    seen = {}
    for count in (2, 6):
        tokens = [make_tokens(layout, dim=64, seed=number) for number in range(count)]
        method.select(VisualBatch(tokens), [budget] * count)  # layouts are joined once per geometry
        with Count() as counter:
            method.select(VisualBatch(tokens), [budget] * count)
        seen[count] = counter.seen
    assert seen[6] - seen[2] <= 4 * each
    assert seen[2] - 2 * each <= once


def test_rows_of_shares_are_those_of_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(50, 9, generator=generator, dtype=torch.float64)
    weights[:10, 3] = torch.nan
    weights[10:20] = 0
    weights[20:30] = weights[20:30].round(decimals=1)  # ties
    caps = torch.randint(0, 12, (50, 9), generator=generator)
    caps[30:, 6:] = 0  # views that are not there
    totals = (caps.sum(1) * torch.rand(50, generator=generator)).to(torch.int64)
    rows = largest_remainder(weights, totals[:, None], caps)
    for row, weight, total, cap in zip(rows, weights, totals.tolist(), caps, strict=True):
        assert torch.equal(row, largest_remainder(weight, total, cap)) and int(row.sum()) == total
        assert torch.equal(row[:6], largest_remainder(weight[:6], total, cap[:6])) or int(cap[6:].sum())


def test_layouts_side_by_side_count_through() -> None:
    layouts = (VIDEOS["newline per row"], VIDEOS["one newline"], VIDEOS["no newline"])
    batch = VisualBatch([make_tokens(layout) for layout in layouts])
    whole = batch.layout
    assert len(whole) == sum(map(len, layouts)) == sum(batch.lengths) and len(whole.views) == 8 + 8 + 5
    assert batch.views == [8, 8, 5]
    assert whole.sizes_tensor[:-1].tolist() == [15] * 8 + [16] * 8 + [9] * 5
    assert torch.equal(torch.bincount(whole.view), whole.sizes_tensor)
    assert torch.equal(torch.bincount(batch._side_by_side.owner), torch.tensor([len(one) for one in layouts]))
    assert whole.num_lines == 8 * 3 + 1 + 0 and batch._side_by_side.caps.tolist()[2] == [9] * 5 + [0] * 3
    assert VisualBatch([make_tokens(layout) for layout in layouts]).layout is whole, "made once per geometry"
    assert whole.canvas is None


def test_a_batch_of_one_is_the_visual() -> None:
    tokens = make_tokens(IMAGES["landscape"])
    alone, two = VisualBatch([tokens]), VisualBatch([tokens, tokens])
    with Count() as counter:
        assert alone.layout is tokens.layout and alone.features is tokens.features
        assert alone.evidence(CLS) is tokens.evidence[CLS]
    assert counter.seen == 0, "it takes no operation more"
    assert alone.layout.canvas is not None and two.layout.canvas is None
    assert torch.equal(two.features, torch.cat([tokens.features] * 2))
    assert torch.equal(two.evidence(CLS), torch.cat([tokens.evidence[CLS]] * 2))
    assert two.lengths == [len(tokens)] * 2


def test_evidence_that_one_came_without_is_missed() -> None:
    tokens = make_tokens(IMAGES["landscape"])
    with pytest.raises(UnsupportedInputError, match="the method needs Evidence"):
        VisualBatch([tokens, VisualTokens(tokens.features, tokens.layout)]).evidence(CLS)


@dataclass(frozen=True)
class Own(FasterVLM):
    """Selects in its own way."""

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        return [Selection(torch.arange(budget.positions)) for budget in budgets]


@dataclass(frozen=True)
class Reversed(GlobalCom2):
    """Scores in its own way, and knows nothing of batches."""

    def scores(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> tuple[torch.Tensor, Allotment]:
        scores, allotment = super().scores(batch, budgets)
        return -scores, allotment


@dataclass(frozen=True)
class First(PerVisualMethod):
    """Goes visual by visual."""

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        return Selection(torch.arange(budget.positions))


@pytest.mark.parametrize("method", [Own(), Reversed(), First()])
def test_what_a_subclass_overrides_is_asked_alone_and_in_batches(method: Method) -> None:
    tokens, budgets = batch_of(IMAGES, "0.3")
    plain = FasterVLM().select(VisualBatch(tokens), budgets)
    together = method.select(VisualBatch(tokens), budgets)
    for one, budget, made in zip(tokens, budgets, together, strict=True):
        assert torch.equal(made.index, select_alone(method, one, budget).index)
    assert any(not torch.equal(one.index, other.index) for one, other in zip(together, plain, strict=True))


def test_policies_may_differ_within_a_batch() -> None:
    tokens, budgets = batch_of(IMAGES, "0.3", separators="keep")
    mixed = [
        visual_budget(
            one.layout, budget.positions, ratio=Fraction(3, 10), separators="keep", policy="reference"
        )
        if number % 2
        else budget
        for number, (one, budget) in enumerate(zip(tokens, budgets, strict=True))
    ]
    method, moved = GlobalCom2(), 0
    made = method.select(VisualBatch(tokens), mixed)
    for one, budget, asked, selection in zip(tokens, budgets, mixed, made, strict=True):
        assert torch.equal(selection.index, select_alone(method, one, asked).index)
        exact = select_alone(method, one, budget).index
        moved += not torch.equal(selection.index, exact)
        assert asked.policy == "reference" or torch.equal(selection.index, exact)
    assert moved, "the authors' counts or order differ somewhere"

"""Budgets: exact decimals, proportional splits, the share of separators, and every refusal."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import LAYOUTS
from vidcompress.core.budget import Budget, exact_ratio, ratio_fraction, split_in_proportion, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.errors import ArgumentError, BudgetError


@pytest.mark.parametrize(
    "value, wanted",
    [
        (0.1, Fraction(1, 10)),
        ("0.1", Fraction(1, 10)),
        (Decimal("0.35"), Fraction(7, 20)),
        (Fraction(1, 3), Fraction(1, 3)),
        (1, Fraction(1)),
        (1.0, Fraction(1)),
    ],
)
def test_ratios_are_exact_decimals(value: Any, wanted: Fraction) -> None:
    assert exact_ratio(value) == wanted


@pytest.mark.parametrize(
    "value", [0, -0.1, 1.01, float("nan"), float("inf"), "a quarter", True, None, [0.5], "1e400"]
)
def test_bad_ratios_are_refused(value: Any) -> None:
    with pytest.raises(BudgetError, match="retention_ratio must be a number with 0 < R <= 1|exactly one of"):
        Budget(retention_ratio=value)


@pytest.mark.parametrize("value", [0, -3, 2.5, True, "10"])
def test_bad_token_counts_are_refused(value: Any) -> None:
    with pytest.raises(BudgetError, match="max_tokens must be an integer of at least 1"):
        Budget(max_tokens=value)


@pytest.mark.parametrize("both", [{}, {"retention_ratio": 0.5, "max_tokens": 4}])
def test_one_of_the_two_is_required(both: dict[str, Any]) -> None:
    with pytest.raises(BudgetError, match="exactly one of retention_ratio .* and max_tokens"):
        Budget(**both)


def test_ratio_rounds_half_up_on_decimals_not_on_floats() -> None:
    # 0.35 * 10 is 3.5 exactly and rounds up; in binary floating point 0.35 * 130 is 45.49999999999999.
    assert Budget(0.35).split([10, 130]) == [4, 46]
    assert Budget(0.001).split([10]) == [1], "at least one position"
    assert Budget(1).split([7]) == [7]


@settings(deadline=None)
@given(st.integers(1, 500), st.lists(st.integers(0, 400), min_size=1, max_size=8))
def test_tokens_are_split_in_proportion(total: int, lengths: list[int]) -> None:
    parts = Budget(max_tokens=total).split(lengths)
    assert sum(parts) == min(total, sum(lengths))
    for part, n in zip(parts, lengths, strict=True):
        assert 0 <= part <= n
        if sum(lengths):
            assert abs(part - min(total, sum(lengths)) * n / sum(lengths)) < 1


def test_split_ties_go_to_the_earlier() -> None:
    assert split_in_proportion(1, [5, 5]) == [1, 0]
    assert split_in_proportion(2, [1, 1, 1]) == [1, 1, 0]
    assert split_in_proportion(3, [0, 0]) == [0, 0]


def test_ratio_fraction_reads_the_shortest_decimal() -> None:
    assert ratio_fraction(0.1) == Fraction(1, 10)
    assert ratio_fraction(0.0) == 0


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_share_of_separators(layout: Layout) -> None:
    total, newlines = layout.full_length, layout.num_separators
    tokens = total - newlines
    for positions in range(total + 1):
        budget = visual_budget(layout, positions)
        if layout.trailing_separator:
            wanted = int(positions >= 2)
        else:
            wanted = math.floor(Fraction(positions * newlines, total) + Fraction(1, 2))
        assert (budget.positions, budget.separators, budget.tokens) == (positions, wanted, positions - wanted)
        assert 0 <= budget.tokens <= tokens
        assert 0 <= budget.separators <= newlines
        dropped = visual_budget(layout, positions, separators="drop")
        assert (dropped.separators, dropped.tokens) == (0, min(positions, tokens))
        if positions < newlines:
            with pytest.raises(BudgetError, match=f"separators='keep' needs a budget of at least {newlines}"):
                visual_budget(layout, positions, separators="keep")
        else:
            assert visual_budget(layout, positions, separators="keep").separators == newlines
        if total > 400 and positions > 40:
            break


def test_reference_puts_separators_on_top() -> None:
    layout = LAYOUTS["video, newline per row"]
    budget = visual_budget(layout, 36, ratio=Fraction(1, 4), separators="keep", policy="reference")
    assert (budget.separators, budget.ratio, budget.policy) == (24, 0.25, "reference")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"separators": "some"}, "separators must be one of keep, thin, drop, got 'some'"),
        ({"policy": "best"}, "policy must be one of exact, reference, got 'best'"),
        ({"policy": "reference"}, "policy='reference' sends every separator, got separators='thin'"),
    ],
)
def test_bad_arguments_of_plans(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        visual_budget(LAYOUTS["image, two by two"], 10, **arguments)

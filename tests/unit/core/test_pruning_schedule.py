"""Counts per layer: the largest family member within the budget, floors, fitted layers, the authors' numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcompress import BudgetError, get_method
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods
from vidcompress.core.pruning.schedule import Schedule, Stage, largest_within, stage_layers
from vidcompress.methods.sparsevlm import recycled

INSIDE = [name for name in available_methods() if METHODS.get(name).where == "inside"]


@settings(deadline=None, max_examples=50)
@given(
    total=st.integers(1, 3000),
    budget=st.integers(1, 3000),
    layers=st.integers(2, 40),
    name=st.sampled_from(INSIDE),
)
def test_a_schedule_fits_its_budget_and_never_grows(total: int, budget: int, layers: int, name: str) -> None:
    method = get_method(name)
    try:
        schedule = method.plan_layers(total, budget, layers)
    except BudgetError:
        assert budget < total
        return
    counts = schedule.per_layer()
    assert len(counts) == layers and counts[0] == total
    assert all(a >= b >= 1 for a, b in zip(counts, counts[1:], strict=False))
    assert sum(counts) <= layers * max(budget, 1) or budget >= total
    for stage in schedule.stages:
        assert stage.layer >= 1 and stage.kept >= 1


@settings(deadline=None, max_examples=50)
@given(total=st.integers(2, 900), share=st.integers(1, 99), layers=st.sampled_from([3, 4, 28, 32, 40]))
def test_fastv_leaves_no_token_of_the_budget_unused(total: int, share: int, layers: int) -> None:
    budget = max(1, total * share // 100)
    first = max(1, int(layers * 2 / 32 + 0.5))
    most = [k for k in range(1, total + 1) if first * total + (layers - first) * k <= layers * budget]
    if not most:
        with pytest.raises(
            BudgetError,
            match=f"all of them are in the first {f'{first} layers' if first > 1 else 'layer'}, so",
        ):
            get_method("fastv").plan_layers(total, budget, layers)
        return
    assert get_method("fastv").plan_layers(total, budget, layers).per_layer()[-1] == max(most)


@settings(deadline=None, max_examples=50)
@given(total=st.integers(20, 700), share=st.integers(26, 99))
def test_pdrop_takes_the_largest_pyramid(total: int, share: int) -> None:
    """Against every pyramid that 4,000 values of lambda give."""
    budget = total * share // 100
    pyramids = {
        tuple(max(1, int(total * Fraction(step, 4000) ** s)) for s in (1, 2, 3)) for step in range(4001)
    }
    sums = [8 * (total + sum(pyramid)) for pyramid in pyramids]
    best = max((s for s in sums if s <= 32 * budget), default=None)
    if best is None:
        return
    assert get_method("pdrop").plan_layers(total, budget, 32).summed >= best


def floors_of_all_pyramids(total: int) -> set[tuple[int, int, int]]:
    """Every (floor(N x), floor(N x^2), floor(N x^3)) that some x from 0 to 1 has, each at least 1; in whole numbers.

    They change where N x^s is a whole number k, and there floor(N x^t) is the largest j with j^s N^t <= N^s k^t.
    """
    found = {(1, 1, 1)}
    for s in (1, 2, 3):
        for k in range(1, total + 1):
            sizes = []
            for t in (1, 2, 3):
                wanted = total**s * k**t
                j = int((wanted / total**t) ** (1 / s))
                j += (j + 1) ** s * total**t <= wanted
                j -= j**s * total**t > wanted
                sizes.append(max(1, j))
            found.add((sizes[0], sizes[1], sizes[2]))
    return found


@pytest.mark.parametrize(
    ("total", "budget"), [(23, 11), (64, 17), (64, 30), (101, 40), (129, 64), (196, 80), (464, 216)]
)
def test_pdrop_rounds_its_pyramid_down(total: int, budget: int) -> None:
    """The pyramid is one of whole numbers rounded down, and of these the largest within the budget."""
    pyramids = floors_of_all_pyramids(total)
    schedule = get_method("pdrop").plan_layers(total, budget, 32)
    kept = tuple(stage.kept for stage in schedule.stages)
    assert kept in pyramids
    assert sum(kept) == max(sum(sizes) for sizes in pyramids if 8 * (total + sum(sizes)) <= 32 * budget)


def test_pdrop_s_pyramids_by_hand() -> None:
    pdrop = get_method("pdrop")
    assert pdrop.counts(10, Fraction(1, 2)) == [5, 2, 1]  # 5, 2.5, 1.25
    assert pdrop.counts(100, Fraction(2, 3)) == [66, 44, 29]  # 66.7, 44.4, 29.6
    assert pdrop.counts(100, Fraction(0)) == [1, 1, 1]
    # The authors' 577 // 2, // 4 and // 8 whatever the ratio; nothing is left of 7 at an eighth.
    assert pdrop.reference_counts(577, Fraction(1, 9)) == [288, 144, 72]
    assert pdrop.reference_counts(7, Fraction(1, 2)) == [3, 1, 0]


def test_the_authors_counts_of_other_totals_by_hand() -> None:
    """FastV rounds R N half to even; SparseVLM cuts the counts that its settings have of 576 tokens."""
    fastv, sparse = get_method("fastv"), get_method("sparsevlm")
    quarters = {n: fastv.reference_counts(n, Fraction(1, 4)) for n in (10, 11, 14)}
    assert quarters == {10: [2], 11: [3], 14: [4]}  # 2.5, 2.75, 3.5
    # Of 100 tokens "192" keeps 52.08, 34.7 and 19.1; a ratio halfway between two settings takes the larger one.
    assert sparse.reference_counts(100, Fraction(1, 3)) == [52, 34, 19]
    assert sparse.reference_counts(576, Fraction(160, 576)) == [300, 200, 110]
    # Halfway from setting "64" to "192" of 1000 tokens: (66 + 300) / 2 of 576, and so on, cut.
    assert sparse.counts(1000, Fraction(1, 2)) == [317, 199, 110]  # 317.7, 199.7, 110.2


def test_what_is_sent_in_front_by_hand() -> None:
    """The nearest whole number to the root of B N: 7.7 of 10 for 6, 328.1 of 464 for 232; never below the budget."""
    both = get_method("random+fastv")
    assert [both.sent(budget, total) for budget, total in ((6, 10), (3, 10), (232, 464))] == [8, 5, 328]
    assert get_method("random+fastv", before_ratio=0.1).sent(6, 10) == 6


def test_the_authors_numbers() -> None:
    pdrop = get_method("pdrop").plan_layers(2928, 1, 32, reference=True)
    assert [stage.tokens for stage in pdrop.stages] == [1464, 732, 366]
    assert pdrop.summed / 32 / 2928 == pytest.approx(0.46875)
    assert [stage.layer for stage in pdrop.stages] == [8, 16, 24]
    fastv = get_method("fastv").plan_layers(576, 144, 32, ratio=Fraction(1, 4), reference=True)
    assert fastv.per_layer() == [576] * 2 + [144] * 30
    sparse = get_method("sparsevlm").plan_layers(576, 192, 32, ratio=Fraction(1, 3), reference=True)
    assert [stage.tokens for stage in sparse.stages] == [309, 204, 113]
    assert sparse.summed / 32 == pytest.approx(206.5, abs=0.5)
    second = get_method("sparsevlm2").plan_layers(576, 64, 32, ratio=Fraction(1, 9), reference=True)
    assert [(stage.layer, stage.kept, stage.merged) for stage in second.stages] == [
        (3, 66, 0),
        (7, 34, 0),
        (16, 20, 0),
    ]


@pytest.mark.parametrize("setting, mean", [(192, 206.5), (128, 145.4), (96, 114.1), (64, 82.3)])
def test_what_the_settings_of_sparsevlm_really_send(setting: int, mean: float) -> None:
    ratio = Fraction(setting, 576)
    schedule = get_method("sparsevlm").plan_layers(576, setting, 32, ratio=ratio, reference=True)
    assert schedule.summed / 32 == pytest.approx(mean, abs=0.1)


def test_fitted_layers_are_earlier_in_proportion() -> None:
    published, fitted = (get_method("pdrop", schedule=name) for name in ("published", "fit"))
    with pytest.raises(BudgetError, match=r"cannot keep 100 of 1000 .* floor is 25.* or pass schedule='fit'"):
        published.plan_layers(1000, 100, 32)
    schedule = fitted.plan_layers(1000, 100, 32)
    assert [stage.layer for stage in schedule.stages] == [2, 3, 5]
    assert 3150 < schedule.summed <= 3200
    assert fitted.plan_layers(1000, 600, 32) == published.plan_layers(1000, 600, 32)
    with pytest.raises(BudgetError, match="as in 'globalcom2[+]pdrop'"):
        fitted.plan_layers(1000, 20, 32)


def test_small_parts() -> None:
    assert stage_layers([Fraction(2, 32), Fraction(31, 32)], 4) == [1, 3]
    assert Schedule(9, 4, (Stage(2, 4, 1),)).per_layer() == [9, 9, 5, 5]
    assert [recycled(n) for n in (0, 1, 2, 30, 276)] == [(0, 0), (1, 1), (1, 1), (10, 2), (83, 9)]
    assert largest_within(10, 5, 4, [1], lambda n, level: [max(1, int(n * level))], lambda n: 0) == Schedule(
        5, 4, (Stage(1, 1),)
    )
    assert largest_within(7, 5, 4, [1], lambda n, level: [max(1, int(n * level))], lambda n: 0) is None
    for name in INSIDE:
        assert get_method(name).plan_layers(7, 7, 32).stages == ()
        assert get_method(name).plan_layers(0, 1, 32).stages == ()


def test_fastv_cuts_at_the_depth_it_is_given() -> None:
    """20 of 28 and 18 of 28, FlashVID's and HoliTom's layers; the default is the authors' 2 of 32."""
    for depth, layer in ((0.714, 20), (0.643, 18), (0.0625, 2)):
        schedule = get_method("fastv", depth=depth).plan_layers(1000, 900, 28)
        assert [stage.layer for stage in schedule.stages] == [layer]
        assert sum(schedule.per_layer()) <= 28 * 900
    assert get_method("fastv") == get_method("fastv", depth=0.0625)
    both = get_method("flashvid+fastv", depth=0.714, before_ratio=0.125)
    assert both.inside.depth == 0.714 and both.sent(100, 1000) == 125  # type: ignore[attr-defined]

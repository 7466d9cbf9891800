"""Tuning: Wilson's ends against published ones, how often a budget is confirmed wrongly, what is said of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.statistics import wilson
from vidcompress.tools.evaluation.tuning import TunedRow, Tuning
from vidcompress.tools.evaluation.tuning.agreement import (
    Agreement,
    confirmed,
    least_questions,
    quantile,
    questions_needed,
)
from vidcompress.tools.evaluation.tuning.run_tuning import LEAST, MOST, check_agreement, tuning_sweep
from vidcompress.tools.evaluation.tuning.table import findings, tuning_tables, verdicts

RATIOS = (0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
FALSE = 0.05


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_ends_are_the_published_ones(right: int, of: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17, 1998, 857-872, table I, method 3."""
    assert wilson(right, of, quantile()) == pytest.approx((low, high), abs=5e-5)
    assert Agreement(right, of).limits == wilson(right, of, quantile())
    wide = Agreement(right, of, 6).limits
    assert wide[0] <= low + 5e-5 and wide[1] > high + 0.01, "six kinds, a wider interval"


def chance(of: int, least: int, share: float) -> float:
    """Chance of at least `least` right answers of `of`, exactly."""
    log = math.lgamma
    return math.fsum(
        math.exp(
            log(of + 1) - log(k + 1) - log(of - k + 1) + k * math.log(share) + (of - k) * math.log(1 - share)
        )
        for k in range(least, of + 1)
    )


@pytest.mark.parametrize("agreement", [LEAST, 0.75, 0.9, 0.95, 0.99, MOST])
def test_a_single_test_errs_in_at_most_five_per_cent_of_samples_of_any_size(agreement: float) -> None:
    """Exactly, at the limit, where it errs most often; taking the share by its word errs in half of them."""
    worst, plain = 0.0, 0.0
    for of in range(1, 400, 3):
        passing = [k for k in range(of + 1) if Agreement(k, of).verdict(agreement) == "confirmed"]
        assert passing == list(range(min(passing, default=of + 1), of + 1))
        worst = max(worst, chance(of, passing[0], agreement) if passing else 0.0)
        plain = max(plain, chance(of, math.ceil(agreement * of), agreement))
    assert worst <= FALSE
    assert plain > 0.4


def simulated(
    shares: Sequence[float], questions: int, alike: bool, seed: int, repeats: int = 1000
) -> tuple[float, float]:
    """Rates of samples in which a budget below 95 % is confirmed: in the fixed sequence, and by any test of its own."""
    rng = np.random.default_rng(seed)
    draws = rng.random((repeats, 1 if alike else len(shares), questions))
    counts = (draws < np.asarray(shares)[:, None]).sum(-1)
    bad = [share < 0.95 for share in shares]
    wrong = loose = 0
    for row in counts:
        said = [Agreement(int(count), questions).verdict(0.95) for count in row]
        wrong += any(bad[: confirmed(said)])
        loose += any(word == "confirmed" and is_bad for word, is_bad in zip(said, bad, strict=True))
    return wrong / repeats, loose / repeats


@settings(max_examples=25, deadline=None)
@given(
    good=st.lists(st.floats(0.95, 1.0), max_size=2),
    bad=st.lists(st.floats(0.9, 0.9499), min_size=1, max_size=4),
    mixed=st.randoms(use_true_random=False),
    questions=st.integers(20, 1500),
    alike=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_budget_of_too_little_agreement_is_confirmed_in_at_most_five_per_cent(
    good: list[float], bad: list[float], mixed: object, questions: int, alike: bool, seed: int
) -> None:
    """Whatever the budgets' agreements, in any order, and whether they fail on the same questions or on others."""
    shares = [*good, *bad]
    mixed.shuffle(shares)  # type: ignore[attr-defined]
    assert simulated(shares, questions, alike, seed)[0] <= FALSE


def test_six_tests_without_a_sequence_err_too_often() -> None:
    """The control of the simulation: budgets just below the limit that fail on questions of their own."""
    wrong, loose = simulated([0.9499] * 6, 284, False, 0, repeats=3000)
    assert wrong <= FALSE < 0.1 < loose


def test_the_sequence_ends_at_the_first_budget_that_is_not_confirmed() -> None:
    assert confirmed([]) == 0
    assert confirmed(["confirmed", "open", "confirmed"]) == 1
    assert confirmed(["below", "confirmed"]) == 0
    assert confirmed(["confirmed"] * 3) == 3


@given(st.floats(LEAST, MOST), st.integers(1, 12))
def test_the_least_number_of_questions_is_the_least(agreement: float, kinds: int) -> None:
    least = least_questions(agreement, kinds)
    assert Agreement(least, least, kinds).limits[0] >= agreement - 1e-12
    assert Agreement(least - 1, least - 1, kinds).verdict(agreement) != "confirmed"


def test_numbers_of_questions() -> None:
    assert least_questions(0.95) == 73
    assert least_questions(0.95, 6) == 133
    assert questions_needed(1.0, 0.95) == 73
    assert questions_needed(0.95, 0.95) is None
    needed = questions_needed(0.97, 0.95) or 0
    rng = np.random.default_rng(0)
    good = [
        Agreement(int(count), needed).verdict(0.95) == "confirmed"
        for count in rng.binomial(needed, 0.97, 4000)
    ]
    assert sum(good) / len(good) == pytest.approx(0.8, abs=0.04)
    fewer = [
        Agreement(int(count), needed // 3).verdict(0.95) == "confirmed"
        for count in rng.binomial(needed // 3, 0.97, 4000)
    ]
    assert sum(fewer) / len(fewer) < 0.5


def row(ratio: float, equal: int, of: int = 500, method: str = "census", **more: object) -> TunedRow:
    return TunedRow(
        method,
        {"retention_ratio": ratio},
        f"{100 * ratio:g} %",
        Agreement(equal, of),
        score=0.9,
        kept=9.5,
        **more,
    )  # type: ignore[arg-type]


def tuning(*rows: TunedRow, **more: object) -> Tuning:
    return Tuning("m", "t", "ab", "census", 0.95, rows, score=0.9, total=99.0, **more)  # type: ignore[arg-type]


def test_a_budget_is_found_and_the_next_one_is_said_to_be_open() -> None:
    tuned = tuning(row(0.5, 499), row(0.25, 490), row(0.1, 478), row(0.05, 500))
    assert verdicts(tuned) == ["confirmed", "confirmed", "open", "not tested"]
    assert tuned.choice() is tuned.rows[1]
    first, second = findings(tuned)
    assert first.startswith(
        "25 % with census is the smallest budget that is confirmed: 490 of 500 answers equal"
    )
    assert "at least 96.4 % do" in first
    assert second.startswith(
        "10 %: the sample cannot decide: 95.6 % of 500 questions are equal; if the share stays, "
    )
    assert f"{questions_needed(0.956, 0.95):,} questions decide" in second
    entry = tuned.to_dict()
    assert entry["choice"] == {"retention_ratio": 0.25}
    assert [one["verdict"] for one in entry["rows"]] == ["confirmed", "confirmed", "open", "confirmed"]


def test_a_sample_that_is_too_small_says_how_many_questions_it_takes() -> None:
    tuned = tuning(row(0.5, 60, 60), row(0.25, 60, 60))
    assert tuned.choice() is None
    assert findings(tuned) == [
        "no budget of census is confirmed at 95 %",
        "50 %: 60 questions cannot confirm 95 %, however they are answered: it takes 73 or more",
    ]


def test_what_lies_below_and_what_is_out_of_reach() -> None:
    assert findings(tuning(row(0.5, 400)))[1].startswith(
        "50 %: 80.0 % of the answers are equal, and with 95 %"
    )
    tuned = tuning(row(0.5, 500), row(0.05, 0, unreachable="its floor is 25 %"))
    assert verdicts(tuned) == ["confirmed", "out of reach"]
    assert findings(tuned)[1] == "5 % is out of reach: its floor is 25 %"
    assert findings(tuning(row(0.5, 475)))[1].endswith(
        "no number of questions tells that from the agreement itself"
    )
    assert (
        findings(tuning(row(0.5, 500)))[1]
        == "every budget that was tried is confirmed; a smaller one may be too"
    )


def test_a_control_that_would_do_is_named_and_one_that_would_not_is_not() -> None:
    controls = [row(0.5, 499, method="random"), row(0.5, 300, method="uniform")]
    said = findings(tuning(row(0.5, 500), controls=controls))
    assert [line for line in said if "would do" in line] == [
        "random would do at 50 % too: on these questions it matters little which tokens are kept"
    ]
    text = "\n".join(table.text() for table in tuning_tables(tuning(row(0.5, 500), controls=controls)))
    assert text.count("control") == 2 and "random" in text


def test_kinds_have_sequences_of_their_own() -> None:
    def of(ratio: float, color: int, count: int, each: int = 200) -> TunedRow:
        kinds = {"color": Agreement(color, each, 2), "count": Agreement(count, each, 2)}
        return row(ratio, color + count, 2 * each, kinds=kinds)

    tuned = tuning(of(0.5, 200, 199), of(0.1, 200, 150))
    assert tuned.choice("color") is tuned.rows[1] and tuned.choice("count") is tuned.rows[0]
    assert tuned.choice() is tuned.rows[0]
    said = findings(tuned)
    assert "color: 10 % is confirmed" in said
    assert any(
        line.startswith("count: 50 % is confirmed; 10 %: 75.0 % of the answers are equal") for line in said
    )
    assert tuned.to_dict()["kinds"] == {"color": {"retention_ratio": 0.1}, "count": {"retention_ratio": 0.5}}
    few = findings(tuning(of(0.5, 20, 20, 20)))
    assert few[-1] == (
        "a kind of question has 20 questions, and it takes 96 or more to confirm 95 % for one of 2 kinds"
    )
    assert len(tuning_tables(tuned)) == 2 and len(tuning_tables(tuning(row(0.5, 500)))) == 1


def test_questions_about_one_picture_are_said_not_to_be_independent() -> None:
    assert "500 questions are about 20 pictures or clips" in findings(tuning(row(0.5, 500), media=20))[-1]
    assert "pictures or clips" not in findings(tuning(row(0.5, 500), media=500))[-1]
    assert findings(tuning(row(0.5, 500), left_out=3))[-1].startswith("3 questions failed with all tokens")


def test_a_sweep_has_the_controls_once_and_refuses_what_it_cannot_compare() -> None:
    def of(task: str = "shapes:image", method: str = "census", **more: object) -> list[str]:
        given = {"ratios": None, "max_tokens": None, "controls": True, **more}
        return list(tuning_sweep("tiny-onevision", task, method=method, **given).methods)  # type: ignore[arg-type]

    assert of() == ["census", "random", "uniform"]
    assert of(method="uniform") == ["uniform", "random"]
    assert of(controls=False) == ["census"]
    for wrong, said in (
        ({"method": "none"}, "method='none': has no budget to tune; name a method"),
        ({"task": "lmms:pope"}, "task='lmms:pope': lmms-eval asks it"),
        ({"ratios": [1.0]}, "1 alone is the model with all tokens; give a smaller one"),
        ({"controls": 1}, "controls"),
    ):
        with pytest.raises(ArgumentError, match=said):
            of(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.5, 1.0, 95, float("nan"), "0.95", None, True])
def test_an_agreement_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(
        ArgumentError, match=r"agreement=.*: must be a share of equal answers from 0.6 to 0.999"
    ):
        check_agreement(value)
    assert check_agreement(0.6) == 0.6

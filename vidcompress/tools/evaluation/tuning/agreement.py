"""Agreement of answers under a budget with those of all tokens, and the tests that confirm it.

A budget is confirmed where the lower end of Wilson's interval of its share of equal answers (Journal of the American
Statistical Association 22, 1927, 209-212) reaches the agreement that was asked for. The budgets are tested in a fixed
sequence, from the largest down, each at the full level, until one is not confirmed: the chance of confirming any budget
whose agreement is too small is then at most that of one test, whatever the number of budgets and however their answers
depend on one another (Maurer, Hothorn and Lehmacher, in: Biometrie in der chemisch-pharmazeutischen Industrie 6, 1995,
3-18). Kinds of question are further sequences, at the level of Bonferroni over the kinds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from vidcompress.tools.evaluation.report.statistics import wilson

CONFIDENCE = 0.95
"""Of the intervals; a lower end alone errs in half of the remaining share."""
POWER = 0.8
"""Chance with which the number of questions that is advised decides."""
Verdict = Literal["confirmed", "open", "below"]
"""The whole interval reaches the agreement; the agreement lies within it; the whole interval lies below."""


@dataclass(frozen=True)
class Agreement:
    """Share of answers under a budget that equal those with all tokens, letter for letter.

    Attributes:
        equal: number of equal answers; a question that failed under the budget only has none.
        questions: number of questions that were answered with all tokens.
        sequences: number of sequences that the level is split over: 1, or the number of kinds.
    """

    equal: int
    questions: int
    sequences: int = 1

    @property
    def share(self) -> float | None:
        """Share of equal answers; None where there is no question."""
        return self.equal / self.questions if self.questions else None

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of Wilson's interval at the level of one sequence."""
        return wilson(self.equal, self.questions, quantile(self.sequences))

    def verdict(self, agreement: float) -> Verdict:
        """What the sample says by itself of a share of at least `agreement`, from 0 to 1."""
        low, high = self.limits
        return "confirmed" if low >= agreement else "below" if high < agreement else "open"


def quantile(sequences: int = 1) -> float:
    """Return the quantile of the normal distribution for the ends of an interval, by Bonferroni over `sequences`."""
    return NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / sequences)


def confirmed(verdicts: Sequence[Verdict]) -> int:
    """Return the number of budgets that are confirmed: those before the first that is not.

    Args:
        verdicts: of each budget, from the largest down.
    """
    return next((n for n, verdict in enumerate(verdicts) if verdict != "confirmed"), len(verdicts))


def least_questions(agreement: float, sequences: int = 1) -> int:
    """Return the number of questions below which equal answers alone confirm nothing: z^2 a / (1 - a), from Wilson."""
    return _whole(quantile(sequences) ** 2 * agreement / (1 - agreement))


def questions_needed(share: float, agreement: float, sequences: int = 1) -> int | None:
    """Return the number of questions that decide with a chance of `POWER`, if `share` of their answers are equal.

    It is the usual size of a one-sided test of a share, (z_a sqrt(a (1 - a)) + z_b sqrt(p (1 - p)))^2 / (p - a)^2
    (Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, 3rd ed., 2003, section 2.5).

    Returns:
        The number, or None where the share is the agreement itself, which no number of questions tells apart.
    """
    if share == agreement:
        return None
    at_limit = quantile(sequences) * math.sqrt(agreement * (1 - agreement))
    beyond = NormalDist().inv_cdf(POWER) * math.sqrt(share * (1 - share))
    return max(
        least_questions(agreement, sequences), _whole(((at_limit + beyond) / (share - agreement)) ** 2)
    )


def _whole(number: float) -> int:
    """Round up; a number that is whole but for rounding stays."""
    return math.ceil(number - 1e-9)

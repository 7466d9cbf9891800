"""Paired differences: two methods on the same questions, with a 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidcompress.tools.evaluation.report.statistics import paired_limits, wilson

RESAMPLES = 4000
ADDED = 4
"""Number of largest gaps that are added to estimate the step size of graded scores."""


@dataclass(frozen=True)
class Difference:
    """Paired difference of two methods, per question: first minus second.

    Attributes:
        mean: mean difference, in the unit of the scores.
        low, high: ends of its 95 % interval.
        questions: number of questions that count in both.
        better, worse: number of questions where the first scored higher, and lower.
    """

    mean: float
    low: float
    high: float
    questions: int
    better: int
    worse: int

    @property
    def is_clear(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


def difference(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> Difference | None:
    """Compute the paired difference of two methods over the questions that count in both.

    The interval is `paired_limits`, which holds for a handful of questions too and has a width where the two never
    differ; graded scores enter it by the mean and the mean square of their gaps.

    Args:
        first, second: question id -> score; None where the question does not count.

    Returns:
        The difference, or None where they share no question.
    """
    pairs = [
        (score, other)
        for key, score in first.items()
        if score is not None and (other := second.get(key)) is not None
    ]
    if not pairs:
        return None
    gaps = [a - b for a, b in pairs]
    mean = math.fsum(gaps) / len(gaps)
    low, high = _limits(gaps, max(1.0, *(abs(score) for pair in pairs for score in pair)))
    better, worse = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    return Difference(mean, low, high, len(pairs), better, worse)


def interval(scores: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean score: Wilson's for right-or-wrong scores, else that of a seeded bootstrap.

    Args:
        scores: at least one.
    """
    if all(score in (0, 1) for score in scores):
        return wilson(sum(score == 1 for score in scores), len(scores))
    return _bootstrap(scores)


def _limits(gaps: Sequence[float], largest: float) -> tuple[float, float]:
    """Apply `paired_limits` to gaps of any size: steps of one size up and down with the same mean and mean square.

    Steps of right-or-wrong scores are 1. Gaps of unequal sizes become fewer steps of a larger size, as weighted answers
    become an effective number of answers. A handful of small gaps does not exclude large ones, and no end lies more
    than a step away from 0: so the size is that of the gaps and of `ADDED` largest ones, as Agresti and Coull (The
    American Statistician 52, 1998) add four answers to a share.

    Args:
        gaps: differences of scores.
        largest: largest possible score.
    """
    up = math.fsum(gap for gap in gaps if gap > 0)
    down = -math.fsum(gap for gap in gaps if gap < 0)
    squares = math.fsum(gap * gap for gap in gaps)
    step = (squares + ADDED * largest**2) / (up + down + ADDED * largest)
    low, high = paired_limits(up / step, down / step, len(gaps))
    return step * low, step * high


def _bootstrap(gaps: Sequence[float]) -> tuple[float, float]:
    """Return percentiles of the mean over resampled questions; gaps of one size are drawn together."""
    values, counts = np.unique(np.asarray(gaps, dtype=np.float64), return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(gaps), counts / len(gaps), size=RESAMPLES)
    low, high = np.percentile(draws @ values / len(gaps), (2.5, 97.5))
    return float(low), float(high)

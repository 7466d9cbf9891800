"""Paired differences: two methods on the same questions, with a 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .statistics import wilson

RESAMPLES = 4000
_Z = 1.96


@dataclass(frozen=True)
class Difference:
    """How much better the first is than the second, per question.

    Attributes:
        mean: mean difference, in the unit of the marks.
        low, high: ends of its 95 % interval.
        questions: how many both answered.
        better, worse: on how many the first scored higher, and lower.
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
    """Compare the marks of two methods on the questions that both answered.

    Right-or-wrong marks get Newcombe's interval for paired shares (Statistics in Medicine 17, 1998, method 10), which
    does not shrink to nothing when the two never differ. Other marks get the percentiles of a seeded bootstrap over the
    questions.

    Args:
        first, second: question id -> mark; None where the question failed.

    Returns:
        The difference, or None where they share no question.
    """
    pairs = [
        (mark, other)
        for key, mark in first.items()
        if mark is not None and (other := second.get(key)) is not None
    ]
    if not pairs:
        return None
    gaps = [a - b for a, b in pairs]
    mean = math.fsum(gaps) / len(gaps)
    binary = all(mark in (0, 1) for pair in pairs for mark in pair)
    low, high = _newcombe(pairs) if binary else _bootstrap(gaps)
    better, worse = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    return Difference(mean, low, high, len(pairs), better, worse)


def interval(marks: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean of marks: Wilson's of right-or-wrong ones, else percentiles of a seeded bootstrap.

    Args:
        marks: at least one.
    """
    if all(mark in (0, 1) for mark in marks):
        return wilson(sum(mark == 1 for mark in marks), len(marks))
    return _bootstrap(marks)


def _newcombe(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Wilson's limits of both shares, joined under the correlation of the pairs."""
    n = len(pairs)
    both = sum(a == 1 and b == 1 for a, b in pairs)
    only_first = sum(a == 1 and b == 0 for a, b in pairs)
    only_second = sum(a == 0 and b == 1 for a, b in pairs)
    neither = n - both - only_first - only_second
    right_1, right_2 = both + only_first, both + only_second
    p1, p2 = right_1 / n, right_2 / n
    (l1, u1), (l2, u2) = wilson(right_1, n), wilson(right_2, n)
    margins = right_1 * (n - right_1) * right_2 * (n - right_2)
    cross = float(both * neither - only_first * only_second)
    if cross > 0:  # the continuity correction of method 10
        cross = max(cross - n / 2, 0)
    phi = cross / math.sqrt(margins) if margins else 0.0
    down = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    up = (p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2
    return p1 - p2 - math.sqrt(max(down, 0)), p1 - p2 + math.sqrt(max(up, 0))


def _bootstrap(gaps: Sequence[float]) -> tuple[float, float]:
    """Percentiles of the mean over resampled questions; gaps of one size are drawn together."""
    values, counts = np.unique(np.asarray(gaps, dtype=np.float64), return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(gaps), counts / len(gaps), size=RESAMPLES)
    low, high = np.percentile(draws @ values / len(gaps), (2.5, 97.5))
    return float(low), float(high)

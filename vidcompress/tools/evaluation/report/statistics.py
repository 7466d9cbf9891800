"""Confidence intervals of shares and of paired differences."""

from __future__ import annotations

import math


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share (Wilson's score interval)."""
    if of == 0:
        return 0.0, 1.0
    p, spread = right / of, z * z / of
    middle = (p + spread / 2) / (1 + spread)
    half = z * math.sqrt(p * (1 - p) / of + spread / (4 * of)) / (1 + spread)
    return middle - half, middle + half


def paired_limits(
    better: float, worse: float, of: int, *, correction: float = 1.0, z: float = 1.96
) -> tuple[float, float]:
    """Return the 95 % confidence interval of the difference of two shares measured on the same questions.

    Tango's score interval (Statistics in Medicine 17, 1998, 891-908) with a continuity correction: 0 lies outside just
    where McNemar's test in the form of Edwards, (|better - worse| - 1) / sqrt(better + worse), rejects at 5 %. Its
    coverage is at least 95 % for a handful of questions too, where it is wide: below six differing questions nothing
    is clear.

    Args:
        better, worse: number of questions on which only the first was right, and only the second; need not be whole.
        of: all questions, at least 1 and at least better + worse.
        correction: in questions; 0 is Tango's own interval, which falls short of 95 % below some thirty questions.
        z: quantile of the normal distribution.

    Returns:
        Low and high end, from -1 to 1.
    """
    return -_highest(worse, better, of, correction, z), _highest(better, worse, of, correction, z)


def _highest(better: float, worse: float, of: int, correction: float, z: float) -> float:
    """Return the largest difference that the counts do not reject, by bisection."""
    inside, outside = (better - worse) / of, 1.0
    for _ in range(50):
        middle = (inside + outside) / 2
        # The share of `worse` alone that is most likely where the difference is `middle`.
        b, c = (2 * of - better + worse) * middle - better - worse, worse * middle * (1 - middle)
        share = (math.sqrt(max(b * b + 8 * of * c, 0.0)) - b) / (4 * of)
        variance = of * (2 * share + middle * (1 - middle))
        surplus = of * middle - (better - worse) - correction
        if surplus > z * math.sqrt(max(variance, 0.0)):
            outside = middle
        else:
            inside = middle
    return outside


def paired(correct: str, base_correct: str, z: float = 1.96) -> tuple[float, float]:
    """Return the mean paired difference and the half-width of its 95 % interval, from strings of "1" (right) and "0".

    It uses the normal approximation, for hundreds of questions; for few it is too narrow, see `paired_limits`.
    """
    differences = [int(a) - int(b) for a, b in zip(correct, base_correct, strict=True)]
    mean = sum(differences) / len(differences)
    variance = sum((d - mean) ** 2 for d in differences) / max(1, len(differences) - 1)
    return mean, z * math.sqrt(variance / len(differences))

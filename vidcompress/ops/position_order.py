"""Orders of positions that the length of the input does not change: a number from each position alone.

The best B by such a number are the same whether all positions are there at once or come one after another.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

GOLDEN = 0x9E3779B97F4A7C15
"""2^64 / golden ratio, odd."""
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""Multipliers of splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""


def golden_order(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return numbers that rank positions so that the best B of any run are almost evenly spaced.

    The number falls with the distance of position / golden ratio, modulo 1, above 0: the best are those in one
    interval, and the gaps between them have at most three lengths.

    Args:
        positions: (n,) at least 0.

    Returns:
        (n,) int64, all different; larger is better.
    """
    return _ascending(~(positions.astype(np.uint64) * np.uint64(GOLDEN)))


def hashed_order(positions: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return numbers that rank positions like draws without replacement: splitmix64 of position and seed.

    Args:
        positions: (n,) at least 0. seed: 0 to 2**63 - 1.

    Returns:
        (n,) int64, all different; larger is better.
    """
    z = _mixed(np.uint64(seed) * np.uint64(2) + np.uint64(1))  # an odd start of its own for every seed
    return _ascending(_mixed(positions.astype(np.uint64) * np.uint64(GOLDEN) + z))


def _mixed(z: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX[0])
        z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX[1])
        return np.asarray(z ^ (z >> np.uint64(31)))


def _ascending(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Map 64 bits to int64 in the same order."""
    return np.asarray((values ^ np.uint64(1 << 63)).view(np.int64))


def best_positions(order: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return the `count` positions of largest number, ascending."""
    return np.sort(np.argsort(order, kind="stable")[::-1][:count])

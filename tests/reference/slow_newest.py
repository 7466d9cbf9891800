"""V-CAST, VisPruner, PruneVid, HoliTom and FlashVID once more, with Python numbers and loops.

Slow and obvious on purpose, in float64; nothing of the package is used.
"""

from __future__ import annotations

import math
from fractions import Fraction

from reference.slow_methods import Frame, Token, cosine


def mean(tokens: list[Token]) -> Token:
    """Of every number of the tokens."""
    return [math.fsum(column) / len(tokens) for column in zip(*tokens, strict=True)]


def difference(x: Token, y: Token) -> Token:
    """X - y."""
    return [a - b for a, b in zip(x, y, strict=True)]


def length(x: Token) -> float:
    """L2 norm."""
    return math.sqrt(math.fsum(a * a for a in x))


def in_proportion(weights: list[float], total: int, caps: list[int]) -> list[int]:
    """Largest remainder; what full ones cannot take goes to the others in proportion."""
    shares = [0.0] * len(weights)
    open_ones, left = [i for i in range(len(weights)) if caps[i]], float(total)
    while open_ones and left > 0:
        whole = math.fsum(weights[i] for i in open_ones)
        part = {i: left * weights[i] / whole if whole else left / len(open_ones) for i in open_ones}
        full = [i for i in open_ones if part[i] >= caps[i]]
        if not full:
            for i in open_ones:
                shares[i] = part[i]
            break
        for i in full:
            shares[i] = float(caps[i])
            left -= caps[i]
        open_ones = [i for i in open_ones if i not in full]
    counts = [int(share + 1e-9) for share in shares]
    remainders = sorted(range(len(shares)), key=lambda i: (-(shares[i] - counts[i]), i))
    for i in remainders[: total - sum(counts)]:
        counts[i] += 1
    return counts


# -- V-CAST --------------------------------------------------------------------------------------------------------


def curvatures(frames: list[Frame]) -> list[float]:
    """Of every frame: 1 - cosine of the step to it and the step from it."""
    means = [mean(frame) for frame in frames]
    units = [[a / length(m) for a in m] for m in means]
    out = []
    for t in range(len(frames)):
        if t in (0, len(frames) - 1):
            out.append(1.0)
            continue
        before, after = difference(units[t], units[t - 1]), difference(units[t + 1], units[t])
        still = min(length(before), length(after)) < 1e-9
        out.append(1.0 if still else 1 - cosine(before, after))
    return out


def vcast_shares(curved: list[float], tau: float) -> list[float]:
    """Softmax."""
    powers = [math.exp(c / tau) for c in curved]
    return [power / math.fsum(powers) for power in powers]


def vcast_counts(curved: list[float], total: int, size: int, tau: float) -> list[int]:
    """One of each frame, and the rest by shares."""
    frames, shares = len(curved), vcast_shares(curved, tau)
    if total < frames:
        return in_proportion(shares, total, [size] * frames)
    return in_proportion([1 + share * (total - frames) for share in shares], total, [size] * frames)


def vcast_reference_counts(curved: list[float], ratio: Fraction, size: int, tau: float) -> list[int]:
    """The code's: after a leftover token was given, the remainder of its frame is the largest still."""
    frames, shares = len(curved), vcast_shares(curved, tau)
    if frames == 1:
        return [size]
    total = max(frames, round(ratio * size * frames))
    more = [share * (total - frames) for share in shares]
    counts = [1 + min(int(m), size - 1) for m in more]
    remainder = [m - int(m) for m in more]
    while sum(counts) < total:
        best = max((t for t in range(frames) if counts[t] < size), key=lambda t: (remainder[t], -t))
        counts[best] += 1
    return counts


def vcast_scores(frame: Frame) -> list[float]:
    """Unlikeness to the mean, plus the norm's place in the range of norms."""
    norms = [length(x) for x in frame]
    low, high = min(norms), max(norms)
    centre = mean(frame)
    return [
        1 - cosine(x, centre) + ((norm - low) / (high - low) if high - low > 1e-6 * high else 0.0)
        for x, norm in zip(frame, norms, strict=True)
    ]


# -- DART ----------------------------------------------------------------------------------------------------------


def dart(
    norms: list[float],
    states: list[Token],
    visual: list[int],
    text: list[int],
    kept: int,
    pivots: tuple[int, int],
) -> tuple[list[int], list[int]]:
    """Visual pivots, and the tokens that stay for the pivots' sake, one pivot after the other."""
    own = sorted(visual, key=lambda i: (-norms[i], i))[: min(pivots[0], kept)]
    turns = own + sorted(text, key=lambda i: (-norms[i], i))[: pivots[1]]
    left, out = kept - len(own), []
    for number, pivot in enumerate(turns):
        rest = [i for i in visual if i not in own and i not in out]
        share = left // len(turns) + (number < left % len(turns))
        alike = {i: round(cosine(states[pivot], states[i]), 9) for i in rest}
        out += sorted(rest, key=lambda i: (alike[i], i))[:share]
    return own, out


# -- VisPruner -----------------------------------------------------------------------------------------------------


def vispruner(attention: list[float], states: list[Token], count: int, important: int) -> list[int]:
    """Places of one view: the best, and what is left when duplicates were dropped eight at a time."""
    order = sorted(range(len(attention)), key=lambda i: (-attention[i], i))
    kept, row = order[:important], order[important:]
    while len(row) > count - important:
        even, odd = row[::2], row[1::2]
        drop = min(8, len(row) - (count - important), len(even))
        most = {i: max((round(cosine(states[i], states[j]), 9) for j in odd), default=-2.0) for i in even}
        alike = sorted(even, key=lambda i: -most[i])
        row = alike[drop:] + odd
    return sorted(kept + row)

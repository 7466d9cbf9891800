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


# -- PruneVid and HoliTom ------------------------------------------------------------------------------------------


def refined(cluster: list[int]) -> list[int]:
    """The authors' steps: of every cluster its longest runs stay, the frames between join the longer neighbour."""
    frames, runs = len(cluster), []
    for t in range(frames):
        if t and cluster[t] == cluster[t - 1]:
            runs[-1].append(t)
        else:
            runs.append([t])
    out = [-1] * frames
    for run in runs:
        longest = max(len(other) for other in runs if cluster[other[0]] == cluster[run[0]])
        if len(run) == longest > 1:
            for t in run:
                out[t] = cluster[t]
    t = 0
    while t < frames:
        if out[t] != -1:
            t += 1
            continue
        end = t
        while end < frames and out[end] == -1:
            end += 1
        left = right = 0
        while t - left - 1 >= 0 and out[t - left - 1] == out[t - 1]:
            left += 1
        while end < frames and end + right < frames and out[end + right] == out[end]:
            right += 1
        label = out[end] if right > left else out[t - 1] if left else out[end] if right else 0
        out[t:end] = [label] * (end - t)
        t = end
    return out


def cut(labels: list[int]) -> list[tuple[int, int]]:
    """First and last frame of every window."""
    starts = [t for t in range(len(labels)) if t == 0 or labels[t] != labels[t - 1]]
    return [(a, b - 1) for a, b in zip(starts, [*starts[1:], len(labels)], strict=True)]


def most_static(same: list[list[bool]], longest: int) -> list[tuple[int, int]]:
    """HoliTom's dynamic programme as in the code."""
    frames = len(same) + 1
    best, start = [0] * frames, [0] * frames
    for i in range(frames):
        largest, first = (best[i - 1] if i else 0), i
        for size in range(2, min(i + 1, longest) + 1):
            j = i - size + 1
            still = sum(all(same[t][n] for t in range(j, i)) for n in range(len(same[0])))
            value = (best[j - 1] if j else 0) + still * (size - 1)
            if value > largest:
                largest, first = value, j
        best[i], start[i] = largest, first
    windows, i = [], frames - 1
    while i >= 0:
        windows.append((start[i], i))
        i = start[i] - 1
    return windows[::-1]


def mean_cosine(tokens: list[Token]) -> float:
    """Of all pairs."""
    pairs = [(a, b) for i, a in enumerate(tokens) for b in tokens[:i]]
    return math.fsum(cosine(a, b) for a, b in pairs) / len(pairs) if pairs else -math.inf


def thinned(still: dict[tuple[int, int], float], lengths: dict[int, int], most: int) -> set[tuple[int, int]]:
    """Places (window, place) that stay merged: the closest first, until merging would save too many tokens."""
    out: set[tuple[int, int]] = set()
    for key in sorted(still, key=lambda key: (-still[key], key)):
        most -= lengths[key[0]] - 1
        if most < 0:
            break
        out.add(key)
    return out


def clusters(
    tokens: list[Token], count: int, neighbours: int, beta: float | None = None
) -> list[tuple[int, list[int], Token]]:
    """Centre, members and merged token of every cluster, by density peaks."""
    n, width = len(tokens), math.sqrt(len(tokens[0])) if tokens else 1.0
    far = [[math.dist(a, b) / width for b in tokens] for a in tokens]
    density = [
        math.exp(-math.fsum(d * d for d in sorted(row)[:neighbours]) / min(neighbours, n)) for row in far
    ]
    largest, worth = max((max(row) for row in far), default=0.0), []
    for i in range(n):
        denser = [j for j in range(n) if density[j] > density[i] or (density[j] == density[i] and j < i)]
        worth.append(density[i] * min((far[i][j] for j in denser), default=largest))
    centres = sorted(sorted(range(n), key=lambda i: (-worth[i], i))[:count])
    members: dict[int, list[int]] = {c: [c] for c in centres}
    for i in range(n):
        if i not in members and centres:
            members[min(centres, key=lambda c: (far[i][c], c))].append(i)
    out = []
    for centre, group in members.items():
        others = [tokens[i] for i in group if i != centre]
        token = mean([tokens[i] for i in group])
        if beta is not None and others:
            token = [beta * a + (1 - beta) * b for a, b in zip(tokens[centre], mean(others), strict=True)]
        out.append((centre, sorted(group), token))
    return out


# -- FlashVID ------------------------------------------------------------------------------------------------------


def flash_weights(
    frames: list[Frame], attention: list[list[float]], segment: list[int], events: bool
) -> list[list[float]]:
    """Attention, times the product with the mean of the segment's frame means."""
    out = []
    for t, frame in enumerate(frames):
        weights = list(attention[t])
        if events:
            centre = mean([mean(frames[s]) for s in range(len(frames)) if segment[s] == segment[t]])
            weights = [
                w * max(0.0, math.fsum(a * b for a, b in zip(x, centre, strict=True)))
                for w, x in zip(weights, frame, strict=True)
            ]
        out.append(weights)
    return out


def diverse(frame: Frame, weights: list[float], count: int) -> list[int]:
    """Greedy max-min diversity, weighed."""
    n, taken = len(frame), []
    far = [[0.0 if i == j else 1 - cosine(a, b) for j, b in enumerate(frame)] for i, a in enumerate(frame)]
    largest = max(weights) or 1.0
    for _ in range(count):
        worth = {}
        for j in range(n):
            if j not in taken:
                against = taken or [i for i in range(n) if i != j]
                worth[j] = weights[j] / largest * min((far[i][j] for i in against), default=2.0)
        taken.append(max(worth, key=lambda j: (round(worth[j], 9), -j)))
    return sorted(taken)


def flash_links(
    frames: list[Frame], free: list[list[int]], segment: list[int], tau: float, most: dict[int, int]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Parent of each linked token; of each segment the closest links, `most` of them."""
    links: dict[int, list[tuple[float, int, int, int]]] = {}
    for t in range(1, len(frames)):
        if segment[t] != segment[t - 1] or not free[t - 1]:
            continue
        for i in free[t]:
            alike = {j: round(cosine(frames[t][i], frames[t - 1][j]), 12) for j in free[t - 1]}
            best = max(alike, key=lambda j: (alike[j], -j))
            links.setdefault(segment[t], []).append((-alike[best], t, i, best))
    out = {}
    for number, found in links.items():
        for alike, t, i, parent in sorted(found)[: most[number]]:
            if -alike > tau:
                out[t, i] = (t - 1, parent)
    return out

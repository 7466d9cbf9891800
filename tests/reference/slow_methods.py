"""DivPrune, CDPruner, EVS, DyCoke and FastVID once more, with Python numbers and loops.

Slow and obvious on purpose, in float64. Frames are lists of tokens, tokens are lists of numbers; nothing of the package
is used. Where a greedy choice may be a tie, the functions say what every candidate is worth instead of choosing.
"""

from __future__ import annotations

import math

Token = list[float]
Frame = list[Token]


def cosine(x: Token, y: Token) -> float:
    """Cosine of two tokens."""
    product = math.fsum(a * b for a, b in zip(x, y, strict=True))
    return product / math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in y))


# -- DivPrune ------------------------------------------------------------------------------------------------------


def spread(tokens: list[Token], taken: list[int], start: str) -> dict[int, float]:
    """What each token not yet taken is worth next."""
    worth = {}
    for i in range(len(tokens)):
        if i in taken:
            continue
        others = taken or [j for j in range(len(tokens)) if j != i]
        distances = [1 - cosine(tokens[i], tokens[j]) for j in others]
        best = max if not taken and start == "farthest_pair" else min
        worth[i] = best(distances, default=0.0)
    return worth


# -- CDPruner ------------------------------------------------------------------------------------------------------


def relevance(tokens: list[Token], question: list[Token], sign: int) -> list[float]:
    """Of every token, over all views."""
    raw = [sign * math.fsum(cosine(x, q) for q in question) / len(question) for x in tokens]
    low, high = min(raw), max(raw)
    return [(value - low + 1e-6) / (high - low) for value in raw]


def determinant(matrix: list[list[float]]) -> float:
    """By elimination with pivoting."""
    rows, value = [list(row) for row in matrix], 1.0
    for i in range(len(rows)):
        pivot = max(range(i, len(rows)), key=lambda r: abs(rows[r][i]))
        if rows[pivot][i] == 0:
            return 0.0
        if pivot != i:
            rows[i], rows[pivot], value = rows[pivot], rows[i], -value
        value *= rows[i][i]
        for r in range(i + 1, len(rows)):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    return value


def gains(tokens: list[Token], weight: list[float], taken: list[int]) -> dict[int, float]:
    """By how much each token not yet taken multiplies the determinant of the kernel of those taken."""

    def kernel(chosen: list[int]) -> list[list[float]]:
        return [[weight[i] * cosine(tokens[i], tokens[j]) * weight[j] for j in chosen] for i in chosen]

    whole = determinant(kernel(taken)) if taken else 1.0
    rest = [i for i in range(len(tokens)) if i not in taken]
    return {i: determinant(kernel([*taken, i])) / whole for i in rest}


# -- EVS and DyCoke --------------------------------------------------------------------------------------------------


def best(worth: list[float], count: int) -> list[int]:
    """The `count` largest, ties to the earlier, in that order."""
    return sorted(range(len(worth)), key=lambda i: (-worth[i], i))[:count]


def changes(frames: list[Frame]) -> list[float]:
    """EVS: 1 - cosine to the frame before at every place, frame after frame."""
    out = []
    for t, frame in enumerate(frames):
        for i, token in enumerate(frame):
            if t == 0:
                out.append(255.0)
            else:
                out.append(_change(token, frames[t - 1][i]))
    return out


def _change(x: Token, y: Token) -> float:
    change = 1 - cosine(x, y)
    return change if change > 1e-9 else 0.0  # copies, but for rounding


def dycoke_reference(frames: list[Frame], ratio: float) -> list[list[int]]:
    """The authors' two passes: places kept of each frame, in their order."""
    size = len(frames[0])
    kept = [list(range(size)) for _ in frames]
    count = int(ratio * size)
    for t in range(0, len(frames) - 1, 2):
        novelty = [_change(frames[t + 1][i], frames[t][i]) for i in range(size)]
        kept[t + 1] = best(novelty, count)
    for t in range(0, len(frames) - 4, 4):
        novelty = [_change(frames[t + 2][i], frames[t][i]) for i in range(size)]
        kept[t + 2] = best(novelty, count)
    return kept


def dycoke_exact(frames: list[Frame], total: int, window: int) -> list[list[int]] | None:
    """Whole first frames of windows, the rest of the budget alike on the others; None for less than one frame."""
    size, count = len(frames[0]), len(frames)
    if total < size:
        return None
    while len(range(0, count, window)) * size > total:
        window *= 2
    others = [t for t in range(count) if t % window]
    spare = total - (count - len(others)) * size
    kept = []
    for t in range(count):
        offset = t % window
        if offset == 0:
            kept.append(list(range(size)))
            continue
        step = 1
        while offset % (2 * step) == 0:
            step *= 2
        number = others.index(t)
        share = spare // len(others) + (number < spare % len(others))
        novelty = [_change(frames[t][i], frames[t - step][i]) for i in range(size)]
        kept.append(sorted(best(novelty, share)))
    return kept


# -- FastVID ---------------------------------------------------------------------------------------------------------


def segments(pooled: list[Token], count: int, tau: float) -> list[int]:
    """Number of the segment of every frame."""
    alike = [cosine(a, b) for a, b in zip(pooled, pooled[1:], strict=False)]
    cuts = set(sorted(range(len(alike)), key=lambda t: (alike[t], t))[: count - 1])
    cuts |= {t for t, value in enumerate(alike) if value < tau}
    out = [0]
    for t in range(len(alike)):
        out.append(out[-1] + (t in cuts))
    return out


def anchors(segment: list[int], stride: int, each: int) -> list[int]:
    """Merged tokens per frame, by whole numbers as the authors' code has it, for `each` per frame on average."""
    out = [0] * len(segment)
    for number in sorted(set(segment)):
        frames = [t for t, s in enumerate(segment) if s == number]
        carrying = frames[::-1][::stride]
        for t in carrying:
            out[t] = each * len(frames) // len(carrying)
    return out


def peak_scores(frame: Frame, free: list[int], neighbours: int) -> dict[int, float]:
    """Density times distance to the nearest denser token, among the free tokens of one frame."""
    width = len(frame[0])
    distance = {(i, j): math.dist(frame[i], frame[j]) / math.sqrt(width) for i in free for j in free}
    density = {}
    for i in free:
        near = sorted(distance[i, j] ** 2 for j in free)[:neighbours]
        density[i] = math.exp(-sum(near) / len(near))
    out = {}
    for i in free:
        denser = [j for j in free if density[j] > density[i] or (density[j] == density[i] and j < i)]
        out[i] = density[i] * min((distance[i, j] for j in denser), default=max(distance.values()))
    return out


def merged(
    frames: list[Frame],
    segment: list[int],
    taken: set[tuple[int, int]],
    peaks: list[tuple[int, int]],
    beta: float,
) -> list[Token]:
    """The new token of every peak (frame, place); peaks in order."""
    out = []
    for frame, place in peaks:
        rivals = [p for p in peaks if p[0] == frame]
        joined = []
        for t, tokens in enumerate(frames):
            for i, token in enumerate(tokens):
                if segment[t] != segment[frame] or (t, i) in taken:
                    continue
                alike = [cosine(token, frames[a][b]) for a, b in rivals]
                if rivals[alike.index(max(alike))] == (frame, place):
                    joined.append(token)
        own = frames[frame][place]
        weight = max(1 / (len(joined) + 1), beta)
        means = [math.fsum(x) / max(1, len(joined)) for x in zip(*joined, strict=True)] or [0.0] * len(own)
        out.append([weight * a + (1 - weight) * b for a, b in zip(own, means, strict=True)])
    return out

"""The formulas once more, with Python numbers and loops, written without looking at the package's tensors.

Slow and obvious on purpose: everything is float64 (or exact fractions where integers are at stake).
"""

from __future__ import annotations

import math
from fractions import Fraction

from vidcompress.core.layout import Layout

Box = tuple[float, float, float, float]


def cells_of(layout: Layout) -> list[list[int]]:
    """Positions of each view, ascending."""
    owners = layout.view.tolist()
    return [[i for i, owner in enumerate(owners) if owner == v] for v in range(len(layout.views))]


def cosine_distances(features: list[list[float]], groups: list[list[int]]) -> dict[int, float]:
    """Minus the cosine of each token to the mean of the normalised tokens of its group."""
    out = {}
    for group in groups:
        unit = {i: [x / math.sqrt(sum(y * y for y in features[i])) for x in features[i]] for i in group}
        if not group:
            continue
        mean = [math.fsum(unit[i][d] for i in group) / len(group) for d in range(len(features[0]))]
        length = math.sqrt(math.fsum(m * m for m in mean))
        for i in group:
            out[i] = -math.fsum(a * b for a, b in zip(unit[i], mean, strict=True)) / length
    return out


def covered(grid: list[list[float]], box: Box) -> list[tuple[float, float]]:
    """(weight, value) of every cell of the grid that the box touches."""
    top, left, bottom, right = box
    found = []
    for r, line in enumerate(grid):
        for c, value in enumerate(line):
            area = max(0.0, min(bottom, r + 1) - max(top, r)) * max(0.0, min(right, c + 1) - max(left, c))
            if area > 0:
                found.append((area, value))
    return found


def rates(worth: list[float | None], ratio: float, tau: float) -> list[float]:
    """r_j of views with worth S_j; None for views that take no part."""
    live = [s for s in worth if s is not None]
    if not live:
        return [ratio] * len(worth)
    power = [0.0 if s is None else math.exp((s - max(live)) / tau) for s in worth]
    sigma = [p / (sum(power) + 1e-8) for p in power]
    mean = sum(sigma) / len(live)
    return [
        ratio if s is None else min(1.0, ratio * (1 + x - mean)) for s, x in zip(worth, sigma, strict=True)
    ]


def bilinear(grid: list[list[float]], rows: int, cols: int) -> list[list[float]]:
    """Half-pixel bilinear resize without antialiasing."""

    def taps(size: int, out: int, i: int) -> list[tuple[int, float]]:
        x = max(0.0, (i + 0.5) * size / out - 0.5)
        low = min(int(x), size - 1)
        return [(low, 1 - (x - low)), (min(low + 1, size - 1), x - low)]

    height, width = len(grid), len(grid[0])
    return [
        [
            sum(wr * wc * grid[r][c] for r, wr in taps(height, rows, i) for c, wc in taps(width, cols, j))
            for j in range(cols)
        ]
        for i in range(rows)
    ]


def hats(values: dict[int, float], groups: list[list[int]]) -> dict[int, float]:
    """Values over the L2 norm of their group."""
    out = {}
    for group in groups:
        norm = math.sqrt(math.fsum(values[i] ** 2 for i in group))
        out.update({i: values[i] / norm for i in group})
    return out


def largest_remainder(weights: list[float], total: int, caps: list[int]) -> list[int]:
    """Capped proportional split in exact arithmetic; full views hand their surplus on, round by round."""
    exact = [Fraction(w) if cap else Fraction(0) for w, cap in zip(weights, caps, strict=True)]
    if not any(exact):
        exact = [Fraction(int(cap > 0)) for cap in caps]
    # The same floor as the package: a view of weight zero takes tokens only when all others are full.
    exact = [max(w, max(exact) / 10**9) if cap else Fraction(0) for w, cap in zip(exact, caps, strict=True)]
    share = [Fraction(0)] * len(caps)
    open_views = [j for j, cap in enumerate(caps) if cap]
    left = Fraction(total)
    while open_views:
        unit = left / sum(exact[j] for j in open_views)
        full = [j for j in open_views if unit * exact[j] >= caps[j]]
        if not full:
            for j in open_views:
                share[j] = unit * exact[j]
            break
        for j in full:
            share[j] = Fraction(caps[j])
            left -= caps[j]
        open_views = [j for j in open_views if j not in full]
    counts = [math.floor(s) for s in share]
    order = sorted(range(len(caps)), key=lambda j: (counts[j] - share[j], j))
    for j in [j for j in order if counts[j] < caps[j]][: total - sum(counts)]:
        counts[j] += 1
    return counts


def top(scores: dict[int, float], group: list[int], count: int) -> list[int]:
    """The best `count` positions of a view, ties by position, ascending."""
    return sorted(sorted(group, key=lambda i: (-scores[i], i))[:count])


def scaled_positions(row: list[str], stays: list[bool], homes: dict[str, int]) -> dict[int, int]:
    """Position of each token of an uncompressed row that stays, token by token.

    `row` names the visual of each token, "" for text; text between tokens of one visual belongs to it. `homes` has the
    length that each clip of a training had, for the visuals that are clips.
    """
    found: dict[int, int] = {}
    cursor = column = 0  # position of the next token; its column
    while column < len(row):
        name = row[column]
        total = row.count(name)
        if not name or total <= homes.get(name, total):
            if stays[column]:
                found[column] = cursor
            cursor, column = cursor + 1, column + 1
            continue
        stop = len(row) - row[::-1].index(name)
        scale, last, visual, text = Fraction(homes[name], total), cursor - 1, 0, 0
        for place in range(column, stop):
            if stays[place]:
                last = max(cursor + math.floor(scale * visual) + text, last + 1)
                found[place] = last
            visual, text = visual + (row[place] == name), text + (row[place] != name)
        cursor, column = max(cursor + math.floor(scale * total) + text, last + 1), stop
    return found

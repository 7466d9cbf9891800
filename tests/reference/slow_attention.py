"""FasterVLM, HiRED, PruMerge, PruMerge+ and VisionZip once more, token by token, with Python numbers.

A view is a list of positions in order; a selection is a list of (position, vector), in the order sent.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from reference.slow import covered
from vidcompress.core.layout import Layout

Vector = list[float]


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def in_proportion(total: int, sizes: list[int]) -> list[int]:
    """Largest remainder, ties to the earlier one."""
    if not sum(sizes):
        return [0] * len(sizes)
    quotas = [Fraction(total * size, sum(sizes)) for size in sizes]
    counts = [math.floor(q) for q in quotas]
    for j in sorted(range(len(sizes)), key=lambda j: (counts[j] - quotas[j], j))[: total - sum(counts)]:
        counts[j] += 1
    return counts


def best(group: list[int], scores: Vector, count: int) -> list[int]:
    """The best of a view, best first, ties by position."""
    return sorted(group, key=lambda i: (-scores[i], i))[:count]


def cosine(a: Vector, b: Vector) -> float:
    lengths = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths


def plus(*vectors: Vector) -> Vector:
    return [math.fsum(column) for column in zip(*vectors, strict=True)]


def times(factor: float, vector: Vector) -> Vector:
    return [factor * x for x in vector]


# -- HiRED ----------------------------------------------------------------------------------------------------


def marks(early: Vector, group: list[int], alpha: float) -> list[int]:
    """1 at the int((1 - alpha) M) best places of the thumbnail, in its order, else 0."""
    chosen = set(best(group, early, int(len(group) * (1 - alpha))))
    return [int(i in chosen) for i in group]


def hired_weights(early: Vector, layout: Layout, groups: list[list[int]], alpha: float) -> Vector:
    """What each view wants of the budget: the thumbnail alpha, a crop its part of the marked area it shows."""
    rows, cols = layout.grid
    flat = marks(early, groups[0], alpha)
    grid = [[float(x) for x in flat[r * cols : (r + 1) * cols]] for r in range(rows)]
    areas = [sum(a * v for a, v in covered(grid, view.box)) if view.box else 0.0 for view in layout.views[1:]]
    if sum(areas) == 0:
        areas = [float(len(group)) for group in groups[1:]]
    return [alpha, *((1 - alpha) * area / sum(areas) if sum(areas) else 0.0 for area in areas)]


def hired_reference(early: Vector, groups: list[list[int]], ratio: float, alpha: float) -> list[int]:
    """Counts as released: stripes of the flattened map, everything cut off."""
    size, crops = len(groups[0]), len(groups) - 1
    total = int(sum(map(len, groups)) * ratio)
    first = min(int(total * alpha), size)
    rest = min(total - first, sum(map(len, groups[1:])))
    flat = marks(early, groups[0], alpha)
    width = size // crops if crops else 0
    stripes = [sum(flat[j * width : (j + 1) * width]) for j in range(crops)]
    whole = np.float32(max(1, sum(stripes)))
    parts = [
        int(np.float32(stripe) / whole * np.float32(rest)) for stripe in stripes
    ]  # in float32, as released
    return [first, *(min(len(g), part) for part, g in zip(parts, groups[1:], strict=True))]


# -- VisionZip ---------------------------------------------------------------------------------------------------


def visionzip(
    group: list[int], k: int, share: Fraction, cls: bool, scores: Vector, keys: list[Vector], x: list[Vector]
) -> tuple[list[int], list[tuple[int, Vector | None]], bool]:
    """Dominant positions; contextual ones with their new vector (None: nothing absorbed); whether CLS is sent."""
    contextual = half_up(share * k)
    with_cls = cls and contextual < k < len(group)
    dominant = sorted(best(group, scores, k - contextual - with_cls))
    rest = [i for i in group if i not in dominant]
    if contextual == 0:
        return dominant, [], with_cls
    centres = rest[:: max(1, len(rest) // contextual)][:contextual]
    members: dict[int, list[int]] = {c: [] for c in centres}
    for i in rest:
        if i not in members:
            members[max(centres, key=lambda c: (round(cosine(keys[i], keys[c]), 12), -c))].append(i)
    merged: list[tuple[int, Vector | None]] = []
    for c, absorbed in members.items():
        mean = times(1 / len(absorbed), plus(*(x[i] for i in absorbed))) if absorbed else None
        merged.append((c, None if mean is None else plus(x[c], mean)))
    return dominant, merged, with_cls


# -- PruMerge ------------------------------------------------------------------------------------------------------


def quantile(values: Vector, share: Fraction) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * float(place - low)


def outliers(values: Vector) -> int:
    """How many lie above Q3 + 1.5 (Q3 - Q1)."""
    if not values:
        return 0
    low, high = quantile(values, Fraction(1, 4)), quantile(values, Fraction(3, 4))
    return sum(value > high + 1.5 * (high - low) for value in values)


def spaced_among(rest: list[int], count: int) -> list[int]:
    """Evenly spaced ones, from the middle of each stride."""
    return [rest[(2 * i + 1) * len(rest) // (2 * count)] for i in range(count)]


def plus_adaptive(group: list[int], scores: Vector, top: int) -> list[int]:
    """The authors' inference code: top tokens, then every int(int(1 / ratio) / 3)-th that is not among them."""
    kept = best(group, scores, top)
    stride = max(1, int(int(1 / (top / len(group))) / 3))
    return kept + [i for i in group[: len(group) - 1 : stride] if i not in kept]


def prumerge(
    group: list[int],
    kept: list[int],
    scores: Vector,
    keys: list[Vector],
    x: list[Vector],
    neighbours: int,
) -> tuple[list[Vector], Vector]:
    """New vectors of the kept tokens, and the one for what was pruned."""
    pruned = [i for i in group if i not in kept]
    pruned = pruned[len(kept) - len(set(kept)) :]  # the authors' list has as many entries as there are tokens
    listed = kept + pruned
    made = []
    for slot, i in enumerate(kept):
        others = [s for s in range(len(listed)) if s != slot]
        near = sorted(others, key=lambda s: (-round(cosine(keys[i], keys[listed[s]]), 12), s))[:neighbours]
        made.append(plus(x[i], *(times(scores[listed[s]], x[listed[s]]) for s in near)))
    zero = [0.0] * len(x[0])
    return made, plus(zero, *(times(scores[i], x[i]) for i in pruned))

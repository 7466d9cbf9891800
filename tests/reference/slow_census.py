"""Census once more, token by token, with Python numbers and loops.

Slow and obvious on purpose, in float64. A token is a list of numbers. Coordinates are rounded to the grid of the
method, so that sums are exact and equal tokens tie; nothing else of the package is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Token = list[float]


@dataclass
class Points:
    """Tokens of one visual: direction, place (down, across) and time on the grid, and weight."""

    direction: list[Token]
    where: list[Token]
    weight: list[float]
    typical: list[float]
    alive: list[bool]


def on_grid(values: Token, step: float) -> Token:
    """Round to multiples of `step`, halves to even."""
    return [round(value / step) * step for value in values]


def unit(token: Token) -> Token:
    """Divide by the norm; zero where that is not possible."""
    norm = math.sqrt(math.fsum(value * value for value in token))
    if not math.isfinite(norm) or norm <= 1e-12:
        return [0.0] * len(token)
    return [value / norm for value in token]


def product(x: Token, y: Token) -> float:
    """Inner product."""
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def where(layout: Any, position: int, place: float, time: float) -> Token:
    """Place of a token in the whole picture, and time, each times the root of its factor."""
    number = int(layout.view[position])
    view, row, col = layout.views[number], int(layout.row[position]), int(layout.col[position])
    if view.kind != "crop":
        down, across = (row + 0.5) / view.rows, (col + 0.5) / view.cols
    else:
        top, left, height, width = layout.picture or (0, 0, *layout.canvas)
        down, across = (row + 0.5 - top) / height, (col + 0.5 - left) / width
    point = [min(max(value, 0.0), 1.0) * math.sqrt(place) for value in (down, across)]
    return point + [number / len(layout.views) * math.sqrt(time)] * (layout.modality == "video")


def points(
    features: list[Token], layout: Any, step: float, *, place: float, time: float, floor: float
) -> Points:
    """Return the points of all tokens that are no separators, in order."""
    index = [i for i in range(len(layout)) if not bool(layout.separator[i])]
    direction = [on_grid(unit(features[i]), step) for i in index]
    alive = [any(token) for token in direction]
    mean = on_grid(unit([math.fsum(column) for column in zip(*direction, strict=True)]), step)
    typical = [product(token, mean) for token in direction]
    far = [1 - value for value, lives in zip(typical, alive, strict=True) if lives]
    low, high = min(far, default=0.0), max(far, default=0.0)
    share = [(1 - value - low) / (high - low) if high - low > 1e-12 else 1.0 for value in typical]
    return Points(
        direction,
        [on_grid(where(layout, i, place, time), step) for i in index],
        [floor + (1 - floor) * value for value in share],
        typical,
        alive,
    )


def distance(of: Points, i: int, j: int) -> float:
    """Squared distance of two tokens; below 1e-6 it is 0."""
    x, y = of.direction[i] + of.where[i], of.direction[j] + of.where[j]
    squared = math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True))
    return squared if squared > 1e-6 else 0.0


def medoid(of: Points) -> int:
    """The token most like the mean, the earlier of equals; the first where none has a direction."""
    living = [i for i, lives in enumerate(of.alive) if lives]
    return min(living, key=lambda i: (-of.typical[i], i), default=0)


def one_by_one(of: Points, count: int) -> list[int]:
    """The medoid, then the token of largest w d, until there are `count`."""
    kept = [medoid(of)]
    while len(kept) < count:
        rest = [i for i in range(len(of.alive)) if i not in kept]
        worth = {
            i: of.weight[i] * min(distance(of, i, j) for j in kept) if of.alive[i] else -1.0 for i in rest
        }
        kept.append(min(rest, key=lambda i: (-worth[i], i)))
    return kept


def in_rounds(of: Points, count: int, gamma: float, rounds: int, part: int) -> list[int]:
    """Rounds in which every kept token proposes the farthest token of those nearest to it."""
    kept = [medoid(of)]
    for turn in range(rounds):
        cells: dict[int, list[tuple[float, int]]] = {}
        for i in range(len(of.alive)):
            if i not in kept and of.alive[i]:
                near = min(range(len(kept)), key=lambda n: (distance(of, i, kept[n]), n))
                cells.setdefault(near, []).append((-of.weight[i] * distance(of, i, kept[near]), i))
        proposals = sorted(min(cell) for cell in cells.values())[: min(-(-count // part), 2**turn)]
        if not proposals:
            break
        best, taken = -proposals[0][0], []
        for number, (worth, i) in enumerate(proposals):
            better = [j for _, j in proposals[:number]]
            left = min([-worth, *(of.weight[i] * distance(of, i, j) for j in better)])
            if left > 0 and left >= gamma * best:
                taken.append(i)
        kept += taken[: count - len(kept)]
    rest = [i for i in range(len(of.alive)) if i not in kept]
    worth = {i: of.weight[i] * min(distance(of, i, j) for j in kept) if of.alive[i] else -1.0 for i in rest}
    return kept + sorted(rest, key=lambda i: (-worth[i], i))[: count - len(kept)]


def masses(of: Points, kept: list[int], *, by_place: bool = False) -> dict[int, int]:
    """For each kept token the number of tokens whose nearest kept one it is, by direction.

    With `by_place` nearest in direction, place and time: not the method.
    """
    count = dict.fromkeys(sorted(kept), 0)
    for i, token in enumerate(of.direction):
        if i in count:
            heir = i
        elif not of.alive[i]:
            heir = min(count)
        elif by_place:
            heir = min(count, key=lambda j: (distance(of, i, j), j))
        else:
            apart = {
                j: math.fsum((a - b) ** 2 for a, b in zip(token, of.direction[j], strict=True)) for j in count
            }
            heir = min(count, key=lambda j: (apart[j], j))
        count[heir] += 1
    return count

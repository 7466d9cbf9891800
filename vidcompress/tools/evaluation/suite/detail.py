"""High-resolution pictures with a digit that crops show and the thumbnail does not.

In two ways. A `small` digit is 14 to 18 pixels high: a speck in the thumbnail, where it is half or a third of that. A
`hidden` digit is the same without the part that the thumbnail could show; the rest is invisible there by
construction, down to the rounding of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from vidcompress.tools.evaluation.shapes import Digit, Scene, SceneObject, paint, sample_scene
from vidcompress.tools.evaluation.shapes.scene import Box, overlaps
from vidcompress.tools.evaluation.shapes.sprites import digit_mask
from vidcompress.tools.evaluation.suite.entry import Entry, Media, Pixels

VIEW: Final = 112
"""Side of a view of the embedded models, pixels."""

KINDS: Final = tuple((style, grid) for style in ("small", "hidden") for grid in (2, 3))
HEIGHTS: Final = (14, 18)
MARGIN: Final = 6
"""A digit keeps this many pixels from the borders of its crop."""

CONTRAST: Final = 120.0
"""Grey levels between a hidden digit and its surroundings, before the part that the thumbnail shows is removed."""


def detail(questions: int, first: int, view: int = VIEW) -> Iterator[Entry]:
    """Questions about small and hidden digits, in pictures of 2 x 2 and 3 x 3 crops, in turns.

    Args:
        questions: number of questions.
        first: first held-out seed.
        view: side of a crop and of the thumbnail, pixels.
    """
    seeds = count(first)
    for number in range(questions):
        style, grid = KINDS[number % len(KINDS)]
        value = number // len(KINDS) % 10
        placement = None
        while placement is None:
            seed = next(seeds)
            scene = _scene(seed, grid, view)
            placement = _place(np.random.default_rng([seed, 13]), scene, value, grid, view)
        digit, row, column = placement
        if style == "small":
            painter = partial(paint, replace(scene, digits=(digit,)))
        else:
            painter = partial(paint_hidden, scene, digit, view)
        facts = {"grid": grid, "row": row, "column": column, "height": digit.height}
        media = Media(f"media/{seed}.png", painter)
        kind = f"{style} {grid}x{grid}"
        yield Entry(f"{seed}", "what digit is shown?", str(value), (media,), kind, facts=facts)


def _scene(seed: int, grid: int, view: int) -> Scene:
    """Objects on a square of grid x grid views, drawn at the scale of the embedded models; no digit."""
    small = sample_scene(seed, size=(grid * VIEW, grid * VIEW))
    items = tuple(_scaled(item, view / VIEW) for item in small.items)
    return replace(small, width=grid * view, height=grid * view, items=items, digits=())


def _scaled(item: SceneObject, factor: float) -> SceneObject:
    return replace(
        item, x=round(item.x * factor), y=round(item.y * factor), size=max(1, round(item.size * factor))
    )


def _place(
    rng: np.random.Generator, scene: Scene, value: int, grid: int, view: int
) -> tuple[Digit, int, int] | None:
    """A digit well inside one crop and free of the objects, with the crop's row and column; None where none fits."""
    height = int(rng.integers(HEIGHTS[0], HEIGHTS[1] + 1))
    width, ink = round(height * 5 / 7), 255 if rng.random() < 0.5 else 0
    boxes: list[Box] = [item.box for item in scene.items]
    for _ in range(60):
        row, column = (int(place) for place in rng.integers(grid, size=2))
        x = column * view + int(rng.integers(MARGIN, view - width - MARGIN))
        y = row * view + int(rng.integers(MARGIN, view - height - MARGIN))
        if not overlaps((x, y, x + width, y + height), boxes, gap=MARGIN):
            return Digit(value, x, y, height, ink), row, column
    return None


def paint_hidden(scene: Scene, digit: Digit, view: int) -> Pixels:
    """Paint a square scene and on it the part of a digit that a thumbnail cannot hold.

    With A the matrix of the bicubic, antialiased reduction of one side to `view` pixels and P = pinv(A) A, the part of
    a picture M that the thumbnail shows is P M P; M - P M P has a thumbnail of zeros.

    Returns:
        uint8 (height, width, 3).
    """
    canvas = paint(scene).astype(np.float64)
    mask = np.zeros(canvas.shape[:2])
    _, _, right, bottom = digit.box
    mask[digit.y : bottom, digit.x : right] = digit_mask(digit.value, digit.height)
    shown = _shown_by(view, scene.width)
    left_over = mask - shown @ mask @ shown
    sign = 1.0 if digit.ink else -1.0
    marked = canvas + (sign * CONTRAST * left_over)[..., None]
    painted: Pixels = np.clip(np.rint(marked), 0, 255).astype(np.uint8)
    return painted


@cache
def _shown_by(view: int, side: int) -> npt.NDArray[np.float64]:
    """The projection, float64 (side, side), onto what a reduction of `side` pixels to `view` preserves."""
    reduce = reduction(view, side)
    projection: npt.NDArray[np.float64] = np.linalg.pinv(reduce) @ reduce
    return projection


def reduction(view: int, side: int) -> npt.NDArray[np.float64]:
    """The matrix, float64 (view, side), of Pillow's bicubic reduction of a row of `side` pixels to `view`."""
    impulses = np.eye(side, dtype=np.float32)
    rows = [
        np.asarray(Image.fromarray(impulse[None]).resize((view, 1), Image.Resampling.BICUBIC))[0]
        for impulse in impulses
    ]
    return np.stack(rows, axis=1).astype(np.float64)

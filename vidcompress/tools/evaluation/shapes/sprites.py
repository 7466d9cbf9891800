"""Masks of the shapes and of the digits: small antialiased alpha maps, cached."""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Mask = npt.NDArray[np.float32]

_OVERSAMPLING: Final = 4

# Seven rows of five dots per digit; "#" is ink.
_GLYPHS: Final[tuple[str, ...]] = (
    ".###. #...# #...# #...# #...# #...# .###.",
    "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    ".###. #...# ....# ...#. ..#.. .#... #####",
    "####. ....# ....# .###. ....# ....# ####.",
    "#..#. #..#. #..#. ##### ...#. ...#. ...#.",
    "##### #.... ####. ....# ....# #...# .###.",
    "..##. .#... #.... ####. #...# #...# .###.",
    "##### ....# ...#. ...#. ..#.. ..#.. ..#..",
    ".###. #...# #...# .###. #...# #...# .###.",
    ".###. #...# #...# .#### ....# ...#. .##..",
)


def _polygon(shape: str, side: int) -> list[tuple[float, float]]:
    last = side - 1
    if shape == "square":
        inset = 0.06 * side
        return [(inset, inset), (last - inset, inset), (last - inset, last - inset), (inset, last - inset)]
    if shape == "triangle":
        return [(last / 2, 0.02 * side), (last, 0.95 * side), (0, 0.95 * side)]
    if shape == "cross":
        low, high = 0.34 * side, 0.66 * side
        return [
            (low, 0), (high, 0), (high, low), (last, low), (last, high), (high, high),
            (high, last), (low, last), (low, high), (0, high), (0, low), (low, low),
        ]  # fmt: skip
    centre = last / 2
    points = []
    for corner in range(10):
        radius = side / 2 if corner % 2 == 0 else side * 0.2
        angle = math.pi * corner / 5 - math.pi / 2
        points.append((centre + radius * math.cos(angle), centre + 0.03 * side + radius * math.sin(angle)))
    return points


@cache
def shape_mask(shape: str, size: int) -> Mask:
    """Draw one shape.

    Args:
        shape: one of `vocabulary.SHAPES`.
        size: side of the square it fills, in pixels.

    Returns:
        float32 (size, size), the share of every pixel that the shape covers, 0 to 1.
    """
    side = size * _OVERSAMPLING
    canvas = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(canvas)
    if shape in ("circle", "ring"):
        pen.ellipse((0, 0, side - 1, side - 1), fill=255)
        if shape == "ring":
            inner = 0.27 * side
            pen.ellipse((inner, inner, side - 1 - inner, side - 1 - inner), fill=0)
    else:
        pen.polygon(_polygon(shape, side), fill=255)
    small = canvas.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255.0


@cache
def digit_mask(digit: int, height: int) -> Mask:
    """Draw one digit, without any font file.

    Args:
        digit: 0 to 9.
        height: height of the glyph in pixels; it is 5/7 as wide.

    Returns:
        float32 (height, round(5 * height / 7)), the share of ink in every pixel.
    """
    rows = _GLYPHS[digit].split()
    dots = np.array([[255 if dot == "#" else 0 for dot in row] for row in rows], dtype=np.uint8)
    width = round(height * 5 / 7)
    large = Image.fromarray(dots).resize((5 * 16, 7 * 16), Image.Resampling.NEAREST)
    small = large.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255.0

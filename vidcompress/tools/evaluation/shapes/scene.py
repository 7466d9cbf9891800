"""Scenes: objects, digits and background, drawn at random from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from vidcompress.tools.evaluation.shapes.vocabulary import COLORS, MAX_COUNT, PLACES, SHAPES

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; x1 and y1 are exclusive."""

_GAP: Final = 3
_LIGHT: Final = frozenset({"yellow", "white", "orange"})

EXACT_SIZES: Final[tuple[tuple[int, int], ...]] = (
    (224, 224), (224, 224), (224, 224), (224, 112), (112, 224), (336, 112), (112, 336), (336, 224), (224, 336),
)  # fmt: skip
"""(width, height) of images that are whole numbers of 112-pixel crops; drawn with equal chances."""


@dataclass(frozen=True)
class SceneObject:
    """Object of a scene: one coloured shape.

    Attributes:
        color: name in `COLORS`.
        shape: name in `SHAPES`.
        x: left edge, pixels.
        y: top edge, pixels.
        size: side of its square box, pixels.
        rgb: the colour it is painted in, uint8 values.
    """

    color: str
    shape: str
    x: int
    y: int
    size: int
    rgb: tuple[int, int, int]

    @property
    def box(self) -> Box:
        """The square it fills, in pixels of the picture."""
        return (self.x, self.y, self.x + self.size, self.y + self.size)

    @property
    def center(self) -> tuple[float, float]:
        """Its centre (x, y), in pixels of the picture."""
        return (self.x + self.size / 2, self.y + self.size / 2)


@dataclass(frozen=True)
class Digit:
    """One small digit.

    Attributes:
        value: 0 to 9.
        x: left edge, pixels.
        y: top edge, pixels.
        height: pixels; it is 5/7 as wide.
        ink: 0 (black) or 255 (white).
        on: index of the object it is written on, or None if it stands on the background.
    """

    value: int
    x: int
    y: int
    height: int
    ink: int
    on: int | None = None

    @property
    def box(self) -> Box:
        """The rectangle it fills, in pixels of the picture."""
        return (self.x, self.y, self.x + round(self.height * 5 / 7), self.y + self.height)


@dataclass(frozen=True)
class Scene:
    """A still picture before it is painted.

    Attributes:
        width: pixels.
        height: pixels.
        items: the objects; no two are the same colour and shape.
        digits: the digits, at most one in the scenes that questions are asked about.
        background: seed of the texture.
    """

    width: int
    height: int
    items: tuple[SceneObject, ...]
    digits: tuple[Digit, ...]
    background: int


def overlaps(box: Box, others: list[Box], gap: int = _GAP) -> bool:
    """Say whether `box` comes closer than `gap` pixels to any of `others`."""
    return any(
        box[0] < other[2] + gap
        and other[0] < box[2] + gap
        and box[1] < other[3] + gap
        and other[1] < box[3] + gap
        for other in others
    )


def place_of(center: tuple[float, float], width: int, height: int) -> str:
    """Name the quadrant of a width x height picture that holds `center` (pixels)."""
    return PLACES[2 * int(center[1] >= height / 2) + int(center[0] >= width / 2)]


def tinted(color: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """Return the RGB of `color` with a small random tint, uint8 values."""
    shift = rng.integers(-10, 11, size=3)
    r, g, b = (int(min(255, max(0, base + move))) for base, move in zip(COLORS[color], shift, strict=True))
    return (r, g, b)


def sample_kinds(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Draw `count` different (colour, shape) pairs; half of the time attributes repeat on purpose."""
    colors, shapes = list(COLORS), list(SHAPES)
    if rng.random() < 0.5:
        colors = [colors[i] for i in rng.permutation(len(colors))[: max(2, (count + 2) // 2)]]
    kinds: list[tuple[str, str]] = []
    while len(kinds) < count:
        kind = (colors[int(rng.integers(len(colors)))], shapes[int(rng.integers(len(shapes)))])
        if kind not in kinds:
            kinds.append(kind)
    return kinds


def sample_position(rng: np.random.Generator, width: int, height: int, size: int) -> tuple[int, int]:
    """Draw the top left corner of a box whose centre is clearly inside one quadrant (pixels)."""
    corner = []
    for extent in (width, height):
        low, high = size / 2 + 1, extent / 2 - max(5.0, 0.06 * extent)
        center = float(rng.uniform(low, max(low, high)))
        if rng.random() < 0.5:
            center = extent - center
        corner.append(int(min(extent - size - 1, max(1, round(center - size / 2)))))
    return corner[0], corner[1]


def place_digit(
    rng: np.random.Generator,
    width: int,
    height: int,
    items: list[SceneObject],
    taken: list[Box],
    tall: tuple[int, int],
) -> Digit | None:
    """Draw one digit `tall[0]` to `tall[1]` pixels high, on a large enough object or in a free spot, or None."""
    value, size = int(rng.integers(10)), int(rng.integers(tall[0], tall[1] + 1))
    wide = round(size * 5 / 7)
    hosts = [
        i for i, item in enumerate(items) if item.shape in ("circle", "square") and item.size >= 1.45 * size
    ]
    if hosts and rng.random() < 0.6:
        on = hosts[int(rng.integers(len(hosts)))]
        host = items[on]
        left, top = host.x + (host.size - wide) // 2, host.y + (host.size - size) // 2
        return Digit(value, left, top, size, 0 if host.color in _LIGHT else 255, on)
    for _ in range(30):
        left = int(rng.integers(2, width - wide - 2))
        top = int(rng.integers(2, height - size - 2))
        if not overlaps((left, top, left + wide, top + size), taken):
            return Digit(value, left, top, size, 255 if rng.random() < 0.5 else 0)
    return None


def sample_size(rng: np.random.Generator) -> tuple[int, int]:
    """Draw the (width, height) of an image, pixels: often whole crops, often any size."""
    if rng.random() < 0.6:
        return EXACT_SIZES[int(rng.integers(len(EXACT_SIZES)))]
    return int(rng.integers(120, 225)), int(rng.integers(120, 225))


def sample_scene(seed: int, max_items: int = MAX_COUNT, size: tuple[int, int] | None = None) -> Scene:
    """Draw a scene.

    Args:
        seed: the same seed always gives the same scene.
        max_items: at most this many objects (1 to 6); the number is uniform where there is room.
        size: (width, height) in pixels; drawn at random if None.

    Returns:
        The scene; every object lies inside it, free of the others, and clearly inside one quadrant.
    """
    rng = np.random.default_rng([seed, 1])
    width, height = size or sample_size(rng)
    room = MAX_COUNT if min(width, height) >= 150 else (5 if width * height > 26000 else 4)
    count = int(rng.integers(1, min(room, max_items) + 1))
    short = min(width, height)
    items: list[SceneObject] = []
    for color, shape in sample_kinds(rng, count):
        for _ in range(40):
            side = int(rng.integers(20, 37 if short < 150 else 47))
            x, y = sample_position(rng, width, height, side)
            if not overlaps((x, y, x + side, y + side), [item.box for item in items]):
                items.append(SceneObject(color, shape, x, y, side, tinted(color, rng)))
                break
    digit = None
    if rng.random() < 0.7:
        digit = place_digit(rng, width, height, items, [item.box for item in items], (16, 22))
    return Scene(width, height, tuple(items), (digit,) if digit else (), int(rng.integers(2**31)))

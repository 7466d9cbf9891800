"""Vocabulary of the shapes questions: colours, shapes, places, directions, question types."""

from __future__ import annotations

from typing import Final

COLORS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (214, 30, 36),
    "green": (34, 160, 60),
    "blue": (36, 70, 220),
    "yellow": (245, 225, 30),
    "purple": (140, 40, 175),
    "orange": (250, 135, 20),
    "white": (250, 250, 250),
    "black": (12, 12, 12),
}
"""Colour name to the RGB it is drawn in (uint8, before a small per-object tint)."""

SHAPES: Final[tuple[str, ...]] = ("circle", "square", "triangle", "star", "cross", "ring")
"""Names of the drawable shapes."""

PLURALS: Final[dict[str, str]] = {name: f"{name}es" if name == "cross" else f"{name}s" for name in SHAPES}
"""Shape name to its plural, as the counting questions use it."""

PLACES: Final[tuple[str, ...]] = ("top left", "top right", "bottom left", "bottom right")
"""Answers of the place questions: the quadrant that holds an object's centre."""

DIRECTIONS: Final[tuple[str, ...]] = ("left", "right", "up", "down")
"""Answers of the direction questions (clips)."""

IMAGE_TYPES: Final[tuple[str, ...]] = ("color", "shape", "count", "existence", "place", "digit")
"""Question types asked about images."""

CLIP_TYPES: Final[tuple[str, ...]] = (*IMAGE_TYPES, "direction", "order")
"""Question types asked about clips."""

MAX_COUNT: Final = 6
"""The largest number of objects in a scene."""


def article(word: str) -> str:
    """Return the indefinite article for `word`: "an" before a vowel, else "a"."""
    return "an" if word[0] in "aeiou" else "a"


def words() -> list[str]:
    """Return every word a question or an answer may contain, sorted (numbers as digit strings)."""
    vocabulary: set[str] = set(COLORS) | set(SHAPES) | set(PLURALS.values()) | set(DIRECTIONS)
    for place in PLACES:
        vocabulary.update(place.split())
    vocabulary.update(str(number) for number in range(10))
    vocabulary.update(
        "what color is the shape object how many objects are there a an yes no where digit shown on which way "
        "does move appears first last ?".split()
    )
    return sorted(vocabulary)

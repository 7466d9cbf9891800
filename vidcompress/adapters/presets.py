"""Presets: named layouts of pictures that published numbers use and no model of the family has as its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vidcompress.checks import is_whole, word
from vidcompress.errors import ArgumentError, VidcompressError, nearest, shown


@dataclass(frozen=True)
class Preset:
    """Preset: one fixed canvas for pictures of every size.

    A picture becomes its thumbnail, then a canvas of `crops` on which it is centred on black. The canvas keeps its
    padding and has no newlines: its tokens follow the thumbnail's row by row, over all crops of a row.

    Attributes:
        name: what users pass as `preset=`.
        crops: (rows, cols) of crops on the canvas.

    Raises:
        ArgumentError: the name is no text, or `crops` no pair of whole numbers of at least 1.
    """

    name: str
    crops: tuple[int, int]

    def __post_init__(self) -> None:
        word("name", self.name, "2880")
        pair = isinstance(self.crops, tuple) and len(self.crops) == 2
        if not pair or not all(is_whole(n) and n >= 1 for n in self.crops):
            raise ArgumentError(
                f"crops={shown(self.crops)}: must be (rows, cols), whole numbers of at least 1"
            )

    def canvas(self, side: int) -> tuple[int, int]:
        """(height, width) of the canvas, for crops of `side` pixels or tokens."""
        return self.crops[0] * side, self.crops[1] * side


TOKENS_2880 = Preset("2880", (2, 2))
"""The convention of FasterVLM (Theia-4869/FasterVLM @ f5d5f12: merge type `spatial`, hence neither unpadding nor
newlines) and CDPruner (Theia-4869/CDPruner @ 9541616: `possible_resolutions=[(672,672)]`, `_unpad` stripped) on
LLaVA-NeXT: with CLIP-L/14 at 336 pixels a canvas of 672 x 672 and 5 x 576 = 2880 tokens. LLaVA-NeXT itself makes 2,928
of a square picture and 2,340 of one of 640 x 480."""


def find_preset(
    name: Any, presets: Sequence[Preset], of: str, *, error: type[VidcompressError] = ArgumentError
) -> Preset | None:
    """Return the preset of that name; None for None.

    Args:
        name: as users pass it.
        presets: the available presets.
        of: their family, such as "llava_next".
        error: class of what is raised.

    Raises:
        error: no preset has that name.
    """
    if name is None:
        return None
    match = next((preset for preset in presets if preset.name == name), None)
    if match is None:
        closest = nearest(name, [preset.name for preset in presets]) if isinstance(name, str) else ""
        allowed = f"{closest or 'must be a text'}; leave it out for the model's own layout"
        if not presets:
            allowed = "it has no presets; leave it out"
        raise error(f"preset={shown(name)} with {of}: {allowed}")
    return match

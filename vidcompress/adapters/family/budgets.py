"""Numbers of encoders that take patches, and budgets for pictures of any size other than one of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from vidcompress.adapters.layouts import Size
from vidcompress.checks import whole_number
from vidcompress.errors import MediaError

Grid: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class PatchGeometry:
    """Numbers of an encoder that takes patches.

    Attributes:
        patch: side of a patch in pixels.
        merge: patches along one side that make one token.
        temporal: pictures in one patch.
    """

    patch: int
    merge: int = 2
    temporal: int = 2

    @property
    def factor(self) -> int:
        """Pixels along one side of a token; picture sides are multiples of it."""
        return self.patch * self.merge

    def grid(self, frames: int, size: Size) -> Grid:
        """Return the grid in patches of `frames` pictures of (height, width) pixels, multiples of `factor`."""
        return -(-frames // self.temporal), size[0] // self.patch, size[1] // self.patch


@dataclass(frozen=True)
class EdgeBudget:
    """Edge budget: longest side of a picture; smaller ones keep their size but for whole tokens (Pixtral).

    Attributes:
        most: longest side in pixels, before sides are rounded up to whole tokens.

    Raises:
        MediaError: no whole number of at least 1.
    """

    most: int

    def __post_init__(self) -> None:
        whole_number("most", self.most, error=MediaError)

    def image_size(self, size: Size, geometry: PatchGeometry) -> Size:
        """Return (height, width) in pixels that a picture of that size is resized to."""
        over = max(side / self.most for side in size)
        if over > 1:
            size = (max(1, math.floor(size[0] / over)), max(1, math.floor(size[1] / over)))
        height, width = (-(-side // geometry.factor) * geometry.factor for side in size)
        return height, width

    def frame_size(self, frames: int, size: Size, geometry: PatchGeometry) -> Size:
        """Return (height, width) in pixels that a clip's frames are resized to: each like a picture."""
        return self.image_size(size, geometry)


@dataclass(frozen=True)
class TokenBudget:
    """Token budget: a picture of any size is scaled to as many tokens as its shape allows (Gemma 4).

    Attributes:
        most: tokens of a picture, or of a frame of a clip.

    Raises:
        MediaError: no whole number of at least 1.
    """

    most: int

    def __post_init__(self) -> None:
        whole_number("most", self.most, error=MediaError)

    def image_size(self, size: Size, geometry: PatchGeometry) -> Size:
        """Return (height, width) in pixels that a picture of that size is resized to."""
        side = geometry.factor
        scale = math.sqrt(self.most * side**2 / (size[0] * size[1]))
        rows, cols = (math.floor(scale * length / side) for length in size)
        if rows == 0:
            rows, cols = 1, min(max(1, size[1] // size[0]), self.most)
        elif cols == 0:
            rows, cols = min(max(1, size[0] // size[1]), self.most), 1
        return rows * side, cols * side

    def frame_size(self, frames: int, size: Size, geometry: PatchGeometry) -> Size:
        """Return (height, width) in pixels that a clip's frames are resized to: each like a picture."""
        return self.image_size(size, geometry)

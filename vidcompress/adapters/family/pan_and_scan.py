"""Pan and scan: crops of a long picture in one row or column behind the whole picture, as in Gemma 3."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from vidcompress.adapters.family.geometry import Geometry
from vidcompress.adapters.layouts import Size, tiled_layout
from vidcompress.checks import is_number, whole_number
from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Layout
from vidcompress.errors import MediaError, shown


@dataclass(frozen=True)
class PanAndScan:
    """Rule by which a picture is cut into crops.

    Attributes:
        least: shortest side of a crop, in pixels.
        most: most crops of a picture.
        ratio: of long to short side from which pictures are cut.

    Raises:
        MediaError: a field out of range; the message names it.
    """

    least: int = 256
    most: int = 4
    ratio: float = 1.2

    def __post_init__(self) -> None:
        for name in ("least", "most"):
            whole_number(name, getattr(self, name), error=MediaError)
        if not is_number(self.ratio) or self.ratio <= 0:
            raise MediaError(f"ratio={shown(self.ratio)}: must be a number above 0, of long to short side")

    def crops(self, picture: Size) -> int:
        """Return the number of crops along the longer side of a picture of (height, width) pixels; 0 for none."""
        short, long = sorted(picture)
        if long / short < self.ratio:
            return 0
        count = min(self.most, max(2, min(long // self.least, math.floor(long / short + 0.5))))
        step = math.ceil(long / count)
        return count if min(step, short) >= self.least and (count - 1) * step < long else 0


@dataclass(frozen=True)
class PannedGeometry(Geometry):
    """Geometry of pictures that are cut by pan and scan.

    Attributes:
        pan: rule for crops.
    """

    pan: PanAndScan = PanAndScan()

    def boxes(self, picture: Size) -> list[tuple[int, int, int, int]]:
        """Return (top, left, bottom, right) of every crop of a picture of (height, width) pixels."""
        count, (height, width) = self.pan.crops(picture), picture
        if not count:
            return []
        long = max(picture)
        step = math.ceil(long / count)
        ranges = [(start, min(start + step, long)) for start in range(0, count * step, step)]
        if width >= height:
            return [(0, start, height, stop) for start, stop in ranges]
        return [(start, 0, stop, width) for start, stop in ranges]


def panned_image_layout(geometry: Geometry, picture: Size, device: str = "cpu") -> Layout:
    """Return the layout of a picture: one view, or with crops behind it where the geometry has pan and scan."""
    crops = geometry.pan.crops(picture) if isinstance(geometry, PannedGeometry) else 0
    placed = (1, max(1, crops)) if picture[1] >= picture[0] else (max(1, crops), 1)
    return panned_layout((geometry.side, geometry.side), placed, device)


@lru_cache(maxsize=256)
@outside_caller_modes
def panned_layout(grid: tuple[int, int], crops: Size | int, device: str = "cpu") -> Layout:
    """Return the layout of a whole picture and its crops behind it; one crop is none.

    Args:
        grid: (rows, cols) of tokens of one view.
        crops: (rows, cols) of crops, or their number where their places are not known.
        device: where the index tensors live.
    """
    if device != "cpu":
        return panned_layout(grid, crops).to(device)
    tiled = tiled_layout(grid, crops)  # the whole picture is its last view
    views, size = len(tiled.views), tiled.sizes[-1]
    return replace(
        tiled,
        views=(tiled.views[-1], *tiled.views[:-1]),
        view=((tiled.view + 1) % views).roll(size),
        row=tiled.row.roll(size),
        col=tiled.col.roll(size),
    )

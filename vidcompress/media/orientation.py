"""Display matrix of a clip: the turns and mirrorings of its frames before they are shown."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import numpy as np
from einops import rearrange

Array = np.ndarray[Any, Any]
Matrix = tuple[int, ...]

IDENTITY: Matrix = (1, 0, 0, 1)

PICTURES = ("mjpeg", "png", "apng", "tiff", "webp", "jpegxl")
"""Codecs whose frames are pictures, which may state their orientation in an EXIF block of their own."""

TURNED_ONCE = ("apng",)
"""Codecs whose first frame states the orientation of all frames."""

_EXIF: dict[int, Matrix] = {
    2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1), 5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}  # fmt: skip
"""EXIF orientation number to matrix."""

_SIDE_DATA_KINDS = 64
"""Upper bound of side data kinds, twice FFmpeg 8's number."""


def display_matrix(frame: Any) -> Matrix:
    """Read (a, b, c, d) of a PyAV frame's display matrix, each -1, 0 or 1: (x, y) is shown at (ax + cy, bx + dy).

    `IDENTITY` where the file has none, and for a matrix that is no multiple of a quarter turn. FFmpeg makes one from
    the orientation in a picture's EXIF block.
    """
    for entry in _side_data(frame):
        if getattr(entry.type, "name", "") != "DISPLAYMATRIX":
            continue
        numbers = struct.unpack("<9i", bytes(entry)[:36])  # FFmpeg writes 16.16 fixed point in native order
        a, b, c, d = numbers[0], numbers[1], numbers[3], numbers[4]
        straight, turned = min(abs(a), abs(d)), min(abs(b), abs(c))
        if straight > 100 * max(abs(b), abs(c)):
            return int(np.sign(a)), 0, 0, int(np.sign(d))
        if turned > 100 * max(abs(a), abs(d)):
            return 0, int(np.sign(b)), int(np.sign(c)), 0
    return IDENTITY


def exif_matrix(picture: Any) -> Matrix:
    """Read the orientation in a Pillow picture's EXIF block; `IDENTITY` where it is missing or broken."""
    try:
        return _EXIF.get(picture.getexif().get(0x0112), IDENTITY)
    except Exception:  # noqa: BLE001  (a broken EXIF block raises anything; the pixels are good)
        return IDENTITY


def _side_data(frame: Any) -> list[Any]:
    """List the side data of a frame that PyAV has a name for; one kind without a name makes PyAV list none."""
    try:
        return list(frame.side_data)
    except ValueError:
        return list(_pruned(frame).side_data)


def _pruned(frame: Any) -> Any:
    """Remove side data that PyAV has no name for (EXIF, in PyAV 18) from a frame; FFmpeg's filters use numbers."""
    from av.filter import Graph
    from av.sidedata.sidedata import Type

    kinds: Any = Type
    numbers = {kind.value for kind in kinds}
    graph = Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
    )
    for number in range(_SIDE_DATA_KINDS):
        if number not in numbers:
            node = graph.add("sidedata", f"mode=delete:type={number}")
            last.link_to(node)
            last = node
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()


def is_mirrored(matrix: Matrix) -> bool:
    """Whether left and right are exchanged, which is not a rotation."""
    a, b, c, d = matrix
    return a * d - b * c < 0


def upright(picture: Array, matrix: Matrix) -> Array:
    """Orient a stored picture (height, width, channel) by the matrix; a view, nothing is copied."""
    a, b, c, d = matrix
    if a == 0:
        picture = rearrange(picture, "h w c -> w h c")
        a, d = c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]

"""The display matrix of a clip: how its frames are turned and mirrored before they are shown."""

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
"""Codecs whose first frame states the orientation of all."""

_EXIF: dict[int, Matrix] = {
    2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1), 5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}  # fmt: skip
"""EXIF's number of an orientation -> its matrix."""

_SIDE_DATA_KINDS = 64
"""Twice as many as FFmpeg 8 has."""


def display_matrix(frame: Any) -> Matrix:
    """(a, b, c, d) of a PyAV frame's display matrix, each -1, 0 or 1: a stored (x, y) is shown at (ax + cy, bx + dy).

    `IDENTITY` where the file has none, and for a matrix that is no multiple of a quarter turn. FFmpeg makes one of the
    orientation that a picture's EXIF block states.
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
    """The orientation that a Pillow picture's EXIF block states; `IDENTITY` where there is none, or it is broken."""
    try:
        return _EXIF.get(picture.getexif().get(0x0112), IDENTITY)
    except Exception:  # noqa: BLE001  (a broken EXIF block raises anything; the pixels are good)
        return IDENTITY


def _side_data(frame: Any) -> list[Any]:
    """What accompanies a frame, as far as PyAV has a name for it: one kind without a name hides all others from it."""
    try:
        return list(frame.side_data)
    except ValueError:
        return list(_pruned(frame).side_data)


def _pruned(frame: Any) -> Any:
    """The frame without side data that PyAV has no name for (EXIF, in PyAV 18); FFmpeg's filters know it by number."""
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
    """Whether left and right are exchanged, which no rotation undoes."""
    a, b, c, d = matrix
    return a * d - b * c < 0


def upright(picture: Array, matrix: Matrix) -> Array:
    """Show a stored picture (height, width, channel) as the matrix says; a view, nothing is copied."""
    a, b, c, d = matrix
    if a == 0:
        picture = rearrange(picture, "h w c -> w h c")
        a, d = c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]

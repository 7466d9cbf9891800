"""The display matrix of a clip: how its frames are turned and mirrored before they are shown."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Matrix = tuple[int, ...]

IDENTITY: Matrix = (1, 0, 0, 1)


def display_matrix(frame: Any) -> Matrix:
    """(a, b, c, d) of a PyAV frame's display matrix, each -1, 0 or 1: a stored (x, y) is shown at (ax + cy, bx + dy).

    `IDENTITY` where the file has none, and for a matrix that is no multiple of a quarter turn.
    """
    for entry in frame.side_data:
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


def is_mirrored(matrix: Matrix) -> bool:
    """Whether left and right are exchanged, which no rotation undoes."""
    a, b, c, d = matrix
    return a * d - b * c < 0


def upright(picture: Array, matrix: Matrix) -> Array:
    """Show a stored picture (height, width, channel) as the matrix says; a view, nothing is copied."""
    a, b, c, d = matrix
    if a == 0:
        picture = picture.transpose(1, 0, 2)
        a, d = c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]

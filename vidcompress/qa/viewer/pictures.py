"""Pictures of the viewer: small WebP files that share a budget of bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

_STEPS = (
    (960, 80),
    (800, 78),
    (640, 76),
    (512, 74),
    (448, 70),
    (384, 66),
    (320, 62),
    (256, 58),
    (224, 52),
    (192, 46),
    (160, 40),
    (128, 34),
    (112, 26),
    (96, 20),
    (80, 15),
    (64, 10),
    (48, 8),
    (32, 5),
)
"""Longest side in pixels and WebP quality, best first."""
_SAMPLE = 4
"""Pictures, evenly spaced, by which the first step of a long clip is estimated."""


def small_pictures(pictures: Sequence[Image.Image], budget: int) -> list[bytes]:
    """Return the pictures as WebP files of at most `budget` bytes together, all made smaller alike.

    Args:
        pictures: RGB images; none is made larger.
        budget: bytes. The smallest step, 32 pixels, is returned where it does not fit either.
    """
    if not pictures:
        return []
    every = max(1, len(pictures) // _SAMPLE)
    sample = pictures[::every]
    files: list[bytes] = []
    for number, (side, quality) in enumerate(_STEPS):
        last = number == len(_STEPS) - 1
        if len(sample) < len(pictures) and not last:
            size = sum(len(_webp(picture, side, quality)) for picture in sample)
            if size * len(pictures) > budget * len(sample):
                continue
        files = [_webp(picture, side, quality) for picture in pictures]
        if sum(map(len, files)) <= budget:
            break
    return files


def _webp(picture: Image.Image, side: int, quality: int) -> bytes:
    """Return a picture as a WebP file with a longest side of at most `side` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()

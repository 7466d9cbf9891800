"""Preparation of views from pictures, equal to the models' processors (tested against them)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from transformers.image_processing_utils import select_best_resolution

from tiny.architecture import MERGE, PATCH, PINPOINTS, VIEW

Pixels = npt.NDArray[np.uint8]


def resize(picture: Pixels, width: int, height: int) -> Pixels:
    """Resize uint8 (H, W, 3) to (height, width, 3), bicubic with antialiasing."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def any_resolution(picture: Pixels, name: str) -> Pixels:
    """Cut an image as model `name` does.

    Args:
        picture: uint8 (H, W, 3).
        name: "tiny-onevision" or "tiny-next".

    Returns:
        uint8 (1 + crops, 112, 112, 3): the thumbnail, then the crops row by row; padding is 0.
    """
    height, width = picture.shape[:2]
    rows, columns = select_best_resolution((height, width), PINPOINTS[name])
    scale_w, scale_h = columns / width, rows / height
    if scale_w < scale_h:
        new_width, new_height = columns, min(int(np.ceil(height * scale_w)), rows)
    else:
        new_height, new_width = rows, min(int(np.ceil(width * scale_h)), columns)
    canvas = np.zeros((rows, columns, 3), dtype=np.uint8)
    top, left = (rows - new_height) // 2, (columns - new_width) // 2
    canvas[top : top + new_height, left : left + new_width] = resize(picture, new_width, new_height)
    crops = canvas.reshape(rows // VIEW, VIEW, columns // VIEW, VIEW, 3).transpose(0, 2, 1, 3, 4)
    return np.concatenate([resize(picture, VIEW, VIEW)[None], crops.reshape(-1, VIEW, VIEW, 3)])


def frames(pictures: Pixels) -> Pixels:
    """Resize the frames of a clip, uint8 (T, H, W, 3), to (T, 112, 112, 3)."""
    return np.stack([resize(picture, VIEW, VIEW) for picture in pictures])


IMAGE_PIXELS = (VIEW * VIEW, 16 * VIEW * VIEW)
"""Fewest and most pixels of an image of native resolution."""
CLIP_PIXELS = (VIEW * VIEW // 2, 128 * VIEW * VIEW)
"""Fewest and most pixels of a clip of native resolution, all frames together."""


def native(picture: Pixels) -> Pixels:
    """Resize an image of native resolution, uint8 (H, W, 3), to whole tokens within the budget: uint8 (1, h, w, 3)."""
    factor = PATCH * MERGE
    height, width = picture.shape[:2]
    new_height, new_width = (max(factor, round(side / factor) * factor) for side in (height, width))
    least, most = IMAGE_PIXELS
    if new_height * new_width > most:
        beta = (height * width / most) ** 0.5
        new_height, new_width = (max(factor, int(side / beta / factor) * factor) for side in (height, width))
    elif new_height * new_width < least:
        beta = (least / (height * width)) ** 0.5
        new_height, new_width = (int(np.ceil(side * beta / factor)) * factor for side in (height, width))
    return resize(picture, new_width, new_height)[None]


def native_frames(pictures: Pixels) -> Pixels:
    """Resize the frames of a clip, uint8 (T, H, W, 3), to whole tokens; the last is repeated if T is odd."""
    factor = PATCH * MERGE
    height, width = (max(factor, round(side / factor) * factor) for side in pictures.shape[1:3])
    frames = np.stack([resize(picture, width, height) for picture in pictures])
    return frames if len(frames) % 2 == 0 else np.concatenate([frames, frames[-1:]])

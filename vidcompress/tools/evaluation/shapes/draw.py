"""Painter of scenes: a texture of low saturation, the objects on it, the digits on top."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from vidcompress.tools.evaluation.shapes.scene import Digit, Scene, SceneObject
from vidcompress.tools.evaluation.shapes.sprites import Mask, digit_mask, shape_mask

Pixels = npt.NDArray[np.uint8]


@cache
def _grain() -> npt.NDArray[np.float32]:
    """A fixed field of fine noise, float32 (1120, 1120, 3), -1 to 1, that repeats every 700 pixels."""
    field = np.random.default_rng(7).uniform(-1, 1, (700, 700, 3)).astype(np.float32)
    return np.tile(field, (2, 2, 1))[:1120, :1120].copy()


def background(seed: int, width: int, height: int) -> Pixels:
    """Paint a texture: a gradient, blotches or stripes, plus grain; greys with a faint tint.

    Args:
        seed: the same seed and size always give the same texture.
        width: pixels.
        height: pixels.

    Returns:
        uint8 (height, width, 3).
    """
    rng = np.random.default_rng([seed, 2])
    base = rng.uniform(95, 165) + rng.uniform(-14, 14, 3)
    kind = int(rng.integers(3))
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    along = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    if kind == 0:
        field = rng.uniform(-22, 22) * across + rng.uniform(-22, 22) * along
    elif kind == 1:
        coarse = rng.uniform(0, 255, (int(rng.integers(3, 9)), int(rng.integers(3, 9)))).astype(np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        field = (np.asarray(smooth, dtype=np.float32) / 127.5 - 1) * rng.uniform(8, 26)
    else:
        angle, period = rng.uniform(0, np.pi), rng.uniform(8, 40)
        phase = np.cos(angle) * across * width / 2 + np.sin(angle) * along * height / 2
        field = np.sin(phase * (2 * np.pi / period)) * rng.uniform(5, 18)
    top, left = (int(offset) for offset in rng.integers(0, 700, 2))
    if max(width, height) <= 420:
        noise = _grain()[top : top + height, left : left + width]
    else:
        rows, columns = (top + np.arange(height)) % 700, (left + np.arange(width)) % 700
        noise = _grain()[rows[:, None], columns[None, :]]
    noise = noise * np.float32(rng.uniform(0, 12))
    painted: Pixels = np.clip(
        base.astype(np.float32) + field.astype(np.float32)[..., None] + noise, 0, 255
    ).astype(np.uint8)
    return painted


def _blend(canvas: Pixels, mask: Mask, x: int, y: int, rgb: tuple[int, int, int]) -> None:
    """Paint `rgb` through `mask` with its top left corner at (x, y), in place; what sticks out is cut."""
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + mask.shape[1], width), min(y + mask.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return
    alpha = mask[y0 - y : y1 - y, x0 - x : x1 - x, None]
    region = canvas[y0:y1, x0:x1]
    canvas[y0:y1, x0:x1] = (region + alpha * (np.array(rgb, dtype=np.float32) - region) + 0.5).astype(
        np.uint8
    )


def paint_item(canvas: Pixels, item: SceneObject) -> None:
    """Paint one object onto uint8 (H, W, 3), in place."""
    _blend(canvas, shape_mask(item.shape, item.size), item.x, item.y, item.rgb)


def paint_digit(canvas: Pixels, digit: Digit) -> None:
    """Paint one digit onto uint8 (H, W, 3), in place."""
    _blend(canvas, digit_mask(digit.value, digit.height), digit.x, digit.y, (digit.ink, digit.ink, digit.ink))


def paint(scene: Scene) -> Pixels:
    """Paint a scene.

    Returns:
        uint8 (scene.height, scene.width, 3).
    """
    canvas = background(scene.background, scene.width, scene.height)
    for item in scene.items:
        paint_item(canvas, item)
    for digit in scene.digits:
        paint_digit(canvas, digit)
    return canvas

"""Scenes of the pictures: held-out scenes of the shapes benchmarks, painted several times as large."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from vidcompress.tools.evaluation.shapes import (
    Digit,
    SceneObject,
    paint,
    paint_clip,
    sample_clip,
    sample_scene,
)

SCALE = 6
"""Pixels of a painted picture to one pixel of what the models see: its edges are sharp at any size."""
CLIP_SCALE = 3


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """The scene of a seed on (width, height) pixels of the model, painted `SCALE` times as large."""
    scene = sample_scene(seed, size=size)
    large = replace(
        scene,
        width=scene.width * SCALE,
        height=scene.height * SCALE,
        items=tuple(_item(item, SCALE) for item in scene.items),
        digits=tuple(_digit(digit, SCALE) for digit in scene.digits),
    )
    return Image.fromarray(paint(large))


def clip(seed: int, frames: int) -> npt.NDArray[np.uint8]:
    """The clip of a seed, painted `CLIP_SCALE` times as large: uint8 (T, height, width, 3)."""
    scene = sample_clip(seed, frames)
    actors = tuple(
        replace(actor, item=_item(actor.item, CLIP_SCALE), speed=actor.speed * CLIP_SCALE)
        for actor in scene.actors
    )
    large = replace(
        scene,
        width=scene.width * CLIP_SCALE,
        height=scene.height * CLIP_SCALE,
        actors=actors,
        flash=None if scene.flash is None else _digit(scene.flash, CLIP_SCALE),
    )
    return paint_clip(large)


def _item(item: SceneObject, factor: int) -> SceneObject:
    return replace(item, x=item.x * factor, y=item.y * factor, size=item.size * factor)


def _digit(digit: Digit, factor: int) -> Digit:
    return replace(digit, x=digit.x * factor, y=digit.y * factor, height=digit.height * factor)

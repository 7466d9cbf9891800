"""Training material: scenes and clips prepared as views, with questions and captions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from tiny import prepare
from tiny.architecture import NATIVE, VIEW
from tiny.views import jpeg
from vidcompress.tools.evaluation.shapes import (
    CLIP_TYPES,
    IMAGE_TYPES,
    ask,
    paint,
    paint_clip,
    sample_clip,
    sample_scene,
)
from vidcompress.tools.evaluation.shapes.clip import ClipScene
from vidcompress.tools.evaluation.shapes.examples import CLIP_FPS
from vidcompress.tools.evaluation.shapes.scene import Scene, place_of

Pixels = npt.NDArray[np.uint8]

SMALLER: Final = {"frame": 1, "glance": 1, "thumb": 1, "short": 1, "clip": 2, "parade": 2, "image": 4}
"""Material name to the divisor of the batch size: long sequences come in smaller batches.

frame: a one-frame video; glance: a single small image of which only a quarter of the tokens are kept, by averaging
(what a frame is to a model without videos); thumb: a single small image without crops; short: a clip of 2 to 6 frames;
clip: a clip of 8 frames, or now and then of 9 to 16; parade: a clip of 4 to 8 frames in which one object appears
before or after all others, often only two to four frames of it; image: an image of any size, in crops.
"""

TURNS: Final = {
    "frame": 1.0,
    "glance": 1.0,
    "thumb": 1.0,
    "short": 1.0,
    "clip": 1.5,
    "parade": 1.5,
    "image": 2.0,
}
"""Material name to the factor on the number of questions per scene: long sequences carry more of them."""


@dataclass
class Piece:
    """One scene ready to be talked about.

    Attributes:
        scene: the truth.
        layout: "video", "image" (thumbnail and crops), "single" (one view) or "glance" (one view, fewer tokens).
        views: uint8 (n, 112, 112, 3); of native resolution (1, H, W, 3), or the even number of frames of a clip.
        size: (height, width) of the picture before it was cut, pixels.
        fps: frames per second of a clip.
    """

    scene: Scene | ClipScene
    layout: str
    views: Pixels
    size: tuple[int, int]
    fps: float = CLIP_FPS


def make_piece(material: str, seed: int, name: str, worn: bool = True) -> Piece:
    """Make the piece of a seed.

    Args:
        material: a key of `SMALLER`.
        seed: of the scene.
        name: the model, whose preprocessing is used.
        worn: let a quarter of the pieces pass through JPEG.

    Raises:
        ValueError: if `material` is unknown.
    """
    rng = np.random.default_rng([seed, 7])
    quality = int(rng.integers(60, 96)) if worn and rng.random() < 0.25 else 0
    scene: Scene | ClipScene
    if material in ("image", "thumb", "glance"):
        scene = sample_scene(seed, size=None if material == "image" else (VIEW, VIEW))
        picture = paint(scene)
        picture = jpeg(picture, quality) if quality else picture
        if name == NATIVE:
            return Piece(scene, "image", prepare.native(picture), (scene.height, scene.width))
        if material != "image":
            return Piece(scene, "single" if material == "thumb" else "glance", picture[None], (VIEW, VIEW))
        return Piece(scene, "image", prepare.any_resolution(picture, name), (scene.height, scene.width))
    if material == "parade":
        count = 8 if rng.random() < 0.75 else int(rng.integers(4, 8))
        scene = _parade(seed, count, 2 if rng.random() < 0.5 else 4)
        return _skim(scene, rng, name) if rng.random() < 0.6 else clip_piece(scene, name, quality)
    if material == "frame":
        count = 1
    elif material == "short":
        count = int(rng.integers(2, 7))
    elif material == "clip":
        count = 8 if rng.random() < 0.85 else int(rng.integers(9, 17))
    else:
        raise ValueError(f"material={material!r} is not one of {', '.join(SMALLER)}; choose one of them")
    piece = clip_piece(sample_clip(seed, count), name, quality)
    if name == NATIVE and worn and rng.random() < 0.2:  # timestamps of other rates
        piece.fps = float(rng.choice([0.5, 1, 3, 4]))
    return piece


def _parade(seed: int, frames: int, most: int) -> ClipScene:
    """Draw the first clip of at most `most` objects after `seed` that allows a question about the order."""
    while True:
        scene = sample_clip(seed, frames, max_items=most)
        if ask(scene, "order", np.random.default_rng(seed)) is not None:
            return scene
        seed += 2**44


def _skim(scene: ClipScene, rng: np.random.Generator, name: str) -> Piece:
    """Keep two to four frames of a clip, the first and the last among them: what comes first is easier to see."""
    between = 1 + rng.permutation(scene.frames - 2)[: int(rng.integers(0, 3))]
    kept = sorted({0, *(int(frame) for frame in between), scene.frames - 1})
    actors = tuple(
        replace(actor, appears=next(index for index, frame in enumerate(kept) if frame >= actor.appears))
        for actor in scene.actors
    )
    flash = scene.flash if scene.flash_frame in kept else None
    shortened = replace(scene, frames=len(kept), actors=actors, flash=flash)
    frames = _frames(paint_clip(scene)[kept], name)
    return Piece(shortened, "video", frames, (scene.height, scene.width))


def _frames(pictures: Pixels, name: str) -> Pixels:
    return prepare.native_frames(pictures) if name == NATIVE else prepare.frames(pictures)


def clip_piece(scene: ClipScene, name: str, quality: int = 0) -> Piece:
    """Make the piece of a clip, its frames through JPEG of this quality if it is not 0."""
    pictures = paint_clip(scene)
    if quality:
        pictures = np.stack([jpeg(picture, quality) for picture in pictures])
    return Piece(scene, "video", _frames(pictures, name), (scene.height, scene.width))


def caption(scene: Scene | ClipScene) -> tuple[str, str]:
    """Return the request for a description and the description: every object in reading order, then the digit."""
    described = []
    if isinstance(scene, Scene):
        request = "describe the image."
        digits = list(scene.digits)
        for item in scene.items:
            place = place_of(item.center, scene.width, scene.height)
            described.append(
                (0, place.startswith("bottom"), item.center, f"{item.color} {item.shape} {place}")
            )
    else:
        request = "describe the clip."
        digits = [] if scene.flash is None else [scene.flash]
        for actor in scene.actors:
            item = actor.item
            place = (
                place_of(item.center, scene.width, scene.height)
                if actor.direction is None
                else actor.direction
            )
            low = item.center[1] >= scene.height / 2
            described.append((actor.appears, low, item.center, f"{item.color} {item.shape} {place}"))
    parts = [text for *_, text in sorted(described)] + [f"digit {digit.value}" for digit in digits]
    return request, ", ".join(parts)


def conversation(
    scene: Scene | ClipScene, rng: np.random.Generator, turns: int, weights: dict[str, float]
) -> list[tuple[str, str, float]]:
    """Draw questions about a scene.

    Args:
        scene: what is talked about.
        rng: picks.
        turns: how many questions, the caption included.
        weights: question type to how often it is asked, relative to 1; "caption" to the chance of a caption.

    Returns:
        (question, answer, weight of its loss per token); the caption, if any, comes last.
    """
    types = list(IMAGE_TYPES if isinstance(scene, Scene) else CLIP_TYPES)
    described = rng.random() < weights.get("caption", 1.0)
    chances = np.array([weights.get(kind, 1.0) for kind in types])
    asked: list[tuple[str, str, float]] = []
    while len(asked) < turns - int(described):
        question = ask(scene, types[int(rng.choice(len(types), p=chances / chances.sum()))], rng)
        if question is not None:
            asked.append((question.text, question.answer, 1.0))
    if described:
        asked.append((*caption(scene), 0.4))
    return asked

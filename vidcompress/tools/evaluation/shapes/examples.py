"""Examples (pixels, ground truth, questions) and the split into training and held-out seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from vidcompress.tools.evaluation.shapes.clip import ClipScene, paint_clip, sample_clip, write_frames
from vidcompress.tools.evaluation.shapes.draw import paint
from vidcompress.tools.evaluation.shapes.questions import ShapesQuestion, ask, ask_all
from vidcompress.tools.evaluation.shapes.scene import Box, Scene, sample_scene
from vidcompress.tools.evaluation.shapes.vocabulary import CLIP_TYPES, IMAGE_TYPES

HELD_OUT_SEEDS: Final = range(0, 1_000_000)
"""Seeds that no training ever uses."""

TRAINING_SEEDS: Final = range(1_000_000, 2**62)
"""Seeds that training draws from; it shares none with `HELD_OUT_SEEDS`."""

CLIP_FRAMES: Final = 8
"""Frames of a clip unless asked otherwise."""

CLIP_FPS: Final = 2
"""Frames per second of a clip."""


@dataclass(frozen=True)
class ImageExample:
    """An image with its truth and its questions.

    Attributes:
        seed: where it comes from.
        image: the RGB picture.
        scene: the truth: objects, digits and their boxes in pixels of the picture.
        questions: one of every type the scene allows.
    """

    seed: int
    image: Image.Image
    scene: Scene
    questions: list[ShapesQuestion]

    @property
    def boxes(self) -> list[Box]:
        """Boxes of the objects, pixels, in the scene's order."""
        return [item.box for item in self.scene.items]


@dataclass(frozen=True)
class ClipExample:
    """A clip with its truth and its questions.

    Attributes:
        seed: where it comes from.
        frames: uint8 (T, height, width, 3).
        fps: frames per second.
        scene: the truth: objects, when they appear, how they move, the digit and its frame.
        questions: one of every type the clip allows.
    """

    seed: int
    frames: npt.NDArray[np.uint8]
    fps: int
    scene: ClipScene
    questions: list[ShapesQuestion]

    @property
    def boxes(self) -> list[list[Box | None]]:
        """Boxes of the objects per frame, pixels, in the scene's order; None where one is not there yet."""
        return [
            [None if item is None else item.box for item in (actor.at(frame) for actor in self.scene.actors)]
            for frame in range(self.scene.frames)
        ]


def image_example(seed: int, size: tuple[int, int] | None = None) -> ImageExample:
    """Make the image of a seed, (width, height) = `size` pixels or drawn at random, with its questions."""
    scene = sample_scene(seed, size=size)
    questions = ask_all(scene, np.random.default_rng([seed, 4]))
    return ImageExample(seed, Image.fromarray(paint(scene)), scene, questions)


def clip_example(seed: int, frames: int = CLIP_FRAMES, size: tuple[int, int] | None = None) -> ClipExample:
    """Make the clip of a seed, (width, height) = `size` pixels or drawn at random, with its questions."""
    scene = sample_clip(seed, frames, size=size)
    questions = ask_all(scene, np.random.default_rng([seed, 5]))
    return ClipExample(seed, paint_clip(scene), CLIP_FPS, scene, questions)


def write_clip(example: ClipExample, path: str | Path) -> None:
    """Write a clip as an H.264 file; see `clip.write_frames`."""
    write_frames(example.frames, path, example.fps)


def held_out_questions(
    medium: Literal["image", "clip"],
    count: int,
    frames: int = CLIP_FRAMES,
    first: int = HELD_OUT_SEEDS.start,
) -> Iterator[tuple[int, Scene | ClipScene, ShapesQuestion]]:
    """Pick the held-out questions without painting anything.

    One question per held-out seed, of the type asked least so far that the scene allows; existence questions
    alternate between "yes" and "no". The first n questions are the same whatever `count` is.

    Args:
        medium: "image" or "clip".
        count: number of questions.
        frames: frames per clip.
        first: first held-out seed.

    Yields:
        The seed, the scene or clip, and the question.

    Raises:
        ValueError: if `medium` is neither.
    """
    if medium not in ("image", "clip"):
        raise ValueError(f"medium={medium!r} is not one of image, clip; choose one of them")
    types = IMAGE_TYPES if medium == "image" else CLIP_TYPES
    asked = dict.fromkeys(types, 0)
    expected = "yes"
    seed = first
    while sum(asked.values()) < count:
        scene = sample_scene(seed) if medium == "image" else sample_clip(seed, frames)
        rng = np.random.default_rng([seed, 6])
        for kind in sorted(types, key=lambda name: asked[name]):
            question = ask(scene, kind, rng)
            while question is not None and kind == "existence" and question.answer != expected:
                question = ask(scene, kind, rng)
            if question is not None:
                if kind == "existence":
                    expected = "no" if expected == "yes" else "yes"
                asked[kind] += 1
                yield seed, scene, question
                break
        seed += 1


def held_out(
    medium: Literal["image", "clip"],
    count: int,
    frames: int = CLIP_FRAMES,
    first: int = HELD_OUT_SEEDS.start,
) -> Iterator[tuple[ImageExample | ClipExample, ShapesQuestion]]:
    """Yield the held-out questions of `held_out_questions`, each with its painted example."""
    for seed, scene, question in held_out_questions(medium, count, frames, first):
        if isinstance(scene, Scene):
            yield ImageExample(seed, Image.fromarray(paint(scene)), scene, [question]), question
        else:
            yield ClipExample(seed, paint_clip(scene), CLIP_FPS, scene, [question]), question

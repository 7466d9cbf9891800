"""Benchmarks of shapes questions: pictures, clips, several pictures at once, and multi-turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count, islice
from typing import Final

import numpy as np

from vidcompress.tools.evaluation.shapes import (
    ClipScene,
    Digit,
    Scene,
    SceneObject,
    ShapesQuestion,
    ask,
    ask_all,
    held_out_questions,
    paint_clip,
    sample_clip,
    sample_scene,
)
from vidcompress.tools.evaluation.shapes.examples import CLIP_FRAMES
from vidcompress.tools.evaluation.suite.entry import Entry, Media, picture

TURNS: Final = 5
"""Questions in a row about one picture or clip."""

MULTI_IMAGE_TYPES: Final = ("color", "shape", "count", "existence", "digit")
MULTI_IMAGE_SIDE: Final = 112


def clip(path: str, scene: ClipScene) -> Media:
    """The clip of a scene."""
    return Media(f"media/{path}.mp4", partial(paint_clip, scene))


def shapes_image(questions: int, first: int) -> Iterator[Entry]:
    """One question per held-out picture, as many of each type."""
    for seed, scene, question in held_out_questions("image", questions, first=first):
        yield _entry(f"{seed}", scene, question)


def shapes_clip(questions: int, first: int) -> Iterator[Entry]:
    """One question per held-out clip of eight frames, as many of each type."""
    for seed, scene, question in held_out_questions("clip", questions, first=first):
        yield _entry(f"{seed}", scene, question)


def _entry(name: str, scene: Scene | ClipScene, question: ShapesQuestion) -> Entry:
    media = picture(name, scene) if isinstance(scene, Scene) else clip(name, scene)
    return Entry(name, question.text, question.answer, (media,), question.type)


def multi_image(questions: int, first: int) -> Iterator[Entry]:
    """Questions about two to four pictures together, types and numbers of pictures in turns.

    The answer is in one of the pictures (`facts["where"]`, counted from 0), except for counting, which is over all of
    them, and for objects that are in none.
    """
    expected, seeds = "yes", count(first)
    for number in range(questions):
        kind = MULTI_IMAGE_TYPES[number % len(MULTI_IMAGE_TYPES)]
        pictures = 2 + number // len(MULTI_IMAGE_TYPES) % 3
        question: ShapesQuestion | None = None
        while question is None or (kind == "existence" and question.answer != expected):
            drawn = list(islice(seeds, pictures))
            scenes = _one_digit([_small_scene(seed) for seed in drawn], drawn[0])
            question = ask(_together(scenes), kind, np.random.default_rng([drawn[0], 10]))
        if kind == "existence":
            expected = "no" if expected == "yes" else "yes"
        media = tuple(picture(f"{seed}", scene) for seed, scene in zip(drawn, scenes, strict=True))
        facts = {"images": pictures, "where": _where(question, scenes)}
        yield Entry(f"{drawn[0]}", question.text, question.answer, media, kind, facts=facts)


def _small_scene(seed: int) -> Scene:
    return sample_scene(seed, max_items=2, size=(MULTI_IMAGE_SIDE, MULTI_IMAGE_SIDE))


def _one_digit(scenes: list[Scene], seed: int) -> list[Scene]:
    """The scenes with at most one digit among them."""
    having = [place for place, scene in enumerate(scenes) if scene.digits]
    kept = np.random.default_rng([seed, 11]).choice(having) if having else None
    return [scene if place == kept else replace(scene, digits=()) for place, scene in enumerate(scenes)]


def _together(scenes: list[Scene]) -> Scene:
    """One scene with the objects and the digit of all scenes, for the question makers."""
    items: list[SceneObject] = []
    digits: list[Digit] = []
    for scene in scenes:
        digits += [
            replace(digit, on=None if digit.on is None else digit.on + len(items)) for digit in scene.digits
        ]
        items += scene.items
    return replace(scenes[0], items=tuple(items), digits=tuple(digits))


def _where(question: ShapesQuestion, scenes: list[Scene]) -> int | None:
    """Index of the picture that holds the answer; None where it is in all or in none."""
    if question.type == "digit":
        return next(place for place, scene in enumerate(scenes) if scene.digits)
    if question.type == "count" or not question.about:
        return None
    ends = np.cumsum([len(scene.items) for scene in scenes])
    return int(np.searchsorted(ends, question.about[0], side="right"))


def multi_turn(questions: int, first: int) -> Iterator[Entry]:
    """Five questions of different types about a picture, then five about a clip, and so on, in a drawn order."""
    return islice(_turns(first), questions)


def _turns(first: int) -> Iterator[Entry]:
    media = 0
    for seed in count(first):
        is_clip = media % 2 == 1
        scene: Scene | ClipScene = sample_clip(seed, CLIP_FRAMES) if is_clip else sample_scene(seed)
        rng = np.random.default_rng([seed, 12])
        candidates = ask_all(scene, rng)
        if len(candidates) < TURNS:
            continue
        chosen = [candidates[place] for place in rng.permutation(len(candidates))[:TURNS]]
        for turn, question in enumerate(chosen):
            entry = _entry(f"{seed}", scene, question)
            facts = {"turn": turn, "medium": "clip" if is_clip else "image"}
            yield replace(entry, id=f"{seed}-{turn}", group=f"{seed}", facts=facts)
        media += 1

"""Benchmarks of what the shapes world asks: pictures, clips, several pictures at once, several questions in a row."""

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
    Item,
    Question,
    Scene,
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
    for seed, scene, asked in held_out_questions("image", questions, first=first):
        yield _entry(f"{seed}", scene, asked)


def shapes_clip(questions: int, first: int) -> Iterator[Entry]:
    """One question per held-out clip of eight frames, as many of each type."""
    for seed, scene, asked in held_out_questions("clip", questions, first=first):
        yield _entry(f"{seed}", scene, asked)


def _entry(name: str, scene: Scene | ClipScene, asked: Question) -> Entry:
    media = picture(name, scene) if isinstance(scene, Scene) else clip(name, scene)
    return Entry(name, asked.text, asked.answer, (media,), asked.type)


def multi_image(questions: int, first: int) -> Iterator[Entry]:
    """Questions about two to four pictures together, types and numbers of pictures in turns.

    What is asked for is in one of the pictures (`facts["where"]`, counted from 0), except for counting, which goes over
    all of them, and for what is in none.
    """
    wanted, seeds = "yes", count(first)
    for number in range(questions):
        kind = MULTI_IMAGE_TYPES[number % len(MULTI_IMAGE_TYPES)]
        pictures = 2 + number // len(MULTI_IMAGE_TYPES) % 3
        asked: Question | None = None
        while asked is None or (kind == "existence" and asked.answer != wanted):
            drawn = list(islice(seeds, pictures))
            scenes = _one_digit([_small_scene(seed) for seed in drawn], drawn[0])
            asked = ask(_together(scenes), kind, np.random.default_rng([drawn[0], 10]))
        if kind == "existence":
            wanted = "no" if wanted == "yes" else "yes"
        media = tuple(picture(f"{seed}", scene) for seed, scene in zip(drawn, scenes, strict=True))
        facts = {"images": pictures, "where": _where(asked, scenes)}
        yield Entry(f"{drawn[0]}", asked.text, asked.answer, media, kind, facts=facts)


def _small_scene(seed: int) -> Scene:
    return sample_scene(seed, max_items=2, size=(MULTI_IMAGE_SIDE, MULTI_IMAGE_SIDE))


def _one_digit(scenes: list[Scene], seed: int) -> list[Scene]:
    """The scenes with at most one digit among them."""
    having = [place for place, scene in enumerate(scenes) if scene.digits]
    kept = np.random.default_rng([seed, 11]).choice(having) if having else None
    return [scene if place == kept else replace(scene, digits=()) for place, scene in enumerate(scenes)]


def _together(scenes: list[Scene]) -> Scene:
    """One scene that holds the objects and the digit of all, for the makers of questions."""
    items: list[Item] = []
    digits: list[Digit] = []
    for scene in scenes:
        digits += [
            replace(digit, on=None if digit.on is None else digit.on + len(items)) for digit in scene.digits
        ]
        items += scene.items
    return replace(scenes[0], items=tuple(items), digits=tuple(digits))


def _where(asked: Question, scenes: list[Scene]) -> int | None:
    """Which picture holds what is asked for, counted from 0; None where it is in all or in none."""
    if asked.type == "digit":
        return next(place for place, scene in enumerate(scenes) if scene.digits)
    if asked.type == "count" or not asked.about:
        return None
    ends = np.cumsum([len(scene.items) for scene in scenes])
    return int(np.searchsorted(ends, asked.about[0], side="right"))


def multi_turn(questions: int, first: int) -> Iterator[Entry]:
    """Five questions of different types about a picture, then five about a clip, and so on, in a drawn order."""
    return islice(_turns(first), questions)


def _turns(first: int) -> Iterator[Entry]:
    media = 0
    for seed in count(first):
        is_clip = media % 2 == 1
        scene: Scene | ClipScene = sample_clip(seed, CLIP_FRAMES) if is_clip else sample_scene(seed)
        rng = np.random.default_rng([seed, 12])
        found = ask_all(scene, rng)
        if len(found) < TURNS:
            continue
        chosen = [found[place] for place in rng.permutation(len(found))[:TURNS]]
        for turn, asked in enumerate(chosen):
            entry = _entry(f"{seed}", scene, asked)
            facts = {"turn": turn, "medium": "clip" if is_clip else "image"}
            yield replace(entry, id=f"{seed}-{turn}", group=f"{seed}", facts=facts)
        media += 1

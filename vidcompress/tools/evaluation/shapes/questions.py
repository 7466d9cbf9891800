"""Questions about images and clips, each with one right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vidcompress.tools.evaluation.shapes.clip import Actor, ClipScene
from vidcompress.tools.evaluation.shapes.scene import Digit, Scene, SceneObject, place_of
from vidcompress.tools.evaluation.shapes.vocabulary import (
    CLIP_TYPES,
    COLORS,
    IMAGE_TYPES,
    PLURALS,
    SHAPES,
    article,
)


@dataclass(frozen=True)
class ShapesQuestion:
    """One question.

    Attributes:
        type: one of `IMAGE_TYPES` or `CLIP_TYPES`.
        text: the question in plain words.
        answer: the right answer, lower case, as short as possible.
        about: indices of the objects it is about, in the scene's order; empty for a digit on the background
            and for objects that are not there.
    """

    type: str
    text: str
    answer: str
    about: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Facts:
    """Facts of a scene or clip that the question makers read."""

    items: Sequence[SceneObject]
    digits: Sequence[Digit]
    width: int
    height: int
    actors: Sequence[Actor] = ()


Maker = Callable[[_Facts, np.random.Generator], list[ShapesQuestion]]


def _color(facts: _Facts, rng: np.random.Generator) -> list[ShapesQuestion]:
    shapes = [item.shape for item in facts.items]
    return [
        ShapesQuestion("color", f"what color is the {item.shape}?", item.color, (index,))
        for index, item in enumerate(facts.items)
        if shapes.count(item.shape) == 1
    ]


def _shape(facts: _Facts, rng: np.random.Generator) -> list[ShapesQuestion]:
    colors = [item.color for item in facts.items]
    return [
        ShapesQuestion("shape", f"what shape is the {item.color} object?", item.shape, (index,))
        for index, item in enumerate(facts.items)
        if colors.count(item.color) == 1
    ]


def _count(facts: _Facts, rng: np.random.Generator) -> list[ShapesQuestion]:
    everything = tuple(range(len(facts.items)))
    form = rng.random()
    if form < 0.5:
        return [ShapesQuestion("count", "how many objects are there?", str(len(facts.items)), everything)]
    by_color = form < 0.75
    names = list(COLORS) if by_color else list(SHAPES)
    present = [item.color if by_color else item.shape for item in facts.items]
    weights = np.array([0.08 + 1.0 * (name in present) + 2.0 * (present.count(name) > 1) for name in names])
    name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    about = tuple(index for index in everything if present[index] == name)
    what = f"{name} objects" if by_color else PLURALS[name]
    return [ShapesQuestion("count", f"how many {what} are there?", str(len(about)), about)]


def _existence(facts: _Facts, rng: np.random.Generator) -> list[ShapesQuestion]:
    kinds = [(item.color, item.shape) for item in facts.items]
    if not kinds:
        return []
    if rng.random() < 0.5:
        index = int(rng.integers(len(kinds)))
        color, shape = kinds[index]
        return [ShapesQuestion("existence", f"is there {article(color)} {color} {shape}?", "yes", (index,))]
    colors, shapes = {kind[0] for kind in kinds}, {kind[1] for kind in kinds}
    absent = [(color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in kinds]
    swapped = [kind for kind in absent if kind[0] in colors and kind[1] in shapes]
    half = [kind for kind in absent if (kind[0] in colors) != (kind[1] in shapes)]
    draw = rng.random()
    pool = swapped if swapped and draw < 0.6 else half if half and draw < 0.9 else absent
    color, shape = pool[int(rng.integers(len(pool)))]
    return [ShapesQuestion("existence", f"is there {article(color)} {color} {shape}?", "no")]


def _place(facts: _Facts, rng: np.random.Generator) -> list[ShapesQuestion]:
    moving = {index for index, actor in enumerate(facts.actors) if actor.direction is not None}
    return [
        ShapesQuestion(
            "place",
            f"where is the {item.color} {item.shape}?",
            place_of(item.center, facts.width, facts.height),
            (index,),
        )
        for index, item in enumerate(facts.items)
        if index not in moving
    ]


def _digit(facts: _Facts, rng: np.random.Generator) -> list[ShapesQuestion]:
    if len(facts.digits) != 1:
        return []
    digit = facts.digits[0]
    if digit.on is not None and rng.random() < 0.5:
        host = facts.items[digit.on]
        text = f"which digit is on the {host.color} {host.shape}?"
        return [ShapesQuestion("digit", text, str(digit.value), (digit.on,))]
    return [
        ShapesQuestion(
            "digit", "what digit is shown?", str(digit.value), () if digit.on is None else (digit.on,)
        )
    ]


def _direction(facts: _Facts, rng: np.random.Generator) -> list[ShapesQuestion]:
    return [
        ShapesQuestion(
            "direction",
            f"which way does the {actor.item.color} {actor.item.shape} move?",
            actor.direction,
            (index,),
        )
        for index, actor in enumerate(facts.actors)
        if actor.direction is not None
    ]


def _order(facts: _Facts, rng: np.random.Generator) -> list[ShapesQuestion]:
    when = [actor.appears for actor in facts.actors]
    questions = []
    if len(when) > 1:
        for word, frame in (("first", min(when)), ("last", max(when))):
            if when.count(frame) == 1:
                index = when.index(frame)
                shape = facts.actors[index].item.shape
                questions.append(ShapesQuestion("order", f"which shape appears {word}?", shape, (index,)))
    return questions


_MAKERS: Final[dict[str, Maker]] = {
    "color": _color,
    "shape": _shape,
    "count": _count,
    "existence": _existence,
    "place": _place,
    "digit": _digit,
    "direction": _direction,
    "order": _order,
}


def _facts(scene: Scene | ClipScene) -> _Facts:
    if isinstance(scene, Scene):
        return _Facts(scene.items, scene.digits, scene.width, scene.height)
    items = [actor.item for actor in scene.actors]
    digits = () if scene.flash is None else (scene.flash,)
    return _Facts(items, digits, scene.width, scene.height, scene.actors)


def ask(scene: Scene | ClipScene, kind: str, rng: np.random.Generator) -> ShapesQuestion | None:
    """Make one question of type `kind` about a scene or a clip; None if it has no unambiguous one.

    Args:
        scene: what is asked about.
        kind: one of `IMAGE_TYPES`, or of `CLIP_TYPES` for a clip.
        rng: picks among the possible questions; existence questions are "yes" half of the time.

    Raises:
        ValueError: if `kind` is not a question type of this medium.
    """
    allowed = IMAGE_TYPES if isinstance(scene, Scene) else CLIP_TYPES
    if kind not in allowed:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(allowed)}; choose one of them")
    questions = _MAKERS[kind](_facts(scene), rng)
    return questions[int(rng.integers(len(questions)))] if questions else None


def ask_all(scene: Scene | ClipScene, rng: np.random.Generator) -> list[ShapesQuestion]:
    """Make one question of every type that the scene or clip allows, in the order of the types."""
    types = IMAGE_TYPES if isinstance(scene, Scene) else CLIP_TYPES
    questions = (ask(scene, kind, rng) for kind in types)
    return [question for question in questions if question is not None]

"""Entry of a benchmark: one question before it is written, with the functions that paint its media."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vidcompress.tools.evaluation.shapes import HELD_OUT_SEEDS, Scene, paint

Pixels = npt.NDArray[np.uint8]

SEEDS_PER_BLOCK: Final = 10_000
"""A suite seed stands for this many held-out seeds, so that two suites share no scene."""

LAST_BLOCK: Final = len(HELD_OUT_SEEDS) // SEEDS_PER_BLOCK - 1


@dataclass(frozen=True)
class Media:
    """Media file of a question.

    Attributes:
        path: within the folder, with forward slashes; ".png" is a picture and ".mp4" a clip.
        paint: makes its pixels, uint8 (height, width, 3) of a picture and (frame, height, width, 3) of a clip.
    """

    path: str
    paint: Callable[[], Pixels] = field(repr=False, compare=False)

    @property
    def is_clip(self) -> bool:
        """Whether it is a clip."""
        return self.path.endswith(".mp4")


@dataclass(frozen=True)
class Entry:
    """One question; see `vidcompress.tools.evaluation.tasks.base.Item` for what the fields mean.

    Attributes:
        id: unique within the benchmark.
        question: made of words that the embedded models know.
        answer: the only one that is right.
        media: its pictures in order, or one clip.
        kind: type of question.
        group: questions of one group share their media.
        facts: JSON values.
    """

    id: str
    question: str
    answer: str
    media: tuple[Media, ...]
    kind: str
    group: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """The object in `questions.jsonl`."""
        paths = [media.path for media in self.media]
        key = "video" if self.media[0].is_clip else "image" if len(paths) == 1 else "images"
        line: dict[str, Any] = {"id": self.id, key: paths if key == "images" else paths[0]}
        line |= {"question": self.question, "answer": self.answer, "kind": self.kind}
        line |= {"group": self.group} if self.group else {}
        return line | ({"facts": dict(self.facts)} if self.facts else {})


def picture(path: str, scene: Scene) -> Media:
    """The picture of a scene."""
    return Media(f"media/{path}.png", partial(paint, scene))


def first_seed(seed: int) -> int:
    """The first held-out seed of a suite seed, 0 to `LAST_BLOCK`."""
    return HELD_OUT_SEEDS.start + seed * SEEDS_PER_BLOCK

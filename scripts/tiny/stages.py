"""Curriculum: the stages of training, their material and length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from tiny.material import SMALLER


@dataclass(frozen=True)
class Stage:
    """One lesson.

    A round draws fresh pictures once and goes over them `passes` times (with fresh questions each time); a
    checkpoint is written after every round.

    Attributes:
        name: unique within the curriculum.
        kind: "views" (the encoder labels patches) or "talk" (the whole model answers questions).
        rounds: how many rounds.
        pictures: views (kind "views") or scenes (kind "talk") drawn per round.
        passes: how often a round goes over its pictures.
        batch: views or scenes per step.
        lr: peak learning rate of everything but the encoder.
        encoder_lr: peak learning rate of the encoder; 0 freezes it.
        floor: the learning rate decays (cosine) to this share of its peak.
        warmup: steps of linear warm-up.
        mix: material name to share of the scenes, for kind "talk" (see `material.py`).
        turns: questions per scene and step, for kind "talk" (more for long sequences, see `material.TURNS`).
        weights: question type to how often it is asked (1 if not named), and "caption" to the chance of a caption.
        adopt: begin with the decoder of another model, as real models begin with a trained language model.
    """

    name: str
    kind: str
    rounds: int
    pictures: int
    passes: int
    batch: int
    lr: float
    encoder_lr: float
    floor: float = 0.1
    warmup: int = 100
    mix: tuple[tuple[str, float], ...] = ()
    turns: int = 8
    weights: tuple[tuple[str, float], ...] = ()
    adopt: bool = False

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole stage."""
        return self.rounds * self.round_steps

    @property
    def round_steps(self) -> int:
        """Optimizer steps of one round."""
        if self.kind == "views":
            return self.passes * (self.pictures // self.batch)
        sizes = (
            (round(self.pictures * share), self.batch // SMALLER[material]) for material, share in self.mix
        )
        return self.passes * sum(count // size for count, size in sizes)


_LOOK: Final = Stage(
    "look", "views", rounds=30, pictures=3200, passes=2, batch=64, lr=1.5e-3, encoder_lr=1.5e-3
)

_HARD_ONES: Final = (
    ("existence", 2.0), ("place", 1.5), ("count", 1.5), ("direction", 2.0), ("order", 2.0), ("digit", 0.6),
    ("shape", 0.7), ("color", 1.0),
)  # fmt: skip
"""The types that take longest to learn are asked most."""

_FRAMES: Final = Stage(
    "frames", "talk", rounds=12, pictures=2048, passes=2, batch=64, lr=2e-3, encoder_lr=0.0, floor=0.5, warmup=150,
    mix=(("frame", 1.0),), weights=(("caption", 0.7), *_HARD_ONES),
)  # fmt: skip
_THUMBS: Final = Stage(
    "thumbs", "talk", rounds=12, pictures=2048, passes=2, batch=64, lr=2e-3, encoder_lr=0.0, floor=0.5, warmup=150,
    mix=(("thumb", 1.0),), weights=(("caption", 0.7), *_HARD_ONES),
)  # fmt: skip

_HARDEST: Final = (
    ("existence", 1.5), ("place", 1.5), ("count", 2.5), ("direction", 1.2), ("order", 3.0), ("digit", 0.7),
    ("shape", 0.5), ("color", 0.8),
)  # fmt: skip
"""Later, what is left to learn."""

_MANY_STEPS: Final[dict[str, Any]] = {
    "kind": "talk",
    "encoder_lr": 0.0,
    "batch": 16,
    "passes": 2,
    "warmup": 50,
}
"""Small batches: how often the weights move matters more than how sure each move is."""

_MORE_FRAMES: Final = Stage(
    "more frames", rounds=16, pictures=1280, lr=1.2e-3, floor=0.7, **_MANY_STEPS,
    mix=(("frame", 1.0),), weights=(("caption", 0.5), *_HARD_ONES),
)  # fmt: skip
_MORE_THUMBS: Final = Stage(
    "more thumbs", rounds=16, pictures=1280, lr=1.2e-3, floor=0.7, **_MANY_STEPS,
    mix=(("thumb", 1.0),), weights=(("caption", 0.5), *_HARD_ONES),
)  # fmt: skip
_GLANCES: Final = Stage(
    "glances", rounds=14, pictures=1280, lr=1.2e-3, floor=0.7, **_MANY_STEPS,
    mix=(("glance", 1.0),), weights=(("caption", 0.5), *_HARD_ONES),
)  # fmt: skip
_GLANCES_AND_THUMBS: Final = Stage(
    "glances and thumbs", rounds=3, pictures=1280, lr=8e-4, floor=0.7, **_MANY_STEPS, adopt=True,
    mix=(("glance", 0.4), ("thumb", 0.6)), weights=(("caption", 0.5), *_HARD_ONES),
)  # fmt: skip
_CLIPS: Final = Stage(
    "clips", rounds=6, pictures=768, lr=8e-4, floor=0.5, **_MANY_STEPS,
    mix=(("frame", 0.15), ("short", 0.35), ("clip", 0.5)), weights=(("caption", 0.4), *_HARD_ONES),
)  # fmt: skip
_IMAGES_AND_CLIPS: Final = Stage(
    "images and clips", rounds=24, pictures=512, lr=6e-4, floor=0.2, **_MANY_STEPS,
    mix=(("thumb", 0.2), ("image", 0.45), ("clip", 0.35)), weights=(("caption", 0.3), *_HARDEST),
)  # fmt: skip
_IMAGES: Final = Stage(
    "images", rounds=40, pictures=512, lr=8e-4, floor=0.2, **_MANY_STEPS,
    mix=(("thumb", 0.3), ("image", 0.7)), weights=(("caption", 0.3), *_HARDEST),
)  # fmt: skip

_EVERYTHING: Final = Stage(
    "everything", rounds=17, pictures=512, lr=5e-4, floor=0.04, **{**_MANY_STEPS, "encoder_lr": 1e-4},
    mix=(("thumb", 0.08), ("image", 0.38), ("short", 0.14), ("clip", 0.4)),
    weights=(("caption", 0.25), *_HARDEST, ("order", 8.0)),
)  # fmt: skip
_PARADES: Final = Stage(
    "parades", rounds=8, pictures=640, lr=8e-4, floor=0.5, **_MANY_STEPS,
    mix=(("parade", 0.7), ("clip", 0.1), ("image", 0.2)), weights=(("caption", 0.5), *_HARDEST, ("order", 6.0)),
)  # fmt: skip
_MORE_PARADES: Final = Stage(
    "more parades", rounds=7, pictures=640, lr=1.2e-3, floor=0.5, **_MANY_STEPS,
    mix=(("parade", 0.9), ("image", 0.1)), weights=(("caption", 0.7), *_HARDEST, ("order", 8.0)),
)  # fmt: skip
_EVERYTHING_AGAIN: Final = replace(
    _EVERYTHING,
    name="everything again",
    rounds=15,
    lr=6e-4,
    mix=(("thumb", 0.07), ("image", 0.4), ("parade", 0.13), ("clip", 0.4)),
    weights=(("caption", 0.25), *_HARDEST),
)
_EVERYTHING_STILL: Final = replace(_EVERYTHING, rounds=19, mix=(("thumb", 0.25), ("image", 0.75)))

_NATIVE_THUMBS: Final = replace(_THUMBS, rounds=8, mix=(("thumb", 0.6), ("frame", 0.4)))
_NATIVE_MORE: Final = replace(_MORE_THUMBS, rounds=8, mix=(("thumb", 0.5), ("frame", 0.2), ("short", 0.3)))

CURRICULA: Final[dict[str, tuple[Stage, ...]]] = {
    "tiny-onevision": (
        replace(_LOOK, rounds=31),
        _FRAMES,
        _MORE_FRAMES,
        _CLIPS,
        replace(_IMAGES_AND_CLIPS, rounds=11),
        replace(_EVERYTHING, rounds=7),
        _PARADES,
        _MORE_PARADES,
        _EVERYTHING_AGAIN,
    ),
    "tiny-next": (
        _LOOK,
        replace(_THUMBS, rounds=9),
        replace(_MORE_THUMBS, rounds=4),
        replace(_GLANCES, rounds=10),
        _GLANCES_AND_THUMBS,
        replace(_IMAGES, rounds=15),
        _EVERYTHING_STILL,
    ),
    "tiny-qwen": (
        replace(_LOOK, rounds=27),
        _NATIVE_THUMBS,
        _NATIVE_MORE,
        replace(_IMAGES_AND_CLIPS, rounds=10),
        replace(_EVERYTHING, rounds=12, lr=6e-4, floor=0.3),
        replace(_PARADES, rounds=4),
        replace(_EVERYTHING_AGAIN, rounds=12),
    ),
}
"""Model name to its stages, in order, as the committed checkpoints went through them."""

"""Lessons by stage: batches, loss and measurement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from tiny.architecture import NATIVE
from tiny.encoder import labels_accuracy, labels_loss
from tiny.stages import Stage
from tiny.talking import Talking
from tiny.views import Views, labelled_views

FIRST_TRAINING_SEED = 1_000_000
MEASURED_VIEWS = 320


class Lesson(Protocol):
    """One round of one stage."""

    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        """Yield the round's batches."""

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of one batch, a scalar with gradient."""

    def measure(self) -> dict[str, float]:
        """Measure the model on held-out material."""


class Looking:
    """The encoder labels patches of crowded scenes."""

    held_out: ClassVar[dict[bool, Views]] = {}

    def __init__(self, state: Any, stage: Stage, name: str, rng: np.random.Generator) -> None:
        self.state, self.stage, self.name = state, stage, name
        first = FIRST_TRAINING_SEED + int(rng.integers(2**40))
        self.views = labelled_views(first, stage.pictures, pairs=name == NATIVE)

    def batches(self, rng: np.random.Generator) -> Iterator[Views]:
        """Yield shuffled batches of labelled views, `passes` times over."""
        size = self.stage.batch
        for _ in range(self.stage.passes):
            order = rng.permutation(len(self.views.pixels))
            for start in range(0, len(order) - size + 1, size):
                chosen = order[start : start + size]
                yield Views(**{key: value[chosen] for key, value in vars(self.views).items()})

    def loss(self, batch: Views) -> torch.Tensor:
        """Loss of the patch labels and of the CLS tags."""
        return labels_loss(self.state.model, self.state.heads, batch, self.name)

    def measure(self) -> dict[str, float]:
        """Accuracies on views of held-out seeds."""
        pairs = self.name == NATIVE
        if pairs not in Looking.held_out:
            Looking.held_out[pairs] = labelled_views(0, MEASURED_VIEWS, pairs=pairs)
        return labels_accuracy(self.state.model, self.state.heads, Looking.held_out[pairs], self.name)


def open_lesson(state: Any, stage: Stage, name: str, rng: np.random.Generator) -> Lesson:
    """Open a round of the stage's kind."""
    if stage.kind == "talk":
        return Talking(state, stage, name, rng, FIRST_TRAINING_SEED + int(rng.integers(2**40)))
    if stage.kind == "views":
        return Looking(state, stage, name, rng)
    raise ValueError(f"stage {stage.name!r} has kind={stage.kind!r}; it must be 'views' or 'talk'")

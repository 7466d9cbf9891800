"""Schedule: the number of visual tokens that each decoder layer takes in, planned before the run.

A budget of B for N visual tokens means B on average over the inputs of all layers. A method offers a family of
counts, from one token per stage (level 0) to all of them (level 1); the schedule used is the largest whose sum over
the layers is not above layers x B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from vidcompress.core.budget import half_up
from vidcompress.errors import BudgetError

STEPS = 2**20
"""Number of levels from 0 to 1; finer than any number of tokens."""

Counts = Callable[[int, Fraction], list[int]]
"""(visual tokens, level from 0 to 1) -> number of tokens kept at each stage."""

Merged = Callable[[int], int]
"""Tokens left out at a stage -> number of tokens that they are merged into."""


@dataclass(frozen=True)
class Stage:
    """Pruning before one decoder layer.

    Attributes:
        layer: the first layer that takes in fewer tokens, counted from 0, at least 1.
        kept: visual tokens that stay.
        merged: tokens made from those that do not stay, placed behind the ones that do.
    """

    layer: int
    kept: int
    merged: int = 0

    @property
    def tokens(self) -> int:
        """Visual tokens that the layer and those after it take in."""
        return self.kept + self.merged


@dataclass(frozen=True)
class Schedule:
    """Visual tokens of one prompt row from layer to layer.

    Attributes:
        total: N, visual tokens that reach the first layer.
        layers: decoder layers.
        stages: in order of their layers.
    """

    total: int
    layers: int
    stages: tuple[Stage, ...]

    def per_layer(self) -> list[int]:
        """Visual tokens that each layer takes in."""
        counts, now = [], self.total
        pending = {stage.layer: stage.tokens for stage in self.stages}
        for layer in range(self.layers):
            now = pending.get(layer, now)
            counts.append(now)
        return counts

    @property
    def summed(self) -> int:
        """Visual tokens summed over the inputs of all layers."""
        return sum(self.per_layer())


def stage_layers(shares: Sequence[Fraction], layers: int, factor: Fraction = Fraction(1)) -> list[int]:
    """Turn fractions of depth into layer numbers.

    Args:
        shares: of depth, ascending, 0 < share < 1.
        layers: decoder layers.
        factor: moves all stages earlier in proportion, 0 < factor <= 1.

    Returns:
        One number per share, from 1 to layers - 1, not descending.
    """
    return [min(max(1, half_up(share * factor * layers)), max(layers - 1, 1)) for share in shares]


def make_schedule(
    total: int, layers: int, starts: Sequence[int], kept: Sequence[int], merged: Merged
) -> Schedule:
    """Make a schedule with the given stages; of several at one layer the last one counts."""
    stages, now = [], total
    for layer, count in dict(zip(starts, kept, strict=True)).items():
        stay = min(count, now)
        stages.append(Stage(layer, stay, merged(now - stay)))
        now = stages[-1].tokens
    return Schedule(total, layers, tuple(stages))


def largest_within(
    limit: int, total: int, layers: int, starts: Sequence[int], counts: Counts, merged: Merged
) -> Schedule | None:
    """Return the largest schedule whose sum over the layers is at most `limit`; None when none is that small."""

    def at(step: int) -> Schedule:
        return make_schedule(total, layers, starts, counts(total, Fraction(step, STEPS)), merged)

    if at(0).summed > limit:
        return None
    low, high = 0, STEPS + 1  # `low` fits, `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        if middle <= STEPS and at(middle).summed <= limit:
            low = middle
        else:
            high = middle
    return at(low)


def unreachable(name: str, budget: int, floor: Schedule, *, fit: bool) -> BudgetError:
    """Return the error for a budget below a schedule's floor; `fit` where earlier layers are no way out."""
    share = floor.summed / (floor.layers * max(floor.total, 1))
    way_out = (
        "raise the budget, or put a method before the language model in front, as in 'globalcom2+"
        + name
        + "'"
        if fit
        else "raise the budget, or pass schedule='fit', which prunes at earlier layers"
    )
    first = floor.stages[0].layer if floor.stages else floor.layers
    return BudgetError(
        f"method {name!r} cannot keep {budget} of {floor.total} visual tokens on average over {floor.layers} layers: "
        f"all of them are in the first {f'{first} layers' if first > 1 else 'layer'}, so its floor is "
        f"{100 * share:.1f} %; {way_out}"
    )

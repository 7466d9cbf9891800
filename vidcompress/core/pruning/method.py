"""Methods that leave out tokens between the layers of the language model: their scores and their counts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vidcompress.checks import one_of
from vidcompress.core.batch import VisualBatch, everything
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Modality
from vidcompress.core.method import Method
from vidcompress.core.pruning.schedule import (
    Schedule,
    largest_within,
    make_schedule,
    stage_layers,
    unreachable,
)
from vidcompress.core.selection import Selection

SCHEDULES = ("published", "fit")


@dataclass(frozen=True, eq=False)
class Between:
    """State between two decoder layers: b rows, n columns.

    Attributes:
        hidden: (b, n, D) input of the next layer.
        attention: (b, H, q, n) float32 softmax attention of the last q columns; q is 0 for a method that reads keys.
        weights: (b, q) float32 weight of each of these q columns; 0 where it is no query.
        visual: (b, n) bool. real: (b, n) bool, False at padding.
        rotary: (cos, sin) of the columns, each (b, n, d).
        counts: b ints, visual tokens of each row that stay.
        keys: (b, n, G * d) float32 keys, rotated, heads side by side; None for a method that reads attention.
    """

    hidden: Tensor
    attention: Tensor
    weights: Tensor
    visual: Tensor
    real: Tensor
    rotary: tuple[Tensor, Tensor]
    counts: tuple[int, ...] = ()
    keys: Tensor | None = None


@dataclass(frozen=True)
class InLLMMethod(Method):
    """A method that prunes inside the language model; before it, everything is sent.

    Class attributes:
        where: "inside".
        source: attention that it reads: of the layer before, as it ran ("previous"), or rows computed with the
            weights of the next layer ("next").
        reads: the "attention" of that layer, or its "keys" alone.
        asks: its queries: the "last" column, or the "text" behind the last visual token.
        depths: first layers of the published stages as fractions of depth, ascending.
        usual: visual tokens averaged over layer inputs under the published schedule, as a share.

    Attributes:
        schedule: `published` layers, at which a budget may be out of reach, or `fit`: the layers move earlier in
            the proportion in which the budget is smaller than the published average.

    Raises:
        ArgumentError: another schedule.
    """

    where: ClassVar[Literal["before", "inside"]] = "inside"
    uses_budget: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    compares: ClassVar = "nothing"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    source: ClassVar[Literal["previous", "next"]] = "previous"
    reads: ClassVar[Literal["attention", "keys"]] = "attention"
    asks: ClassVar[Literal["last", "text"]] = "last"
    depths: ClassVar[tuple[Fraction, ...]] = ()
    usual: ClassVar[Fraction] = Fraction(1, 2)

    schedule: str = "published"

    def __post_init__(self) -> None:
        one_of("schedule", self.schedule, SCHEDULES)

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """All positions in order: the language model prunes."""
        return everything(batch)

    @property
    def inside(self) -> InLLMMethod:
        """The method itself."""
        return self

    @abstractmethod
    def counts(self, total: int, level: Fraction) -> list[int]:
        """Visual tokens kept at each stage, at a level between the fewest (0) and all (1) of `total`.

        At least one, and not fewer at a higher level.
        """

    @abstractmethod
    def reference_counts(self, total: int, ratio: Fraction) -> list[int]:
        """Return the authors' counts for `ratio` as they define it."""

    def merged(self, pruned: int) -> int:
        """Number of tokens that `pruned` tokens left out at a stage are merged into."""
        return 0

    @abstractmethod
    def score(self, between: Between) -> Tensor:
        """Return (b, n) float32 scores; the visual columns with the highest stay."""

    def weigh(self, embeddings: Tensor, visual: Tensor, queries: Tensor) -> Tensor:
        """Weigh the text columns that are queries, once, from the input of the first layer.

        Args:
            embeddings: (b, n, D). visual: (b, n) bool.
            queries: (b, q) bool, which of the last q columns are text behind the last visual token.

        Returns:
            (b, q) float32, 0 where `queries` is False.
        """
        return queries.float()

    def merge(
        self, between: Between, scores: Tensor, kept: Tensor, pruned: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Merge the tokens left out.

        Args:
            between: as for `score`. scores: (b, n), -inf where a column is not visual. kept: (b, n) bool.
            pruned: number of tokens left out of each row.

        Returns:
            (b, c, D) tokens, (b, c) int64 columns of their centres, (b, c) bool that marks those in use.
        """
        raise NotImplementedError

    def plan_layers(
        self, total: int, budget: int, layers: int, *, ratio: Fraction | None = None, reference: bool = False
    ) -> Schedule:
        """Plan the number of visual tokens that each layer takes in.

        Args:
            total: N, visual tokens of one prompt row that reach the first layer.
            budget: B, wanted on average over the layers' inputs.
            layers: decoder layers.
            ratio: R as requested; `reference` uses it.
            reference: use the authors' counts.

        Raises:
            BudgetError: the schedule does not reach so small a budget; the message has its floor and the way out.
        """
        if total == 0 or layers < 2:
            return Schedule(total, layers, ())
        starts = stage_layers(self.depths, layers)
        if reference:
            share = ratio if ratio is not None else Fraction(budget, total)
            return make_schedule(total, layers, starts, self.reference_counts(total, share), self.merged)
        if budget >= total:
            return Schedule(total, layers, ())
        if self.schedule == "fit":
            starts = stage_layers(self.depths, layers, min(Fraction(1), Fraction(budget, total) / self.usual))
        schedule = largest_within(layers * budget, total, layers, starts, self.counts, self.merged)
        if schedule is None:
            floor = make_schedule(total, layers, starts, self.counts(total, Fraction(0)), self.merged)
            raise unreachable(self.name, budget, floor, fit=self.schedule == "fit" or starts[0] == 1)
        return schedule


def visual_attention(between: Between) -> Tensor:
    """Head-mean attention of the weighted queries: (b, H, q, n) -> (b, n)."""
    weights = between.weights / between.weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return torch.einsum("bhqn,bq->bn", between.attention, weights) / between.attention.shape[1]

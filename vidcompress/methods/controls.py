"""Control methods, the baselines of every comparison: none, random, uniform."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidcompress.checks import is_whole, one_of
from vidcompress.core.batch import VisualBatch, everything, keep, starts, totals_of
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Modality
from vidcompress.core.method import Method, register_method
from vidcompress.core.selection import Selection
from vidcompress.core.stream.ranked import RankedStream
from vidcompress.core.stream.stream import Stream, StreamSize, whole_clip
from vidcompress.errors import ArgumentError, shown
from vidcompress.ops.position_order import best_positions, golden_order, hashed_order

Numbers: TypeAlias = npt.NDArray[np.int64]
Draw = Literal["permutation", "hash"]
Spacing = Literal["stride", "golden"]
BOTH: frozenset[Modality] = frozenset({"image", "video"})


@register_method
@dataclass(frozen=True)
class Keep(Method):
    """All positions, whatever the budget: the uncompressed model through the same path."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "keeps everything; ignores the budget"
    uses_budget: ClassVar[bool] = False
    modalities: ClassVar[frozenset[Modality]] = BOTH
    compares: ClassVar = "nothing"
    exact: ClassVar[bool] = False

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Keep all positions, in order."""
        return everything(batch)


@register_method
@dataclass(frozen=True)
class Random(Method):
    """Tokens drawn uniformly without replacement over the whole input, sent in order.

    Attributes:
        seed: seed of the draw. The same seed and number of tokens give the same tokens on every device and at every
            place in a batch. Several seeds show the spread.
        rule: `permutation` of all tokens, or `hash`, the best B by a hash of position and seed, which a stream can keep
            too.

    Raises:
        ArgumentError: the seed is not an integer, or an unknown rule.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "tokens drawn uniformly without replacement, seeded"
    modalities: ClassVar[frozenset[Modality]] = BOTH
    compares: ClassVar = "nothing"

    seed: int = 0
    rule: Draw = "permutation"

    def __post_init__(self) -> None:
        one_of("rule", self.rule, get_args(Draw))
        if not is_whole(self.seed) or not 0 <= self.seed < 2**63:
            raise ArgumentError(f"seed must be an integer from 0 to 2**63 - 1, got {shown(self.seed)}")

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return False: the features decide nothing."""
        return False

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Keep the first B of a seeded permutation, or the best B by hash, ascending."""
        sizes = [one.layout.num_tokens for one in batch.visuals]
        if self.rule == "hash":
            return _of_order(batch, sizes, self._order, budgets)
        permutations = {size: self._permutation(size) for size in set(sizes)}
        pairs = zip(sizes, totals_of(batch, budgets), strict=True)
        return _of_tokens(batch, [np.sort(permutations[size][:count]) for size, count in pairs], budgets)

    def stream(self, size: StreamSize) -> Stream:
        """Return a stream that keeps what `select` keeps, of `rule="hash"`."""
        if self.rule != "hash":
            whole_clip("'random' with rule='permutation'", "rule='hash'")
        return RankedStream(self.select, size, by_position(self._order))

    def _order(self, positions: Numbers) -> Numbers:
        return hashed_order(positions, self.seed)

    def _permutation(self, size: int) -> Numbers:
        # On the CPU whatever the device: generators of accelerators draw other numbers.
        generator = torch.Generator("cpu").manual_seed(self.seed)
        numbers: Numbers = torch.randperm(size, generator=generator, device="cpu").numpy()
        return numbers


@register_method
@dataclass(frozen=True)
class Uniform(Method):
    """Every N/B-th token of the sequence, from the middle of each stride.

    Attributes:
        rule: `stride` as above, or `golden`, the best B by position / golden ratio modulo 1, which are almost evenly
            spaced however long the sequence gets, so that a stream can keep them too.

    Raises:
        ArgumentError: an unknown rule.
    """

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "evenly strided tokens over the sequence"
    modalities: ClassVar[frozenset[Modality]] = BOTH
    compares: ClassVar = "nothing"

    rule: Spacing = "stride"

    def __post_init__(self) -> None:
        one_of("rule", self.rule, get_args(Spacing))

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return False: the features decide nothing."""
        return False

    def stream(self, size: StreamSize) -> Stream:
        """Return a stream that keeps what `select` keeps, of `rule="golden"`."""
        if self.rule != "golden":
            whole_clip("'uniform' with rule='stride'", "rule='golden'")
        return RankedStream(self.select, size, by_position(golden_order))

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Keep token floor((i + 1/2) N / B) for i = 0 .. B - 1, or the best B by `golden_order`."""
        sizes = [one.layout.num_tokens for one in batch.visuals]
        if self.rule == "golden":
            return _of_order(batch, sizes, golden_order, budgets)
        pairs = zip(sizes, totals_of(batch, budgets), strict=True)
        strides = [(2 * np.arange(count) + 1) * size // max(1, 2 * count) for size, count in pairs]
        return _of_tokens(batch, strides, budgets)


def by_position(order: Callable[[Numbers], Numbers]) -> Callable[[Tensor, int], Tensor]:
    """Return the score of a stream's tokens by their position in the clip."""

    def score(features: Tensor, first: int) -> Tensor:
        frames, size = features.shape[:2]
        numbers = order(np.arange(first * size, (first + frames) * size))
        return torch.from_numpy(numbers).to(features.device).view(frames, size)

    return score


def _of_order(
    batch: VisualBatch,
    sizes: Sequence[int],
    order: Callable[[Numbers], Numbers],
    budgets: Sequence[VisualBudget],
) -> list[Selection]:
    """Make selections of the best tokens of each visual by an order of positions."""
    ranked = {size: order(np.arange(size)) for size in set(sizes)}
    pairs = zip(sizes, totals_of(batch, budgets), strict=True)
    return _of_tokens(batch, [best_positions(ranked[size], count) for size, count in pairs], budgets)


def _of_tokens(
    batch: VisualBatch, numbers: Sequence[Numbers], budgets: Sequence[VisualBudget]
) -> list[Selection]:
    """Make selections from token numbers of each visual, ascending; one copy brings them to the device."""
    layout, begin = batch.layout, starts([one.layout.num_tokens for one in batch.visuals])
    flat = np.concatenate(
        [part + start if start else part for part, start in zip(numbers, begin, strict=True)]
    )
    index = layout.token_index[torch.from_numpy(flat).to(layout.view.device)]
    return keep(batch, index, [len(part) for part in numbers], budgets)

"""Control methods, the baselines of every comparison: none, random, uniform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from vidcompress.checks import is_whole
from vidcompress.core.batch import VisualBatch, everything, keep, starts, totals_of
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Modality
from vidcompress.core.method import Method, register_method
from vidcompress.core.selection import Selection
from vidcompress.errors import ArgumentError, shown

Numbers: TypeAlias = npt.NDArray[np.int64]
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

    Raises:
        ArgumentError: the seed is not an integer.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "tokens drawn uniformly without replacement, seeded"
    modalities: ClassVar[frozenset[Modality]] = BOTH
    compares: ClassVar = "nothing"

    seed: int = 0

    def __post_init__(self) -> None:
        if not is_whole(self.seed) or not 0 <= self.seed < 2**63:
            raise ArgumentError(f"seed must be an integer from 0 to 2**63 - 1, got {shown(self.seed)}")

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return False: the features decide nothing."""
        return False

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Keep the first B of a seeded permutation, ascending."""
        sizes = [one.layout.num_tokens for one in batch.visuals]
        permutations = {size: self._permutation(size) for size in set(sizes)}
        pairs = zip(sizes, totals_of(batch, budgets), strict=True)
        return _of_tokens(batch, [np.sort(permutations[size][:count]) for size, count in pairs], budgets)

    def _permutation(self, size: int) -> Numbers:
        # On the CPU whatever the device: generators of accelerators draw other numbers.
        generator = torch.Generator("cpu").manual_seed(self.seed)
        numbers: Numbers = torch.randperm(size, generator=generator, device="cpu").numpy()
        return numbers


@register_method
@dataclass(frozen=True)
class Uniform(Method):
    """Every N/B-th token of the sequence, from the middle of each stride."""

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "evenly strided tokens over the sequence"
    modalities: ClassVar[frozenset[Modality]] = BOTH
    compares: ClassVar = "nothing"

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return False: the features decide nothing."""
        return False

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Keep token floor((i + 1/2) N / B) for i = 0 .. B - 1."""
        sizes = [one.layout.num_tokens for one in batch.visuals]
        pairs = zip(sizes, totals_of(batch, budgets), strict=True)
        strides = [(2 * np.arange(count) + 1) * size // max(1, 2 * count) for size, count in pairs]
        return _of_tokens(batch, strides, budgets)


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

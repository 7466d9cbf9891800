"""Control methods, the baselines of every comparison: none, random, uniform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.checks import is_whole
from vidcompress.core.batch import batch_layouts, can_batch, kept_of_each
from vidcompress.core.budget import VisualBudget, tokens_to_keep
from vidcompress.core.layout import Modality
from vidcompress.core.method import Method, register_method
from vidcompress.core.selection import Selection, with_separators
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError, shown

BOTH: frozenset[Modality] = frozenset({"image", "video"})


@register_method
@dataclass(frozen=True)
class Keep(Method):
    """Every position is sent, whatever the budget: the uncompressed model through the same path."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "keeps everything; ignores the budget"
    uses_budget: ClassVar[bool] = False
    modalities: ClassVar[frozenset[Modality]] = BOTH
    compares: ClassVar = "nothing"
    exact: ClassVar[bool] = False

    def select(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """All N positions in order."""
        return Selection(torch.arange(len(tokens), device=tokens.layout.view.device))


@register_method
@dataclass(frozen=True)
class Random(Method):
    """Tokens drawn uniformly without replacement over the whole input, sent in order.

    Attributes:
        seed: of the draw. The same seed and number of tokens give the same tokens on every device and at every
            place in a batch; repeat with several seeds to see the spread.

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
        """Never."""
        return False

    def select(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """The first B of a seeded permutation, ascending."""
        count = tokens_to_keep(tokens.layout, budget)
        drawn = self._permutation(tokens.layout.num_tokens)[:count].sort().values
        return _of_tokens(tokens, drawn.to(tokens.layout.view.device), budget)

    def select_batch(
        self, tokens: Sequence[VisualTokens], budgets: Sequence[VisualBudget]
    ) -> list[Selection]:
        """One permutation for every number of tokens, and one pass."""
        if not can_batch(tokens):
            return super().select_batch(tokens, budgets)
        batch, counts = batch_layouts(tuple(one.layout for one in tokens)), _counts(tokens, budgets)
        sizes = [one.layout.num_tokens for one in tokens]
        distinct = sorted(set(sizes))
        drawn = [self._permutation(size).argsort() for size in distinct]  # when each token is drawn
        start = dict(zip(distinct, _starts(distinct), strict=True))
        device = batch.owner.device
        count, first, begin = _table(counts, [start[size] for size in sizes], _starts(sizes)).to(device)
        owner = batch.owner[batch.layout.token_index]
        number = torch.arange(len(owner), device=device) - begin[owner]
        chosen = torch.cat(drawn).to(device)[first[owner] + number] < count[owner]
        kept = torch.zeros_like(batch.layout.separator).index_copy(0, batch.layout.token_index, chosen)
        return kept_of_each(batch, kept, counts, [budget.separators for budget in budgets])

    def _permutation(self, size: int) -> Tensor:
        # On the CPU whatever the device: accelerators have generators of their own.
        generator = torch.Generator("cpu").manual_seed(self.seed)
        return torch.randperm(size, generator=generator, device="cpu")


@register_method
@dataclass(frozen=True)
class Uniform(Method):
    """Every N/B-th token of the sequence, from the middle of each stride."""

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "evenly strided tokens over the sequence"
    modalities: ClassVar[frozenset[Modality]] = BOTH
    compares: ClassVar = "nothing"

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Never."""
        return False

    def select(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Token floor((i + 1/2) N / B) for i = 0 .. B - 1."""
        count = tokens_to_keep(tokens.layout, budget)
        i = torch.arange(count, device=tokens.layout.view.device)
        return _of_tokens(tokens, (2 * i + 1) * tokens.layout.num_tokens // max(1, 2 * count), budget)

    def select_batch(
        self, tokens: Sequence[VisualTokens], budgets: Sequence[VisualBudget]
    ) -> list[Selection]:
        """The strides of all in one pass."""
        if not can_batch(tokens):
            return super().select_batch(tokens, budgets)
        batch, counts = batch_layouts(tuple(one.layout for one in tokens)), _counts(tokens, budgets)
        sizes, total = [one.layout.num_tokens for one in tokens], sum(counts)
        device = batch.owner.device
        count, size, first, begin = _table(counts, sizes, _starts(counts), _starts(sizes)).to(device)
        visual = torch.arange(len(counts), device=device)
        owner = visual.repeat_interleave(count, output_size=total)
        i = torch.arange(total, device=device) - first[owner]
        number = (2 * i + 1) * size[owner] // (2 * count[owner])
        kept = torch.zeros_like(batch.layout.separator)
        kept = kept.index_fill(0, batch.layout.token_index[begin[owner] + number], True)
        return kept_of_each(batch, kept, counts, [budget.separators for budget in budgets])


def _of_tokens(tokens: VisualTokens, numbers: Tensor, budget: VisualBudget) -> Selection:
    """Turn numbers among the tokens, ascending, into positions, and add the planned separators."""
    index = tokens.layout.token_index[numbers]
    return Selection(with_separators(tokens.layout, index, budget.separators))


def _counts(tokens: Sequence[VisualTokens], budgets: Sequence[VisualBudget]) -> list[int]:
    return [tokens_to_keep(one.layout, budget) for one, budget in zip(tokens, budgets, strict=True)]


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where each of several runs begins when they stand one after the other."""
    return [0, *accumulate(sizes)][:-1]


def _table(*columns: Sequence[int]) -> Tensor:
    """(column, visual) int64, so that one copy brings them all to the device."""
    return torch.tensor(columns, dtype=torch.int64, device="cpu")

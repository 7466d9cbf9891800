"""Budgets of items: the exact number of tokens that an item sends, from its layout, before anything is encoded.

A count is made where requests come in, travels with the item's pixels as a row of integers, and is compared with what
the method chose where they are encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.config import CompressionConfig
from vidcompress.core.layout import Layout
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError
from vidcompress.serving.choice import choose
from vidcompress.serving.settings import Share

_REHEARSED_WIDTH = 8


@dataclass(frozen=True)
class ItemBudget:
    """Budget of one item, and the number of tokens that it sends.

    Attributes:
        count: tokens sent, separators included.
        plan: budget that the method meets.
    """

    count: int
    plan: VisualBudget

    def row(self) -> Tensor:
        """(3,) int64: the count, the positions of the budget, and the bits of its ratio as float64."""
        bits = torch.tensor([self.plan.ratio], dtype=torch.float64).view(torch.int64)
        return torch.cat((torch.tensor([self.count, self.plan.positions]), bits))


def item_budget(layout: Layout, share: Share, settings: CompressionConfig) -> ItemBudget:
    """Return the budget of an item.

    Args:
        layout: of the item, on the CPU.
        share: of its request.
        settings: of the engine.

    Raises:
        ArgumentError: nothing would be left of the item, or the method promises what it does not do.
        BudgetError: separators that the budget has no room for.
        UnsupportedInputError: a layout that the method does not take.
    """
    length = layout.full_length
    if share.unasked and layout.modality not in settings.method.modalities:
        return ItemBudget(length, visual_budget(layout, length))
    settings.method.check(layout)
    positions = share.of(length)
    sent = settings.method.sent(positions, length)
    ratio = share.ratio if sent == positions else None
    plan = visual_budget(layout, sent, ratio=ratio, separators=settings.resolved_separators)
    count = _rehearse(layout, plan, settings)
    if count < 1:
        raise ArgumentError(
            f"a budget of {positions} of {length} tokens leaves none with these separators; raise it"
        )
    return ItemBudget(count, plan)


def read_budget(row: Sequence[int], layout: Layout, settings: CompressionConfig) -> ItemBudget:
    """Read what `ItemBudget.row` wrote.

    Args:
        row: the three integers.
        layout: of the item.
        settings: of the engine.
    """
    count, positions, bits = row
    ratio = float(torch.tensor([bits], dtype=torch.int64).view(torch.float64)[0])
    plan = visual_budget(layout, positions, ratio=Fraction(ratio), separators=settings.resolved_separators)
    return ItemBudget(count, plan)


def _rehearse(layout: Layout, plan: VisualBudget, settings: CompressionConfig) -> int:
    """Return how many tokens the method chooses, from drawn features: once for each layout and budget.

    No engine survives an error or another number where the item is encoded.

    Raises:
        ArgumentError: the number depends on the features.
        BudgetError: a budget that the method cannot meet.
    """
    try:
        return _rehearsed(layout, plan, settings)
    except TypeError:  # an option of the method that cannot be hashed, such as a list
        return _rehearsed.__wrapped__(layout, plan, settings)


@lru_cache(maxsize=4096)
def _rehearsed(layout: Layout, plan: VisualBudget, settings: CompressionConfig) -> int:
    own = settings.method.exact and type(settings.method).__module__.startswith("vidcompress.methods")
    if (
        own and settings.method.sequential
    ):  # seconds for long clips, of methods that the package's tests hold to this
        return plan.positions
    counts = {plan.positions} if own else set()  # of other methods two draws must agree
    for seed in range(1 if own else 2):
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(len(layout), _REHEARSED_WIDTH, generator=generator)
        needed = {
            item for has_cls in (True, False) for item in settings.method.needs(layout.modality, has_cls)
        }
        evidence = {item: torch.rand(len(layout), generator=generator) for item in needed}
        (chosen,) = choose([VisualTokens(features, layout, evidence)], [plan], settings.method)
        counts.add(len(chosen.source))
    if len(counts) > 1:
        raise ArgumentError(
            f"method={settings.method.name!r} sends {min(counts)} or {max(counts)} tokens by the features, and vLLM "
            "needs one number before them; use a method that meets its budget"
        )
    return counts.pop()

"""Two methods one after the other: one before the language model, one inside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter
from typing import ClassVar

from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, exact_ratio, half_up
from vidcompress.core.layout import Layout, Modality
from vidcompress.core.method import Method
from vidcompress.core.pruning.method import InLLMMethod
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError


@dataclass(frozen=True)
class Composed(Method):
    """Two methods under one budget: `before` chooses the tokens sent, `within` leaves out more from layer to layer.

    The budget B of N means B on average over the layers' inputs. `before` sends N sqrt(B / N), so that each of the
    two reduces by the same factor, or the share `before_ratio`.

    Attributes:
        before: a method before the language model.
        within: a method inside it.
        before_ratio: share of the visual tokens that `before` sends, not below that of the budget; None as above.

    Raises:
        ArgumentError: a method of the wrong kind in one of the two fields, or a share out of range.
    """

    before: Method
    within: InLLMMethod
    before_ratio: float | str | Fraction | None = None

    # Class attributes of other methods follow from the two parts here.
    exact: ClassVar[bool] = False
    name = property(lambda self: f"{self.before.name}+{self.within.name}")
    modalities = property(attrgetter("before.modalities"))
    positions = property(attrgetter("before.positions"))
    mass = property(attrgetter("before.mass"))
    merges = property(attrgetter("before.merges"))
    compares = property(attrgetter("before.compares"))
    changes_views = property(attrgetter("before.changes_views"))

    def __post_init__(self) -> None:
        if not isinstance(self.before, Method) or self.before.inside is not None:
            raise ArgumentError(
                f"before must be a method before the language model, got {self.before!r}; write 'globalcom2+fastv'"
            )
        if not isinstance(self.within, InLLMMethod):
            raise ArgumentError(
                f"within must be a method inside the language model, got {self.within!r}; write 'globalcom2+fastv'"
            )
        if self.before_ratio is not None:
            exact_ratio(self.before_ratio)

    @property
    def inside(self) -> InLLMMethod:
        """`within`."""
        return self.within

    def sent(self, budget: int, total: int) -> int:
        """Number of N positions that `before` sends for a budget of B."""
        if self.before_ratio is not None:
            count = half_up(exact_ratio(self.before_ratio) * total)
        else:
            count = half_up(Fraction(math.sqrt(budget * total)))
        return self.before.sent(max(budget, min(total, count)), total)

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """Evidence that `before` needs."""
        return self.before.needs(modality, has_cls)

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Whether `before` reads features."""
        return self.before.reads_features(modality, has_cls)

    def multiplications(self, sizes: Sequence[int], sent: int, width: int) -> int:
        """Multiplications of `before`."""
        return self.before.multiplications(sizes, sent, width)

    def frames(self, layout: Layout, budget: VisualBudget) -> tuple[int, ...] | None:
        """Frames that `before` encodes."""
        return self.before.frames(layout, budget)

    def crops(self, thumbnail: VisualTokens, layout: Layout, budget: VisualBudget) -> tuple[int, ...] | None:
        """Crops that `before` encodes."""
        return self.before.crops(thumbnail, layout, budget)

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Selections by `before`."""
        return self.before.select(batch, budgets)

    def check(self, layout: Layout) -> None:
        """Refuse inputs that either method refuses."""
        self.before.check(layout)
        self.within.check(layout)

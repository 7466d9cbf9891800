"""Token budgets: how many positions of a visual input may reach the language model.

Every number here follows from geometry alone, so a serving engine can size its placeholders before it has run
the encoder. Ratios are exact decimals: 0.1 means one tenth, not the nearest binary fraction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cached_property
from numbers import Real
from typing import Literal, TypeAlias

from vidcompress.checks import is_whole, one_of
from vidcompress.core.layout import Layout
from vidcompress.errors import ArgumentError, BudgetError, shown

Separators = Literal["keep", "thin", "drop"]
Policy = Literal["exact", "reference"]
Ratio: TypeAlias = float | str | Decimal | Fraction  # as callers write it; "0.1" and 0.1 are both one tenth
SEPARATORS: tuple[Separators, ...] = ("keep", "thin", "drop")
POLICIES: tuple[Policy, ...] = ("exact", "reference")


def ratio_fraction(ratio: float) -> Fraction:
    """The shortest decimal that reads back as `ratio`, as an exact fraction: 0.1 is one tenth."""
    return Fraction(Decimal(repr(float(ratio))))


def half_up(value: Fraction) -> int:
    """Round to the nearest integer, halves upwards."""
    return math.floor(value + Fraction(1, 2))


@dataclass(frozen=True)
class Budget:
    """A token budget: a share of each visual input, or a number of tokens per prompt row.

    Attributes:
        retention_ratio: 0 < R <= 1; an image or video of N positions keeps B = max(1, floor(R N + 1/2)).
        max_tokens: at least 1; visual positions of one prompt row, split over its images and videos in
            proportion to N by largest remainder.

    Raises:
        BudgetError: unless exactly one of the two is given and in range.
    """

    retention_ratio: Ratio | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if (self.retention_ratio is None) == (self.max_tokens is None):
            raise BudgetError(
                f"give exactly one of retention_ratio (got {shown(self.retention_ratio)}) and max_tokens (got "
                f"{shown(self.max_tokens)}); for example retention_ratio=0.25"
            )
        if self.retention_ratio is not None:
            self.ratio  # noqa: B018  (validates)
        if self.max_tokens is not None and (not is_whole(self.max_tokens) or self.max_tokens < 1):
            raise BudgetError(f"max_tokens must be an integer of at least 1, got {shown(self.max_tokens)}")

    @cached_property
    def ratio(self) -> Fraction | None:
        """The retention ratio as an exact fraction, or None when the budget is `max_tokens`."""
        return None if self.retention_ratio is None else exact_ratio(self.retention_ratio)

    def split(self, lengths: Sequence[int]) -> list[int]:
        """Return the budget of each visual input of one prompt row.

        Args:
            lengths: N of each image or video of the row, in order.

        Returns:
            One integer per visual, 0 <= B <= N. `max_tokens` below the number of visuals leaves some with none.

        Raises:
            ArgumentError: `lengths` holds something else than whole numbers.
        """
        if not isinstance(lengths, Sequence) or not all(is_whole(n) and n >= 0 for n in lengths):
            raise ArgumentError(f"lengths={shown(lengths)}: must be a list of whole numbers of at least 0")
        if self.max_tokens is not None:
            return split_in_proportion(min(int(self.max_tokens), sum(lengths)), lengths)
        ratio = self.ratio or Fraction(1)
        return [min(n, max(1, half_up(ratio * n))) for n in lengths]


def exact_ratio(value: Ratio) -> Fraction:
    """Read a retention ratio as the decimal it is written as.

    Raises:
        BudgetError: if it is not a number in (0, 1].
    """
    try:
        if isinstance(value, bool):
            raise ValueError
        fraction = value if isinstance(value, Fraction) else _fraction(Decimal(_decimal_text(value)))
    except (ValueError, InvalidOperation, OverflowError, TypeError):
        fraction = Fraction(0)
    if not 0 < fraction <= 1:
        raise BudgetError(
            f"retention_ratio must be a number with 0 < R <= 1, got {shown(value)}; 0.25 keeps a quarter"
        )
    return fraction


def _fraction(decimal: Decimal) -> Fraction:
    """Convert to a fraction; refuse an exponent that would need an integer of a million digits."""
    if not decimal.is_finite() or not -30 < decimal.adjusted() < 30:
        raise ValueError
    return Fraction(decimal)


def _decimal_text(value: object) -> str:
    if isinstance(value, (str, Decimal)):
        return str(value)
    if isinstance(value, Real):
        return repr(float(value))  # shortest decimal that reads back as this float
    raise TypeError


def split_in_proportion(total: int, lengths: Sequence[int]) -> list[int]:
    """Split `total` over `lengths` in proportion by largest remainder; ties go to the earlier entry."""
    whole = sum(lengths)
    if whole == 0:
        return [0] * len(lengths)
    shares = [Fraction(total * n, whole) for n in lengths]
    counts = [math.floor(s) for s in shares]
    order = sorted(range(len(lengths)), key=lambda i: (counts[i] - shares[i], i))
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return counts


@dataclass(frozen=True)
class VisualBudget:
    """The budget of one visual input, settled before its features exist.

    Attributes:
        total: N, positions without compression, separators included.
        positions: B, positions that may be sent.
        separators: how many of B are separators; the other B - separators are tokens.
        ratio: R as a float; B / N when the budget was given in tokens.
        policy: `exact` meets B to the token, `reference` reproduces the authors' counts and order.
        keep_separators: whether every separator was asked for (`separators="keep"`).
    """

    total: int
    positions: int
    separators: int
    ratio: float
    policy: Policy = "exact"
    keep_separators: bool = False

    @property
    def tokens(self) -> int:
        """Positions of the budget that are not separators."""
        return self.positions - self.separators


def visual_budget(
    layout: Layout,
    budget: int,
    *,
    ratio: Fraction | None = None,
    separators: Separators = "thin",
    policy: Policy = "exact",
) -> VisualBudget:
    """Divide the budget of one visual input between its tokens and its separators.

    `thin` sends floor(B N_sep / N + 1/2) separators (a lone trailing newline is sent whenever B >= 2), `keep`
    all of them, `drop` none.

    Raises:
        BudgetError: `keep` with fewer positions than separators.
        ArgumentError: unknown `separators` or `policy`.
    """
    one_of("separators", separators, SEPARATORS)
    one_of("policy", policy, POLICIES)
    total, in_all = layout.full_length, layout.num_separators
    if policy == "reference":
        # The authors prune tokens only: every separator is sent on top of the budget.
        if separators != "keep":
            raise ArgumentError(
                f"policy='reference' sends every separator, got separators={separators!r}; use 'keep'"
            )
        share = float(ratio) if ratio is not None else budget / max(total, 1)
        return VisualBudget(total, budget, in_all, share, policy, keep_separators=True)
    if separators == "keep":
        if budget < in_all:
            raise BudgetError(
                f"separators='keep' needs a budget of at least {in_all} (this input has {in_all} separators), got "
                f"{budget}; raise the budget or use separators='thin'"
            )
        kept = in_all
    elif separators == "drop" or in_all == 0:
        kept = 0
    elif layout.trailing_separator:
        kept = int(budget >= 2)
    else:
        kept = half_up(Fraction(budget * in_all, total))
    budget = min(budget, kept + total - in_all)  # without separators there may be too few tokens
    share = float(ratio) if ratio is not None else budget / max(total, 1)
    return VisualBudget(total, budget, kept, share, policy, keep_separators=separators == "keep")


def tokens_to_keep(layout: Layout, budget: VisualBudget) -> int:
    """Return the number of tokens that a budget allows, separators not counted; `exact` methods keep exactly as many.

    Under `reference` the authors' budget is a share of the tokens alone, so it is R of them (half up, at least
    one) and the separators come on top.
    """
    if budget.policy == "exact":
        return budget.tokens
    if budget.positions == 0:
        return 0
    whole = layout.full_length - layout.num_separators
    return min(whole, max(1, half_up(ratio_fraction(budget.ratio) * whole)))

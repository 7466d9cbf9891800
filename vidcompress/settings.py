"""How to compress: the arguments of the public functions, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .budget import POLICIES, SEPARATORS, Budget, Policy, Separators
from .checks import is_whole, one_of
from .errors import ArgumentError, shown
from .methods.base import POSITIONS, Method, Positions
from .methods.lookup import get_method
from .report import Report
from .saving import Saving, read_saving


@dataclass(frozen=True)
class Settings:
    """How to compress; see `compress_inputs` for the meaning of each field."""

    method: Method
    budget: Budget
    separators: Separators
    positions: Positions
    policy: Policy
    max_views: int
    inside_positions: Positions = "original"
    saving: Saving = Saving()

    def report(self) -> Report:
        """An empty report that states these settings."""
        ratio = self.budget.ratio
        return Report(
            self.method.name,
            self.policy,
            self.separators,
            self.inside_positions if self.method.inside is self.method else self.positions,
            None if ratio is None else float(ratio),
            None if self.budget.max_tokens is None else int(self.budget.max_tokens),
        )


def make_settings(
    method: str | Method = "globalcom2",
    *,
    retention_ratio: float | str | Fraction | None = None,
    max_tokens: int | None = None,
    separators: Separators | None = None,
    positions: Positions | None = None,
    policy: Policy = "exact",
    max_views: int = 16,
    encoder_saving: str | Saving = "off",
    **options: Any,
) -> Settings:
    """Check the arguments of `compress_inputs` and `compress`, and fill in what depends on the method.

    Raises:
        ArgumentError, BudgetError: as described in `compress_inputs`.
    """
    chosen: Method = get_method(method, **options)
    if chosen.name == "none" and retention_ratio is None and max_tokens is None:
        retention_ratio = 1
    budget = Budget(retention_ratio, max_tokens)
    one_of("policy", policy, POLICIES)
    if policy == "reference" and max_tokens is not None:
        raise ArgumentError(
            f"max_tokens={max_tokens} cannot go with policy='reference': the authors' code knows shares only and "
            "sends every separator on top; use retention_ratio, or policy='exact'"
        )
    _check_inside(chosen, separators, policy)
    given = positions
    separators = separators if separators is not None else ("keep" if policy == "reference" else "thin")
    one_of("separators", separators, SEPARATORS)
    if positions is None:
        # Nothing is left out of the prompt by a method inside the model, so it needs no positions of ours.
        positions = "contiguous" if chosen.inside is chosen else chosen.positions
    one_of("positions", positions, POSITIONS)
    if not is_whole(max_views) or max_views < 1:
        raise ArgumentError(f"max_views must be an integer of at least 1, got {shown(max_views)}")
    inside = given or (chosen.inside.positions if chosen.inside is not None else positions)
    return Settings(
        chosen, budget, separators, positions, policy, int(max_views), inside, read_saving(encoder_saving)
    )


def _check_inside(method: Method, separators: str | None, policy: str) -> None:
    """Refuse what means nothing to a method inside the language model."""
    if method.inside is None:
        return
    if method.inside is not method and policy == "reference":
        raise ArgumentError(
            f"policy='reference' names the counts of one method's authors, and {method.name!r} is two methods; use "
            "policy='exact'"
        )
    if method.inside is method and separators is not None:
        raise ArgumentError(
            f"separators={shown(separators)} cannot go with method {method.name!r}: inside the language model newline "
            "tokens are ranked like any other; leave it out"
        )

"""How to compress: the arguments of the public functions, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vidcompress.checks import is_number, is_whole, one_of
from vidcompress.core.budget import POLICIES, SEPARATORS, Budget, Policy, Separators
from vidcompress.core.method import POSITIONS, Method, Positions
from vidcompress.core.method_spec import get_method, read_value
from vidcompress.core.report import Report
from vidcompress.errors import ArgumentError, shown

THRESHOLD = 0.15  # of pixel_values: 19 grey levels where the processor divides by a deviation of 0.5
AREA = 0.01


@dataclass(frozen=True)
class ViewSkipping:
    """What the encoder may be spared.

    Attributes:
        frames: frames that look like an earlier one are not encoded.
        crops: crops that the method would give nothing, by the thumbnail alone, are not encoded.
        threshold: how much a cell of 8 x 8 pixels may change, in units of `pixel_values`, before it counts as changed.
        area: share of the cells, 0 to 1, that may change before a frame counts as new.

    Raises:
        ArgumentError: a threshold below 0, or an area that is no share.
    """

    frames: bool = False
    crops: bool = False
    threshold: float = THRESHOLD
    area: float = AREA

    def __post_init__(self) -> None:
        for name, most in (("threshold", math.inf), ("area", 1.0)):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value <= most:
                raise ArgumentError(
                    f"{name}={shown(value)}: must be a number from 0" + (" to 1" if name == "area" else "")
                )


def read_view_skipping(value: Any) -> ViewSkipping:
    """The argument `encoder_saving`: `off`, `frames`, `crops` or `frames+crops`; `frames:THRESHOLD:AREA` sets both.

    Raises:
        ArgumentError: anything else.
    """
    if isinstance(value, ViewSkipping):
        return value
    kinds, *numbers = value.split(":") if isinstance(value, str) else ("",)
    names = kinds.split("+")
    known = names == ["off"] or (set(names) <= {"frames", "crops"} and len(names) == len(set(names)))
    read = [read_value(text) for text in numbers]
    limits = (math.inf, 1.0)
    if (
        not known
        or len(read) > (2 if "frames" in names else 0)
        or not all(
            is_number(number) and 0 <= number <= limit for number, limit in zip(read, limits, strict=False)
        )
    ):
        raise ArgumentError(
            f"encoder_saving={shown(value)}: must be 'off', 'frames', 'crops' or 'frames+crops'; 'frames:0.2:0.05' "
            "lets 5 % of the picture change by more than 0.2 (of pixel_values) before a frame counts as new"
        )
    return ViewSkipping("frames" in names, "crops" in names, *map(float, read))


@dataclass(frozen=True)
class CompressionConfig:
    """How to compress; see `compress_inputs` for the meaning of each field."""

    method: Method
    budget: Budget
    separators: Separators
    positions: Positions
    policy: Policy
    max_views: int
    inside_positions: Positions = "original"
    saving: ViewSkipping = ViewSkipping()

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
    method: Method,
    *,
    retention_ratio: float | str | Fraction | None = None,
    max_tokens: int | None = None,
    separators: Separators | None = None,
    positions: Positions | None = None,
    policy: Policy = "exact",
    max_views: int = 16,
    encoder_saving: str | ViewSkipping = "off",
) -> CompressionConfig:
    """Check the arguments of `compress_inputs` and `compress`, and fill in what depends on the method.

    Args:
        method: with its options; `core.method_spec.get_method` makes one of a name, `read_settings` does both.
        retention_ratio, max_tokens, separators, positions, policy, max_views, encoder_saving: as in `compress_inputs`.

    Raises:
        ArgumentError, BudgetError: as described in `compress_inputs`.
    """
    if method.name == "none" and retention_ratio is None and max_tokens is None:
        retention_ratio = 1
    budget = Budget(retention_ratio, max_tokens)
    one_of("policy", policy, POLICIES)
    if policy == "reference" and max_tokens is not None:
        raise ArgumentError(
            f"max_tokens={max_tokens} cannot go with policy='reference': the authors' code knows shares only and "
            "sends every separator on top; use retention_ratio, or policy='exact'"
        )
    _check_inside(method, separators, policy)
    given = positions
    separators = separators if separators is not None else ("keep" if policy == "reference" else "thin")
    one_of("separators", separators, SEPARATORS)
    if positions is None:
        # Nothing is left out of the prompt by a method inside the model, so it needs no positions of ours.
        positions = "contiguous" if method.inside is method else method.positions
    one_of("positions", positions, POSITIONS)
    if not is_whole(max_views) or max_views < 1:
        raise ArgumentError(f"max_views must be an integer of at least 1, got {shown(max_views)}")
    inside = given or (method.inside.positions if method.inside is not None else positions)
    return CompressionConfig(
        method,
        budget,
        separators,
        positions,
        policy,
        int(max_views),
        inside,
        read_view_skipping(encoder_saving),
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


def read_settings(method: Any = "globalcom2", **arguments: Any) -> CompressionConfig:
    """CompressionConfig from a method's name or instance, the arguments of `compress_inputs` and the method's options.

    Args:
        method: as in `compress_inputs`.
        **arguments: those of `make_settings`; every other one is an option of the method.

    Raises:
        ArgumentError, BudgetError: as described in `compress_inputs`.
    """
    own = make_settings.__kwdefaults__ or {}
    options = {name: value for name, value in arguments.items() if name not in own}
    chosen = get_method(method, **options)
    return make_settings(chosen, **{name: value for name, value in arguments.items() if name in own})

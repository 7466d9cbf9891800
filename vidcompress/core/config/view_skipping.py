"""Argument `encoder_saving`: views of a picture or clip that are not encoded."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from vidcompress.checks import flag, is_number
from vidcompress.core.method_spec import parse_method_spec
from vidcompress.errors import ArgumentError, shown

NUMBERS = {"threshold": 0.15, "area": 0.01}
"""Defaults: 0.15 of pixel_values are 19 grey levels where the processor divides by a deviation of 0.5."""


@dataclass(frozen=True)
class ViewSkipping:
    """View skipping: the views that are not encoded.

    Attributes:
        frames: frames that look like one of the last 128 frames that were new are not encoded.
        crops: crops to which the method gives no tokens, by the thumbnail alone, are not encoded.
        threshold: largest change of a cell of 8 x 8 pixels that does not count, in units of `pixel_values`.
        area: share of the cells, 0 to 1, that may change before a frame counts as new.

    Raises:
        ArgumentError: a kind that is neither True nor False, a threshold below 0, or an area that is no share.
    """

    frames: bool = False
    crops: bool = False
    threshold: float = NUMBERS["threshold"]
    area: float = NUMBERS["area"]

    def __post_init__(self) -> None:
        flag("frames", self.frames)
        flag("crops", self.crops)
        for name, most in (("threshold", math.inf), ("area", 1.0)):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value <= most:
                raise ArgumentError(
                    f"{name}={shown(value)}: must be a number from 0" + (" to 1" if name == "area" else "")
                )

    def __str__(self) -> str:
        """Text for `read_view_skipping`: `frames+crops:threshold=0.2`; numbers only where they have an effect."""
        kinds = "+".join(name for name in ("frames", "crops") if getattr(self, name)) or "off"
        numbers = {name: float(getattr(self, name)) for name in NUMBERS if self.frames}
        listed = [f"{name}={value}" for name, value in numbers.items() if value != NUMBERS[name]]
        return f"{kinds}:{','.join(listed)}" if listed else kinds


EncoderSaving: TypeAlias = Literal["off", "frames", "crops", "frames+crops"] | str | ViewSkipping
"""The argument `encoder_saving`; a text states numbers as a method's options, as in "frames:threshold=0.2"."""


def read_view_skipping(value: Any) -> ViewSkipping:
    """Read `encoder_saving`: `off`, `frames`, `crops` or `frames+crops`, or a `ViewSkipping`.

    Behind `frames` a colon may follow, with `threshold` and `area` in the form of a method spec.

    Raises:
        ArgumentError: anything else.
    """
    if isinstance(value, ViewSkipping):
        plain = ViewSkipping(crops=value.crops)  # without frames the numbers mean nothing
        return value if value.frames or value == plain else plain
    kinds = value if isinstance(value, str) else ""
    numbers: dict[str, Any] = {}
    if ":" in kinds:
        with suppress(ArgumentError):
            kinds, numbers = parse_method_spec(kinds)
    names = kinds.split("+")
    allowed = names == ["off"] or (set(names) <= {"frames", "crops"} and len(names) == len(set(names)))
    if not allowed or not set(numbers) <= (set(NUMBERS) if "frames" in names else set()):
        raise ArgumentError(
            f"encoder_saving={shown(value)}: must be 'off', 'frames', 'crops' or 'frames+crops'; "
            "'frames:threshold=0.2,area=0.05' lets 5 % of the picture change by more than 0.2 (of pixel_values) before "
            "a frame counts as new"
        )
    return ViewSkipping("frames" in names, "crops" in names, **numbers)

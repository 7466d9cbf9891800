"""The argument `encoder_saving`: which views of a picture or clip the encoder is spared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from vidcompress.checks import is_number
from vidcompress.core.method_spec import read_value
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

    def __str__(self) -> str:
        """The text that `read_view_skipping` reads: `frames+crops:0.2:0.05`; the numbers only where they matter."""
        kinds = "+".join(name for name in ("frames", "crops") if getattr(self, name)) or "off"
        numbers = (float(self.threshold), float(self.area))
        return (
            kinds if not self.frames or numbers == (THRESHOLD, AREA) else f"{kinds}:{numbers[0]}:{numbers[1]}"
        )


EncoderSaving: TypeAlias = Literal["off", "frames", "crops", "frames+crops"] | str | ViewSkipping
"""The argument `encoder_saving`; a text may also state the numbers, as in "frames:0.2:0.05"."""


def read_view_skipping(value: Any) -> ViewSkipping:
    """The argument `encoder_saving`: `off`, `frames`, `crops` or `frames+crops`; `frames:THRESHOLD:AREA` sets both.

    Raises:
        ArgumentError: anything else.
    """
    if isinstance(value, ViewSkipping):
        value = str(value)  # without numbers that say nothing
    kinds, *numbers = value.split(":") if isinstance(value, str) else ("",)
    names = kinds.split("+")
    allowed = names == ["off"] or (set(names) <= {"frames", "crops"} and len(names) == len(set(names)))
    read = [read_value(text) for text in numbers]
    limits = (math.inf, 1.0)
    if (
        not allowed
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

"""Rows of a benchmark, one per method and budget, and their workloads."""

from __future__ import annotations

from dataclasses import dataclass, field

from vidcompress.core.layout import Modality
from vidcompress.qa.compare.grid import Variant


@dataclass(frozen=True)
class Workload:
    """Workload: one kind of input.

    Attributes:
        modality: `image` or `video`.
        size: (height, width) of the image in pixels, or None.
        frames: of the clip, or 0.
    """

    modality: Modality
    size: tuple[int, int] | None = None
    frames: int = 0

    @property
    def name(self) -> str:
        """Name, such as `image 672x672` (width x height) or `32 frames`."""
        if self.size is None:
            return f"{self.frames} frame{'s' * (self.frames > 1)}"
        return f"image {self.size[1]}x{self.size[0]}"


@dataclass(frozen=True)
class BenchRow:
    """Row of the table: a method at a budget, or the stock model.

    Attributes:
        label: the method as the caller named it.
        budget: `1`, `0.25`, or `128 tokens`.
        variant: the method at its budget; None for the stock model.
    """

    label: str
    budget: str
    variant: Variant | None = field(repr=False)

    @property
    def key(self) -> str:
        """Name of the row within its group."""
        return f"{self.label}@{self.budget}"

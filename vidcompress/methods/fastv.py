"""FastV (arXiv 2403.06764): drop, after layer K, the visual tokens that the last token attends to least."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from torch import Tensor

from vidcompress.checks import require_numbers
from vidcompress.core.budget import ratio_fraction
from vidcompress.core.method import Positions, register_method
from vidcompress.core.pruning.method import Between, InLLMMethod, visual_attention
from vidcompress.errors import ArgumentError


@register_method
@dataclass(frozen=True)
class FastV(InLLMMethod):
    """The visual tokens of most attention from the last token in layer K - 1, averaged over heads; K is 2 of 32.

    Attributes:
        schedule: see `InLLMMethod`.
        depth: K as a share of the layers, above 0 and below 1.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "fastv"
    summary: ClassVar[str] = "inside, from layer 2 of 32: tokens that the last token attends to are kept"
    positions: ClassVar[Positions] = "original"
    source: ClassVar = "previous"
    asks: ClassVar = "last"
    depths = property(lambda self: (ratio_fraction(self.depth),))
    usual = property(lambda self: (1 + ratio_fraction(self.depth)) / 2)

    depth: float = 0.0625

    def __post_init__(self) -> None:
        super().__post_init__()
        require_numbers(depth=self.depth)
        if not 0 < self.depth < 1:
            raise ArgumentError(
                f"depth must be a number above 0 and below 1, got {self.depth!r}; the authors' 2 of 32 layers is 0.0625"
            )

    def counts(self, total: int, level: Fraction) -> list[int]:
        """Return the count of the one stage, between one token and all."""
        return [max(1, int(total * level))]

    def reference_counts(self, total: int, ratio: Fraction) -> list[int]:
        """Return the share R of the tokens, rounded half to even; it stays behind layer K, and all tokens before."""
        return [round(total * ratio)]

    def score(self, between: Between) -> Tensor:
        """Return the attention of the last token, averaged over heads."""
        return visual_attention(between)

"""PyramidDrop (arXiv 2410.17247): drop visual tokens of low attention in stages through the depth."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from torch import Tensor

from vidcompress.core.method import Positions, register_method
from vidcompress.core.pruning.method import Between, InLLMMethod, visual_attention


@register_method
@dataclass(frozen=True)
class PDrop(InLLMMethod):
    """The visual tokens of most attention from the last prompt token, in stages before layers 8, 16 and 24 of 32.

    Each stage computes attention by the next layer's weights. N lambda^s of N tokens stay behind stage s. The authors'
    lambda is 1/2; the budget sets it here.

    Attributes:
        schedule: see `InLLMMethod`.
    """

    name: ClassVar[str] = "pdrop"
    summary: ClassVar[str] = (
        "inside, at layers 8, 16 and 24 of 32: a pyramid of what the last token attends to"
    )
    positions: ClassVar[Positions] = "contiguous"
    source: ClassVar = "next"
    asks: ClassVar = "last"
    depths: ClassVar[tuple[Fraction, ...]] = (Fraction(8, 32), Fraction(16, 32), Fraction(24, 32))
    usual: ClassVar[Fraction] = Fraction(15, 32)

    def counts(self, total: int, level: Fraction) -> list[int]:
        """Return a geometric series of counts, each stage relative to all tokens, at least one."""
        return [max(1, int(total * level**stage)) for stage in range(1, len(self.depths) + 1)]

    def reference_counts(self, total: int, ratio: Fraction) -> list[int]:
        """Return a half, a quarter and an eighth of all tokens, rounded down, whatever the ratio."""
        return [int(total * Fraction(1, 2**stage)) for stage in range(1, len(self.depths) + 1)]

    def score(self, between: Between) -> Tensor:
        """Return the attention of the last token, averaged over heads."""
        return visual_attention(between)

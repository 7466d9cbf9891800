"""PyramidDrop: in stages through the depth, visual tokens of low attention are left out (arXiv 2410.17247)."""

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
    """Before layers 8, 16 and 24 of 32, ranks by what the last prompt token attends to under the next layer's weights.

    Behind stage s, N lambda^s of N tokens stay. The authors' lambda is a half; a budget chooses another.

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
        """A geometric pyramid, each stage relative to all tokens, never fewer than one."""
        return [max(1, int(total * level**stage)) for stage in range(1, len(self.depths) + 1)]

    def reference_counts(self, total: int, ratio: Fraction) -> list[int]:
        """A half, a quarter and an eighth of all tokens, rounded down, whatever the ratio."""
        return [int(total * Fraction(1, 2**stage)) for stage in range(1, len(self.depths) + 1)]

    def score(self, between: Between) -> Tensor:
        """Head-mean attention of the last token."""
        return visual_attention(between)

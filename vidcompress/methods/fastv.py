"""FastV: after the K-th layer, visual tokens that the last token attends to least are left out (arXiv 2403.06764)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from torch import Tensor

from vidcompress.core.method import Positions, register_method
from vidcompress.core.pruning.method import Between, InLLMMethod, visual_attention


@register_method
@dataclass(frozen=True)
class FastV(InLLMMethod):
    """Ranks by the head-mean attention of the last token in layer K - 1; K is 2 of 32 layers.

    Attributes:
        schedule: see `InLLMMethod`.
    """

    name: ClassVar[str] = "fastv"
    summary: ClassVar[str] = "inside, from layer 2 of 32: tokens that the last token attends to are kept"
    positions: ClassVar[Positions] = "original"
    source: ClassVar = "previous"
    asks: ClassVar = "last"
    depths: ClassVar[tuple[Fraction, ...]] = (Fraction(2, 32),)
    usual: ClassVar[Fraction] = Fraction(17, 32)

    def counts(self, total: int, level: Fraction) -> list[int]:
        """One stage that keeps between one token and all."""
        return [max(1, int(total * level))]

    def reference_counts(self, total: int, ratio: Fraction) -> list[int]:
        """The share R of the tokens stays behind layer K, rounded half to even: the layers before are on top."""
        return [round(total * ratio)]

    def score(self, between: Between) -> Tensor:
        """Head-mean attention of the last token."""
        return visual_attention(between)

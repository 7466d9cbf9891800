"""FastV (arXiv 2403.06764): drop, after layer K, the visual tokens that the last token attends to least."""

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
    """The visual tokens of most attention from the last token in layer K - 1, averaged over heads; K is 2 of 32.

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
        """Return the count of the one stage, between one token and all."""
        return [max(1, int(total * level))]

    def reference_counts(self, total: int, ratio: Fraction) -> list[int]:
        """Return the share R of the tokens, rounded half to even; it stays behind layer K, and all tokens before."""
        return [round(total * ratio)]

    def score(self, between: Between) -> Tensor:
        """Return the attention of the last token, averaged over heads."""
        return visual_attention(between)

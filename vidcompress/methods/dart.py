"""DART (arXiv 2502.11494): drop, after layer K, the visual tokens that repeat a few pivots.

Formulas from the paper and its code (ZichenWen1/DART; copy read at xqy1111111/DART @ 0247657).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.checks import is_whole
from vidcompress.core.method import Positions, register_method
from vidcompress.core.pruning.method import Between, InLLMMethod
from vidcompress.errors import ArgumentError, shown
from vidcompress.ops.merging import cosines

PIVOT, KEPT = 2.0, 1.0


@register_method
@dataclass(frozen=True)
class Dart(InLLMMethod):
    """Pivots of the largest keys, and for each pivot the visual tokens that are least like it; K is 2 of 32.

    Attributes:
        schedule: see `InLLMMethod`.
        image_pivots: visual tokens of the largest L1 norm of their keys in layer K - 1, which stay; at least 1.
        text_pivots: text tokens behind the last visual one, likewise; at least 0.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "dart"
    summary: ClassVar[str] = "inside, from layer 2 of 32: tokens least like a few pivots are kept"
    positions: ClassVar[Positions] = "original"
    source: ClassVar = "previous"
    reads: ClassVar = "keys"
    asks: ClassVar = "text"
    depths: ClassVar[tuple[Fraction, ...]] = (Fraction(2, 32),)
    usual: ClassVar[Fraction] = Fraction(17, 32)

    image_pivots: int = 4
    text_pivots: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("image_pivots", 1), ("text_pivots", 0)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise ArgumentError(
                    f"{name} must be an integer of at least {least}, got {shown(value)}; the authors use 4"
                )

    def counts(self, total: int, level: Fraction) -> list[int]:
        """Return the count of the one stage, between one token and all."""
        return [max(1, int(total * level))]

    def reference_counts(self, total: int, ratio: Fraction) -> list[int]:
        """Return the authors' count: the pivots, and int(int(R N) / pivots) tokens for each pivot of image and text."""
        pivots = int(self.image_pivots) + int(self.text_pivots)
        return [min(total, int(self.image_pivots) + pivots * (int(total * ratio) // pivots))]

    def score(self, between: Between) -> Tensor:
        """Return 2 for the pivots, 1 for the tokens that stay for their sake, 0 for all others."""
        visual, counts = between.visual, torch.tensor(between.counts, device="cpu").to(between.hidden.device)
        norms = between.keys.abs().sum(-1) if between.keys is not None else between.hidden.abs().sum(-1)
        asked = torch.zeros_like(visual)
        asked[:, visual.shape[1] - between.weights.shape[1] :] = between.weights > 0
        image = _largest(norms, visual, torch.minimum(visual.sum(1), counts), int(self.image_pivots))
        text = _largest(norms, asked, asked.sum(1), int(self.text_pivots))
        column, live = (torch.cat(parts, 1) for parts in zip(image, text, strict=True))
        pivot = torch.zeros_like(visual).scatter_reduce(1, image[0], image[1], "amax")
        left = (counts - image[1].sum(1))[:, None]
        several = live.sum(1, keepdim=True).clamp(min=1)
        # Each pivot has the same number of tokens, the first ones one more.
        share = (left // several + (live.cumsum(1) <= left % several)) * live
        states = between.hidden.float()
        chosen = states.gather(1, column[:, :, None].expand(-1, -1, states.shape[2]))
        unlike = -cosines(chosen, states)
        free = visual & ~pivot
        kept = torch.zeros_like(visual)
        for number in range(column.shape[1]):
            worth = unlike[:, number].masked_fill(~(free & ~kept), -torch.inf)
            order = worth.argsort(dim=1, descending=True, stable=True)
            first = torch.arange(order.shape[1], device=order.device) < share[:, number, None]
            kept = kept | torch.zeros_like(kept).scatter(1, order, first)
        return PIVOT * pivot + KEPT * (kept & free)


def _largest(values: Tensor, among: Tensor, most: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the columns (b, c) of the largest values (b, n) among some, ties to the earlier, and which exist.

    Args:
        values: (b, n).
        among: (b, n) bool.
        most: (b,) int64, number of columns of each row at most.
        count: c at most.
    """
    clean = torch.nan_to_num(values, nan=0.0, posinf=0.0)
    order = clean.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :count]
    return order, torch.arange(order.shape[1], device=order.device) < most[:, None]

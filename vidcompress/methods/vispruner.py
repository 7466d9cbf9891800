"""VisPruner (arXiv 2412.01818v2, ICCV 2025): tokens of most CLS attention, and others that repeat one another least.

Formulas from the paper and its code (Theia-4869/VisPruner @ a089bff).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.checks import require_numbers
from vidcompress.core.batch import VisualBatch, evidence_of
from vidcompress.core.budget import VisualBudget, ratio_fraction
from vidcompress.core.layout import Modality
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.reductions import full_precision, per_view, rank_table, rows_per_block
from vidcompress.core.selection import Selection, with_separators
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError
from vidcompress.ops.attention_scores import (
    Layer,
    attention_of,
    attention_wanted,
    require_layer,
    shares,
)
from vidcompress.ops.merging import cosines, side_by_side

HIDDEN = Evidence("hidden", "features")
AT_ONCE = 8
"""Tokens that a round drops at most, the authors'."""


@register_method
@dataclass(frozen=True)
class VisPruner(PerVisualMethod):
    """The tokens of most CLS attention of each view, and of the others those that are left when duplicates are dropped.

    Without a CLS token the attention that a token receives ranks instead.

    Attributes:
        important_share: share of a view's budget for tokens of most attention, 0 to 1.
        layer: encoder layer of the attention; `features` is the layer whose output the projector reads.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "vispruner"
    summary: ClassVar[str] = (
        "of each view the tokens of most CLS attention, and others that repeat none; half of each"
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    compares: ClassVar = "views"
    sequential: ClassVar[bool] = True

    important_share: float = 0.5
    layer: Layer = "features"

    def __post_init__(self) -> None:
        require_numbers(important_share=self.important_share)
        if not 0 <= self.important_share <= 1:
            raise ArgumentError(
                f"important_share must be a number from 0 to 1, got {self.important_share!r}; the authors use 0.5"
            )
        require_layer(layer=self.layer)

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """Attention of one layer, and the projector's input, whose cosines are compared."""
        return (*attention_wanted(self.name, self.layer, has_cls), HIDDEN)

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return False: attention and the projector's input choose the tokens."""
        return False

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Choose of every view, many views at once, and add separators; in sequence order."""
        layout, attention = tokens.layout, attention_of(VisualBatch([tokens]), self.layer)
        total, part = shares(layout, budget), ratio_fraction(self.important_share)
        plan = [
            (size, int(part * count), count - int(part * count))
            for size, count in zip(layout.sizes, total, strict=True)
        ]
        table, order = layout.table, torch.argsort(rank_table(attention, layout), dim=1, stable=True)
        broken = per_view(attention, layout, 0.0).isnan()
        # Where pooling comes after the projector, an adapter may leave its input out; then features are there already.
        hidden = evidence_of(tokens, HIDDEN) if HIDDEN in tokens.evidence else tokens.features
        kept = table.new_full((sum(total),), len(layout))
        step = rows_per_block(hidden, table.shape[1] * (hidden.shape[1] + 2 * table.shape[1]))
        with full_precision(hidden):
            if sum(total):
                masks = []
                for rows in (slice(start, start + step) for start in range(0, len(plan), step)):
                    x = side_by_side(hidden, table[rows])
                    masks.append(distinct(cosines(x, x), order[rows], broken[rows], plan[rows]))
                kept = torch.where(torch.cat(masks), table, len(layout)).flatten().sort().values[: sum(total)]
        return Selection(with_separators(layout, kept, budget.separators), scores=attention)


def distinct(alike: Tensor, order: Tensor, broken: Tensor, plan: list[tuple[int, int, int]]) -> Tensor:
    """Return (V, L) bool, the tokens of each view that stay.

    The tokens behind the important ones stand in a row, the best first. In each round those at even places are compared
    with those at odd places; the (at most eight) even ones most like any odd one are dropped. The row goes on with the
    even ones left, most alike first, and the odd ones.

    Args:
        alike: (V, L, L) cosines.
        order: (V, L) int64, columns of each view, best first, then columns behind its tokens.
        broken: (V, L) bool, tokens to drop first: they stand in front, and are as like to all others as can be.
        plan: of each view its tokens, the important ones, and the others to keep.
    """
    width = order.shape[1]
    column = torch.arange(width, device=order.device)
    _, first, others = _on(zip(*plan, strict=True), order.device)
    mask = torch.zeros_like(order, dtype=torch.bool).scatter(1, order, column < first)
    row = order.gather(1, (column + first).clamp(max=width - 1))
    ahead = broken.gather(1, row) & (column + first < width)
    row = row.gather(1, torch.argsort((~ahead).to(torch.int8), dim=1, stable=True))
    for have, fewer in _rounds(plan):
        left, dropped = _on((have, fewer), order.device)
        row = row[:, : max(have)]
        even, odd = row[:, ::2], row[:, 1::2]
        even_place, odd_place = column[: row.shape[1] : 2], column[1 : row.shape[1] : 2]
        most = alike.new_full(even.shape, -torch.inf)
        if odd.shape[1]:
            pairs = alike.gather(1, even[:, :, None].expand(-1, -1, width))
            pairs = pairs.gather(2, odd[:, None].expand(-1, even.shape[1], -1))
            most = pairs.masked_fill((odd_place >= left)[:, None], -torch.inf).amax(2)
        most = most.masked_fill(broken.gather(1, even), torch.inf).masked_fill(even_place >= left, -torch.inf)
        rank = torch.argsort(torch.argsort(most, dim=1, descending=True, stable=True), dim=1, stable=True)
        gone = torch.cat((rank < dropped, torch.zeros_like(odd, dtype=torch.bool)), 1)
        place = torch.cat((even_place, odd_place)).expand_as(gone)
        key = torch.cat((rank, width + odd_place.expand_as(odd)), 1)
        key = torch.where(gone | (place >= left), 2 * width, key)
        row = torch.cat((even, odd), 1).gather(1, torch.argsort(key, dim=1, stable=True))
    return mask.scatter_reduce(1, row, column[: row.shape[1]] < others, "amax")


def _on(numbers: Iterable[Sequence[int]], device: torch.device) -> list[Tensor]:
    """Return lists of a number for each view as columns (V, 1) on a device."""
    return list(torch.tensor(list(numbers), dtype=torch.int64, device="cpu").to(device)[:, :, None])


def _rounds(plan: list[tuple[int, int, int]]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield for each round the tokens left of each view, and how many of these are dropped."""
    left = [size - first for size, first, _ in plan]
    while True:
        dropped = [
            min(AT_ONCE, have - keep, (have + 1) // 2) for have, (_, _, keep) in zip(left, plan, strict=True)
        ]
        if not any(count > 0 for count in dropped):
            return
        yield left, dropped
        left = [have - count for have, count in zip(left, dropped, strict=True)]

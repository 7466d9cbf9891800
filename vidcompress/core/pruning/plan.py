"""Pruning plan of one call inside the language model: columns of visual tokens, and the schedule of each row."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from vidcompress.core.pruning.method import InLLMMethod
from vidcompress.core.pruning.schedule import Schedule


@dataclass(eq=False)
class PruningPlan:
    """Pruning plan of one call.

    Attributes:
        method: the method that ranks the tokens.
        lengths: tokens of each row of the shortened prompt, padding on the left.
        columns: for each row the columns of every visual in the shortened, padded prompt: (K,) int64 on the CPU,
            ascending, in order.
        ends: for each row the column behind its last visual token; the width where it has none.
        schedules: one per row; without stages for a row that has nothing to prune.
        budgets: visual tokens wanted of each row, on average over the layers' inputs.
        contiguous: whether positions are renumbered in each layer.
        separators: for each row and visual a (K,) bool, separators among its columns.
        outcome: columns that were kept; filled by each prefill, read by reports.
    """

    method: InLLMMethod
    lengths: list[int]
    columns: list[list[Tensor]]
    ends: list[int]
    schedules: list[Schedule]
    budgets: list[int]
    contiguous: bool
    separators: list[list[Tensor]]
    outcome: PruningOutcome = field(default_factory=lambda: PruningOutcome())

    @property
    def width(self) -> int:
        """C, columns of the shortened prompt."""
        return max(self.lengths)

    @cached_property
    def real(self) -> Tensor:
        """(row, C) bool, on the CPU: False at padding."""
        width = max(self.lengths)
        return torch.arange(width, device="cpu") >= width - torch.tensor(self.lengths, device="cpu")[:, None]

    @cached_property
    def texts(self) -> list[int]:
        """Tokens of each row that are not visual."""
        return [n - sum(map(len, visuals)) for n, visuals in zip(self.lengths, self.columns, strict=True)]

    @cached_property
    def layers(self) -> list[int]:
        """Layers at which any row loses tokens, ascending."""
        return sorted({stage.layer for schedule in self.schedules for stage in schedule.stages})

    @cached_property
    def visual(self) -> Tensor:
        """(row, C) bool, on the CPU."""
        flags = torch.zeros_like(self.real)
        for row, visuals in enumerate(self.columns):
            for columns in visuals:
                flags[row].index_fill_(0, columns, True)
        return flags

    @cached_property
    def owner(self) -> Tensor:
        """(row, C) int64, on the CPU: number in its row of the visual that a token belongs to; -1 for text and
        separators, which hand on and inherit no mass."""
        owner = torch.full(self.real.shape, -1, device="cpu")
        for row, visuals in enumerate(self.columns):
            for number, columns in enumerate(visuals):
                separators = self.separators[row][number].cpu()
                owner[row].index_copy_(
                    0, columns, owner.new_full(columns.shape, number).masked_fill(separators, -1)
                )
        return owner

    def tokens_in(self, layer: int) -> list[int]:
        """For each row the visual tokens that `layer` takes in."""
        return [sum(pair) for pair in self.tokens_from(layer)]

    def tokens_from(self, layer: int) -> list[tuple[int, int]]:
        """For each row the visual tokens (kept, merged) that `layer` takes in."""
        counts = []
        for schedule in self.schedules:
            now = (schedule.total, 0)
            for stage in schedule.stages:
                now = (stage.kept, stage.merged) if stage.layer <= layer else now
            counts.append(now)
        return counts


@dataclass(eq=False)
class PruningOutcome:
    """Outcome of the latest prefill.

    Attributes:
        kept: for each layer of `PruningPlan.layers` a (row, C) bool, on the device: columns still there; a merged token
            counts at its centre.
    """

    kept: dict[int, Tensor] = field(default_factory=dict)

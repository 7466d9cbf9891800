"""What is left out inside the language model in one call: where visual tokens stand, and the schedule of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from vidcompress.core.pruning.method import InLLMMethod
from vidcompress.core.pruning.schedule import Schedule

Spans = Sequence[tuple[int, int]]
"""(start, length) of the visual inputs of one row, columns of the padded prompt, in order."""


@dataclass(eq=False)
class PruningPlan:
    """One call's pruning.

    Attributes:
        method: what ranks the tokens.
        lengths: tokens of each row of the shortened prompt, padding on the left.
        spans: visual columns of each row.
        schedules: of each row; without stages for a row that has nothing to prune.
        budgets: visual tokens wanted of each row, on average over the layers' inputs.
        contiguous: whether positions are renumbered in each layer.
        outcome: what became of it; filled by each prefill, read by reports.
    """

    method: InLLMMethod
    lengths: list[int]
    spans: list[Spans]
    schedules: list[Schedule]
    budgets: list[int]
    contiguous: bool
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
        return [
            n - sum(length for _, length in spans) for n, spans in zip(self.lengths, self.spans, strict=True)
        ]

    @cached_property
    def layers(self) -> list[int]:
        """Layers at which any row loses tokens, ascending."""
        return sorted({stage.layer for schedule in self.schedules for stage in schedule.stages})

    @cached_property
    def visual(self) -> Tensor:
        """(row, C) bool, on the CPU."""
        flags = torch.zeros_like(self.real)
        for row, spans in enumerate(self.spans):
            for start, length in spans:
                flags[row, start : start + length] = True
        return flags

    @cached_property
    def ends(self) -> list[int]:
        """For each row the column behind its last visual token; the width where it has none."""
        width = self.real.shape[1]
        return [max((start + length for start, length in spans), default=width) for spans in self.spans]

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
    """What the latest prefill kept.

    Attributes:
        kept: for each layer of `PruningPlan.layers` a (row, C) bool, on the device: columns still there; a merged token
            counts at its centre.
    """

    kept: dict[int, Tensor] = field(default_factory=dict)

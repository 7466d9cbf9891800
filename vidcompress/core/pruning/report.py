"""Report of pruning inside the language model: requested and realised counts, per layer and per view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vidcompress.core.pruning.plan import PruningPlan


class PruningReport:
    """Visual tokens from layer to layer. Counts per row are known before the run; the tokens themselves only after it.

    Args:
        plan: of the call.
        row: one prompt of the batch, or None for all.
    """

    def __init__(self, plan: PruningPlan, row: int | None = None) -> None:
        self._plan = plan
        self._rows = list(range(len(plan.schedules))) if row is None else [row]

    @property
    def method(self) -> str:
        """Name of the method inside."""
        return self._plan.method.name

    @property
    def per_layer(self) -> list[int]:
        """Visual tokens that each layer takes in, all rows together."""
        counts = [self._plan.schedules[row].per_layer() for row in self._rows]
        return [sum(layer) for layer in zip(*counts, strict=True)]

    @property
    def requested(self) -> int:
        """Visual tokens wanted on average over the layers' inputs."""
        return sum(self._plan.budgets[row] for row in self._rows)

    @property
    def mean(self) -> float:
        """Visual tokens averaged over the layers' inputs."""
        layers = self.per_layer
        return sum(layers) / max(len(layers), 1)

    def for_row(self, row: int) -> PruningReport:
        """Return the report of one prompt."""
        return PruningReport(self._plan, row)

    def kept(self, row: int, number: int) -> dict[int, Tensor]:
        """Return the tokens of one visual input that each stage keeps, once a prefill has run.

        Args:
            row: prompt of the batch. number: visual input of that prompt, in order.

        Returns:
            By first layer, (K,) bool on the CPU over the tokens that were sent, in the order sent.
        """
        columns = self._plan.columns[row][number]
        return {layer: there[row].cpu()[columns] for layer, there in self._plan.outcome.kept.items()}

    def per_view(self, row: int, number: int, view: Tensor, views: int) -> dict[int, list[int]]:
        """Count the tokens of each view that each stage keeps, by first layer.

        Args:
            row, number: as in `kept`. view: (K,) int64 on the CPU, view of each token sent. views: V.
        """
        return {
            layer: torch.bincount(view[there], minlength=views)[:views].tolist()
            for layer, there in self.kept(row, number).items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON types."""
        return {
            "method": self.method,
            "requested": self.requested,
            "mean": round(self.mean, 3),
            "per_layer": self.per_layer,
        }

    def __str__(self) -> str:
        means = f"{self.mean:.1f} of {self.requested} wanted"
        return f"{self.method}: {means} on average over the layers ({_runs(self.per_layer)})"


def _runs(counts: Sequence[int]) -> str:
    """Return counts as text, equal neighbours once: "116, 58 x 3"."""
    parts: list[list[int]] = []
    for count in counts:
        if parts and parts[-1][0] == count:
            parts[-1][1] += 1
        else:
            parts.append([count, 1])
    return ", ".join(f"{count} x {times}" if times > 1 else str(count) for count, times in parts)

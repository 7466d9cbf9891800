"""Prompts of a batch without their padding, and the columns of their visuals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Modality


@dataclass(frozen=True)
class Span:
    """Columns of one visual in a prompt row without padding.

    Attributes:
        runs: the runs of its placeholders, in order, as ranges of columns of the unpadded row. Text between two runs
            belongs to the visual and is never cut.
        modality: `image` or `video`.
        number: index of the image, or of the video, in the batch.
    """

    runs: tuple[range, ...]
    modality: Modality
    number: int

    @property
    def start(self) -> int:
        """Column of the first placeholder."""
        return self.runs[0].start

    @property
    def stop(self) -> int:
        """Column behind the last placeholder."""
        return self.runs[-1].stop

    @property
    def length(self) -> int:
        """N, number of placeholders."""
        return sum(map(len, self.runs))

    @cached_property
    @outside_caller_modes
    def columns(self) -> Tensor:
        """(N,) int64 on the CPU, ascending: columns of the placeholders."""
        return torch.cat([torch.arange(run.start, run.stop, device="cpu") for run in self.runs])

    def short_columns(self, start: int, kept: Tensor) -> Tensor:
        """Columns of the surviving placeholders in the shortened row.

        Args:
            start: column of the visual's first token, placeholder or text, in the shortened row.
            kept: (K,) int64 source positions of the surviving tokens; ascending where there are several runs.

        Returns:
            (K,) int64, on the CPU for one run, else on the device of `kept`.
        """
        if len(self.runs) == 1:
            return torch.arange(start, start + kept.shape[0], device="cpu")
        between = self.columns - torch.arange(self.start, self.start + self.length, device="cpu")
        rank = torch.arange(start, start + kept.shape[0], device=kept.device)
        return rank + between.to(kept.device).index_select(0, kept)


@dataclass(frozen=True)
class Prompt:
    """The rows of a batch, padding removed.

    Attributes:
        rows: one int64 CPU tensor of token ids per row.
        columns: for each row the columns of the padded tensor its tokens come from.
        spans: for each row its visuals in order.
        pad_right: whether the batch was padded on the right.
        padding: the id that fills its padding; None without any.
    """

    rows: list[Tensor]
    columns: list[Tensor]
    spans: list[list[Span]]
    pad_right: bool
    padding: int | None = None

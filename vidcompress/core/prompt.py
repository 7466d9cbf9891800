"""Prompts of a batch without their padding, and where their visuals stand."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Where one visual stands in a prompt row without padding.

    Attributes:
        start, length: placeholders [start, start + length) of the unpadded row.
        modality: `image` or `video`.
        number: which image or which video of the batch it is.
    """

    start: int
    length: int
    modality: str
    number: int


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

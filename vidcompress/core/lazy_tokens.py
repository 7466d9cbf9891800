"""Tokens that were encoded and not projected: the projector runs on those that are sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vidcompress.core.layout import Evidence, Layout, VisualTokens, as_called_here


class UnprojectedTokens(VisualTokens):
    """`VisualTokens` whose projector runs when features are asked for, and on no more than those.

    `rows` projects the positions it is given. `features` projects them all, once, so that whatever reads features
    finds them; a method that does so should say so in `Method.reads_features`, or it is timed in the wrong phase.

    Args:
        hidden: (N, C) what the projector reads, in sequence order; anything at separators.
        layout: of those N positions, on the same device.
        evidence: as in `VisualTokens`.
        project: (n, C) -> (n, D).
        newline: (D,) the feature of every separator.
    """

    def __new__(cls, *given: Any, **named: Any) -> Any:
        """`dataclasses.replace` hands over the features: it makes plain tokens."""
        return VisualTokens(**named) if "features" in named else super().__new__(cls)

    def __init__(
        self,
        hidden: Tensor,
        layout: Layout,
        evidence: Mapping[Evidence, Tensor],
        project: Callable[[Tensor], Tensor],
        newline: Tensor,
    ) -> None:
        self.hidden, self.newline, self._projector = hidden, newline, project
        self.layout, self.evidence, self.project = layout, evidence, project
        self._check(hidden)

    def hold_autocast(self) -> None:
        """As of projected tokens."""
        super().hold_autocast()
        self._projector = as_called_here(self._projector, self.hidden.device)

    @cached_property
    def features(self) -> Tensor:  # type: ignore[override]
        """(N, D) in sequence order, separators included."""
        return self._projected(self.hidden, self.layout.separator)

    @property
    def dtype(self) -> torch.dtype:
        """Of the features: that of what the projector reads."""
        return self.hidden.dtype

    def rows(self, index: Tensor) -> Tensor:
        """The features (K, D) at positions (K,), projected here unless all of them were."""
        if not self.waits:
            return super().rows(index)
        return self._projected(
            self.hidden.index_select(0, index), self.layout.separator.index_select(0, index)
        )

    def _projected(self, hidden: Tensor, separator: Tensor) -> Tensor:
        made = self._projector(hidden)
        newline = self.newline.to(made.device, made.dtype)
        return torch.where(separator.to(made.device)[:, None], newline, made)

    @property
    def waits(self) -> bool:
        """Whether the projector has not run on all positions."""
        return "features" not in vars(self)

    @staticmethod
    def rows_of(tokens: Sequence[UnprojectedTokens], indices: Sequence[Tensor]) -> list[Tensor]:
        """The `rows` of several visuals of one model, projected together.

        Args:
            tokens: at least one visual.
            indices: for each the positions (K,).

        Returns:
            For each the features (K, D).
        """
        pairs = list(zip(tokens, indices, strict=True))
        hidden = torch.cat([one.hidden.index_select(0, index) for one, index in pairs])
        separator = torch.cat([one.layout.separator.index_select(0, index) for one, index in pairs])
        made = tokens[0]._projected(hidden, separator)
        return list(made.split([len(index) for index in indices]))

    def __repr__(self) -> str:
        return f"UnprojectedTokens(hidden={tuple(self.hidden.shape)}, {self.layout!r}, evidence={list(self.evidence)})"

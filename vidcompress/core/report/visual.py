"""Reports of one image or one video. Only the counts of a report read from the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import GLOBAL_VIEWS, Layout, Modality, ViewKind
from vidcompress.core.report.maps import ViewMap, view_maps
from vidcompress.errors import ArgumentError, shown


@dataclass(frozen=True, eq=False)
class Allotment:
    """Allotment: the part of the budget that a method gives each of the V views of a visual, before caps and rounding.

    Attributes:
        weights: (V,) float64, not negative, such as tokens: the budget is shared in proportion.
        importance: (V,) float64, the commander's score of each view, from which the weights follow; not read for a
            global view and for a view without tokens. None where there is no commander.
        meaning: of `importance`, such as "sum of the commander's scores".
        tiles: layout of the V tiles that the method cut the only view of the visual into; else None.
        note: a remark on the visual, such as why its view was not cut; may be empty.
        parts: the allotment of each visual, where several were joined; else ().
        coverage: share of a budget below one token a view that follows time, 0 to 1; the same for all visuals.
    """

    weights: Tensor
    importance: Tensor | None = None
    meaning: str = ""
    tiles: Layout | None = None
    note: str = ""
    parts: tuple[Allotment, ...] = ()
    coverage: float = 0.0

    def split(self, views: list[int]) -> list[Allotment]:
        """Split into the allotments of visuals one after the other; `views` has the number of views of each."""
        if len(views) == 1:
            return [self]
        if self.parts:
            return list(self.parts)
        words = [None] * len(views) if self.importance is None else self.importance.split(views)
        return [
            Allotment(weights, importance, self.meaning)
            for weights, importance in zip(self.weights.split(views), words, strict=True)
        ]

    @classmethod
    def join(cls, parts: Sequence[Allotment | Tensor]) -> Allotment:
        """Concatenate allotments; a tensor (V,) holds weights without a commander."""
        each = [part if isinstance(part, Allotment) else cls(part) for part in parts]
        if len(each) == 1:
            return each[0]
        words = [part.importance for part in each if part.importance is not None]
        importance = torch.cat(words) if len(words) == len(each) else None
        weights = torch.cat([part.weights for part in each])
        return cls(weights, importance, each[0].meaning, parts=tuple(each))


@dataclass(frozen=True)
class ViewReport:
    """Report of one view, or of a tile that a method cut from one: how many of its tokens were sent.

    Attributes:
        kind: `thumbnail`, `image` (a picture at native resolution), `crop`, `frame` or `tile`.
        total: tokens of the view, separators not counted.
        kept: tokens of the view that were sent (merged or pooled tokens count where their centre lies).
        time: seconds from the start of the clip, when known; frames only.
        box: (top, left, bottom, right) of a crop, in tokens of the thumbnail, or of a tile, in places of the pooled
            evidence; None otherwise.
        grid: (rows, cols), tokens.
        importance: the commander's score of the view (`VisualReport.importance_meaning`); None without one.
        share: part of the budget that the method allotted to the view, 0 to 1, before caps and rounding; None for
            methods that do not weigh views.
    """

    kind: ViewKind
    total: int
    kept: int
    time: float | None
    box: tuple[float, float, float, float] | None
    grid: tuple[int, int]
    importance: float | None = None
    share: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types, without those that do not apply."""
        entry: dict[str, Any] = {
            "kind": self.kind,
            "total": self.total,
            "kept": self.kept,
            "grid": list(self.grid),
        }
        if self.time is not None:
            entry["time"] = round(self.time, 4)
        if self.box is not None:
            entry["box"] = [round(edge, 4) for edge in self.box]
        for name in ("importance", "share"):
            if (value := getattr(self, name)) is not None:
                entry[name] = round(value, 6)
        return entry


@dataclass(eq=False)
class VisualReport:
    """Report of one image or one video: its layout and the positions sent.

    Attributes:
        layout: geometry of the whole input; its N positions are the total.
        source: (K,) int64, position in the full sequence of each position sent, in the order sent.
        budget: B, positions that might be sent, separators included.
        row: index of its prompt in the batch.
        note: a remark for the caller, or None.
        spared: views that were never encoded, because of the method `frames` or of `encoder_saving`.
        allotment: weights of the views; None where the method does not weigh views.
        view_text: tokens of text in the prompt that belong to its views, such as the times of frames; 0 where the
            family names none.
        view_text_dropped: tokens of such text that were left out with their views.
        position_scale: s < 1, by which the positions of a clip shrink under `scaled`; None where they do not.
        scores: (N,) float, the method's score of each position in the full sequence; NaN where it was not encoded. None
            for a method that scores no tokens.
        mass: (K,) float32, tokens that each position sent stands for in attention; None without mass.
        left: function that returns for each first layer of a stage inside the language model (K,) bool on the CPU, the
            positions sent that are left; None where there is no stage.
    """

    layout: Layout
    source: Tensor
    budget: int
    row: int = 0
    note: str | None = None
    spared: int = 0
    allotment: Allotment | None = None
    view_text: int = 0
    view_text_dropped: int = 0
    position_scale: float | None = None
    scores: Tensor | None = None
    mass: Tensor | None = None
    left: Callable[[], dict[int, Tensor]] | None = None

    @classmethod
    def from_selection(
        cls,
        layout: Layout,
        source: Tensor,
        *,
        budget: int,
        row: int = 0,
        note: str | None = None,
        spared: int = 0,
        allotment: Allotment | None = None,
    ) -> VisualReport:
        """Make the report of a selection; reads nothing from the device.

        Args:
            layout: geometry of the input, N positions.
            source: (K,) int64 positions in the full sequence, in the order sent, on any device.
            budget: positions that might be sent.
            row: index of the prompt in the batch.
            note: a remark for the caller; that of the allotment follows it.
            spared: views that were not encoded.
            allotment: weights of the views, on any device.

        Raises:
            ArgumentError: `source` is not one-dimensional.
        """
        if not isinstance(source, Tensor) or source.ndim != 1:
            raise ArgumentError(f"source must have shape (K,), got {shown(source)}; pass a tensor")
        remarks = [note, None if allotment is None else allotment.note]
        note = "; ".join(filter(None, remarks)) or None
        return cls(layout, source.detach(), int(budget), int(row), note, int(spared), allotment)

    @property
    def modality(self) -> Modality:
        """`image` or `video`."""
        return self.layout.modality

    @property
    def encoded(self) -> int:
        """Number of views that were encoded."""
        return len(self.layout.views) - self.spared

    @property
    def total(self) -> int:
        """N, positions without compression, separators included."""
        return self.layout.full_length

    @property
    def kept(self) -> int:
        """K, positions that were sent, separators included."""
        return int(self.source.shape[0])

    @property
    def separators_total(self) -> int:
        """Number of separators among the N positions."""
        return self.layout.num_separators

    @property
    def separators_kept(self) -> int:
        """Number of separators that were sent."""
        return self._counts[-1]

    @cached_property
    def kept_positions(self) -> Tensor:
        """(K,) int64 on the CPU: position in the full sequence of each position sent, in the order sent."""
        return self.source.cpu()

    @cached_property
    def kept_entries(self) -> Tensor:
        """(K,) int64 on the CPU: index in the layout's tensors of each position sent, in the order sent."""
        if self.layout.full_length == len(self.layout):
            return self.kept_positions
        return torch.searchsorted(self.layout.source.cpu(), self.kept_positions)

    @cached_property
    def _counts(self) -> list[int]:
        """Positions sent per view, then separators sent."""
        return self._sent_of(self.layout)

    def _sent_of(self, layout: Layout) -> list[int]:
        """Count the positions sent per view of a layout of the same positions, then separators sent."""
        view = layout.view.cpu()[self.kept_entries]
        return [int(n) for n in torch.bincount(view, minlength=len(layout.views) + 1).tolist()]

    @cached_property
    def views(self) -> tuple[ViewReport, ...]:
        """One entry per view, in order."""
        return self._reports_of(self.layout)

    @cached_property
    def tiles(self) -> tuple[ViewReport, ...]:
        """One entry per tile that the method cut the only view into, in row order; () where it cut none.

        Their tokens are those of the one entry of `views`.
        """
        tiled = None if self.allotment is None else self.allotment.tiles
        return () if tiled is None else self._reports_of(tiled)

    def _reports_of(self, layout: Layout) -> tuple[ViewReport, ...]:
        importance, share = self._said_of(layout)
        sent = self._counts if layout is self.layout else self._sent_of(layout)
        per_view = zip(layout.views, layout.sizes, sent[:-1], importance, share, strict=True)
        return tuple(
            ViewReport(view.kind, total, kept, view.time, view.box, (view.rows, view.cols), *said)
            for view, total, kept, *said in per_view
        )

    @property
    def stages(self) -> dict[int, Tensor]:
        """(K,) bool on the CPU for each first layer of a stage inside the language model: positions sent that are left.

        Empty where there is none, and before a prefill has run.
        """
        return {} if self.left is None else self.left()

    @property
    def maps(self) -> tuple[ViewMap, ...]:
        """Map of each view, in order: what was sent of each cell, its score, its mass, what the layers dropped."""
        scores, mass = (
            None if values is None else values.float().cpu() for values in (self.scores, self.mass)
        )
        return view_maps(
            self.layout,
            self.kept_entries.numpy(),
            scores=None if scores is None else scores[self.layout.source.cpu()].numpy(),
            mass=None if mass is None else mass.numpy(),
            stages={layer: left.numpy() for layer, left in self.stages.items()},
        )

    @property
    def importance_meaning(self) -> str:
        """Meaning of `ViewReport.importance`; empty where no view or tile has one."""
        if self.allotment is None or all(view.importance is None for view in (*self.views, *self.tiles)):
            return ""
        return self.allotment.meaning

    @property
    def is_even(self) -> bool:
        """Whether the method allots to every view the same part of its tokens."""
        views = self.tiles or self.views
        parts = [view.share / view.total for view in views if view.share is not None and view.total]
        return len(parts) > 0 and max(parts) - min(parts) <= 1e-9 * max(parts)

    def _said_of(self, layout: Layout) -> tuple[list[float | None], list[float | None]]:
        """Importance and share of each view. Of a clip of which frames were left out, and of a view that was cut into
        tiles, nothing is stated."""
        views = layout.views
        nothing: list[float | None] = [None] * len(views)
        if self.allotment is None or len(self.allotment.weights) != len(views):
            return nothing, nothing
        if self.allotment.tiles is not None and self.allotment.tiles is not layout:
            return nothing, nothing
        weights = [
            weight if weight > 0 else 0.0 for weight in self.allotment.weights.tolist()
        ]  # NaN counts as 0
        total = sum(weights)
        share = [weight / total if total > 0 else 1 / len(views) for weight in weights]
        if self.allotment.importance is None:
            return nothing, [*share]
        words = zip(views, layout.sizes, self.allotment.importance.tolist(), strict=True)
        return [
            word if view.kind not in GLOBAL_VIEWS and size and math.isfinite(word) else None
            for view, size, word in words
        ], [*share]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON types."""
        return {
            "modality": self.modality,
            "row": self.row,
            "total": self.total,
            "budget": self.budget,
            "kept": self.kept,
            "encoded_views": self.encoded,
            "separators": {"total": self.separators_total, "kept": self.separators_kept},
            **_text_counts(self),
            **({} if self.position_scale is None else {"position_scale": round(self.position_scale, 6)}),
            **({"importance": meaning} if (meaning := self.importance_meaning) else {}),
            **({"tiles": [tile.to_dict() for tile in self.tiles]} if self.tiles else {}),
        }

    def __repr__(self) -> str:
        return f"VisualReport({self.modality}, kept={self.kept}, budget={self.budget}, total={self.total})"


def _text_counts(visual: VisualReport) -> dict[str, Any]:
    """Return the counts of the text of views; empty without such text."""
    if not visual.view_text:
        return {}
    return {"view_text": {"total": visual.view_text, "dropped": visual.view_text_dropped}}


def budget_note(budget: VisualBudget, layout: Layout, uses_budget: bool, spared: int) -> str | None:
    """Return a note on an input with fewer tokens in its budget than views, with views that were not encoded, or with
    crops whose places are not known.

    Args:
        budget: of the input.
        layout: of the whole input.
        uses_budget: whether the method keeps to the budget.
        spared: views that were not encoded.

    Returns:
        One sentence or two; None where none of this applies.
    """
    notes = []
    if spared:
        why = (
            "frames look like an earlier one"
            if layout.views[0].kind == "frame"
            else "views are worth too little"
        )
        notes.append(f"{spared} of {len(layout.views)} {why} and were not encoded")
    crops = sum(view.kind == "crop" for view in layout.views)
    if crops and layout.canvas is None:
        notes.append(
            f"where its {crops} crops lie is not known, so the thumbnail cannot share the budget among them; pass "
            "image_sizes"
        )
    views = sum(size > 0 for size in layout.sizes)
    if uses_budget and budget.policy != "reference" and budget.tokens < views:
        notes.append(
            f"its budget of {budget.positions} leaves {budget.tokens} tokens for {views} views, so at least "
            f"{views - budget.tokens} of them send nothing"
        )
    return "; ".join(notes) or None

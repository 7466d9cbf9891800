"""Rows of the viewer: an answer as what the page shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidcompress.core.report import Report
    from vidcompress.core.report.maps import ViewMap

PHASES = ("decode", "preprocess", "encode", "compress", "prefill", "generate")


@dataclass(frozen=True, eq=False)
class ViewerRow:
    """Viewer row: one answer, and what was kept of each visual.

    Attributes:
        method: name of the method, with its options.
        budget: the budget in words, such as "0.25"; may be empty.
        text: the answer; None where there is none, and `notes` says why.
        kept: visual tokens sent, separators included; None without an answer.
        total: visual tokens without compression; None without an answer.
        mean_kept: visual tokens that a layer takes in on average; None where no layer drops any.
        visuals: for each visual the maps of its views, in order; () without an answer.
        counts: for each visual the tokens sent of each view, where pooled tokens make them differ from the maps' sums;
            () takes those sums.
        same: whether the answer is that of the row with all tokens; None for that row and where there is none.
        timing_ms: milliseconds by phase: decode, preprocess, encode, compress, prefill, generate.
        notes: remarks, one sentence each.
        separators: newline tokens sent, and without compression; None where there are none.
    """

    method: str
    budget: str = ""
    text: str | None = None
    kept: int | None = None
    total: int | None = None
    mean_kept: float | None = None
    visuals: Sequence[Sequence[ViewMap]] = ()
    counts: Sequence[Sequence[int]] = ()
    same: bool | None = None
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    separators: tuple[int, int] | None = None

    @classmethod
    def of_report(
        cls,
        report: Report,
        text: str,
        *,
        timing_ms: Mapping[str, float],
        method: str | None = None,
        budget: str | None = None,
        same: bool | None = None,
        notes: Sequence[str] | None = None,
    ) -> ViewerRow:
        """Make the row of an answer; reads from the device.

        Args:
            report: of the answer.
            text: the answer.
            timing_ms: milliseconds by phase; others than those of the viewer are left out.
            method, budget, notes: as the attributes; those of the report by default.
            same: as the attribute.
        """
        separators = sum(visual.separators_total for visual in report.visuals)
        return cls(
            report.method if method is None else method,
            _budget_of(report) if budget is None else budget,
            text,
            report.kept,
            report.total,
            None if report.inside is None else float(report.mean_kept),
            [visual.maps for visual in report.visuals],
            [[view.kept for view in visual.views] for visual in report.visuals],
            same,
            {phase: timing_ms[phase] for phase in PHASES if phase in timing_ms},
            list(report.all_notes if notes is None else notes),
            (sum(visual.separators_kept for visual in report.visuals), separators) if separators else None,
        )


def _budget_of(report: Report) -> str:
    """Return the budget that was asked for in words; empty where there was none."""
    if report.max_tokens is not None:
        return f"{report.max_tokens} tokens"
    return "" if report.retention_ratio is None else f"{float(report.retention_ratio):g}"

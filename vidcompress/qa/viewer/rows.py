"""Rows of the viewer: an answer, or a row of a comparison, as what the page shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidcompress.core.report.maps import ViewMap
    from vidcompress.qa.answer import Answer
    from vidcompress.qa.compare.row import ComparisonRow

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


def answer_row(answer: Answer) -> ViewerRow:
    """Return the row of an answer alone; reads from the device."""
    return _row(answer, answer.report.method, _budget_of(answer), answer.timing_ms, answer.notes)


def comparison_rows(rows: Sequence[ComparisonRow], shared_ms: Mapping[str, float]) -> list[ViewerRow]:
    """Return the rows of a comparison; reads from the device.

    Args:
        rows: the uncompressed model first.
        shared_ms: milliseconds of decode and preprocess, which all rows share.
    """
    whole = rows[0].text
    drawn = []
    for number, row in enumerate(rows):
        method = "all tokens" if row.label == "none" else row.label
        budget = "" if row.label == "none" else row.budget_text
        if row.answer is None:
            drawn.append(ViewerRow(method, budget, notes=[row.note] if row.note else []))
            continue
        notes = [*([row.note] if row.note else []), *row.answer.notes]
        same = None if number == 0 or whole is None else _words(row.answer.text) == _words(whole)
        drawn.append(_row(row.answer, method, budget, {**shared_ms, **row.median_ms}, notes, same))
    return drawn


def _row(
    answer: Answer,
    method: str,
    budget: str,
    timing_ms: Mapping[str, float],
    notes: Sequence[str],
    same: bool | None = None,
) -> ViewerRow:
    report = answer.report
    return ViewerRow(
        method,
        budget,
        answer.text,
        report.kept,
        report.total,
        None if report.inside is None else float(report.mean_kept),
        [visual.maps for visual in report.visuals],
        [[view.kept for view in visual.views] for visual in report.visuals],
        same,
        {phase: timing_ms[phase] for phase in PHASES if phase in timing_ms},
        list(notes),
    )


def _budget_of(answer: Answer) -> str:
    """Return the budget that was asked for in words; empty where there was none."""
    report = answer.report
    if report.max_tokens is not None:
        return f"{report.max_tokens} tokens"
    return "" if report.retention_ratio is None else f"{float(report.retention_ratio):g}"


def _words(text: str) -> list[str]:
    """Return the words of an answer, ignoring case."""
    return text.casefold().split()

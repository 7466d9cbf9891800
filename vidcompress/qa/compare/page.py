"""Page of a comparison: the viewer with a row for each method and budget."""

from __future__ import annotations

from collections.abc import Sequence

from vidcompress.qa.compare.row import ComparisonRow
from vidcompress.qa.viewer.page import viewer_page
from vidcompress.qa.viewer.rows import ViewerRow


def comparison_page(rows: Sequence[ComparisonRow], *, question: str, remarks: Sequence[str]) -> str:
    """Make the page of a comparison; reads from the device.

    Args:
        rows: the uncompressed model first.
        question: text of the question.
        remarks: sentences below the rows.

    Returns:
        A whole HTML file, as `viewer_page` makes it.
    """
    media = next((row.answer.media for row in rows if row.answer is not None), ())
    shown = [_row(row, rows[0]) for row in rows]
    return viewer_page(shown, question=question, media=media, remarks=remarks)


def _row(row: ComparisonRow, baseline: ComparisonRow) -> ViewerRow:
    """Return a row of the viewer."""
    plain = row.label == "none"
    method, budget = ("all tokens", "") if plain else (row.label, row.budget_text)
    notes = [row.note] if row.note else []
    if row.answer is None:
        return ViewerRow(method, budget, notes=notes)
    return ViewerRow.of_report(
        row.answer.report,
        row.answer.text,
        timing_ms=row.median_ms,  # decode and preprocess are in none of the rows, and a remark states them
        method=method,
        budget=budget,
        same=None
        if row is baseline or baseline.text is None
        else _words(row.answer.text) == _words(baseline.text),
        notes=[*notes, *row.answer.notes],
    )


def _words(text: str) -> list[str]:
    """Return the words of an answer, ignoring case."""
    return text.casefold().split()

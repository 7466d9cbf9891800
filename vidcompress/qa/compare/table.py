"""Table of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from vidcompress.qa.compare.row import ComparisonRow
from vidcompress.table import Table

_LEAST = {
    "sent": 4,
    "kept": 7,
    "first token": 8,
    "speed-up": 7,
    "min-max": 11,
    "agrees": 6,
    "encode": 8,
    "compress": 8,
    "prefill": 8,
    "total": 8,
}
"""Figures with the least width of their cells, so that tables of other times have the same columns."""
_TIMES = ("encode", "compress", "prefill", "total")


def comparison_table(rows: Sequence[ComparisonRow], remarks: Sequence[str]) -> Table:
    """Make the table of the rows with remarks below it; the most important columns are on the left."""
    names = [*_LEAST]
    head = ["method", "asked", *names[:6], "answer", *names[6:]]
    return Table.of_lines(head, [_cells(row) for row in rows], notes=remarks, keys=2, words=("answer",))


def _cells(row: ComparisonRow) -> list[str]:
    if row.answer is None:
        return [row.label, row.budget_text, *[""] * 6, "(out of reach)"]
    low, high = row.speedup_range["first_token"]
    figures = {
        "sent": str(row.kept),
        "kept": f"{100 * (row.retention or 0):.1f} %",
        "first token": f"{row.median_ms['first_token']:.1f} ms",
        "speed-up": f"{row.speedup['first_token']:.2f} x",
        "min-max": f"{low:.2f}-{high:.2f} x",
        "agrees": "" if row.agreement is None else f"{100 * row.agreement:.0f} %",
        **{name: f"{row.median_ms[name]:.1f} ms" for name in _TIMES},
    }
    cells = [figures[name].rjust(least) for name, least in _LEAST.items()]
    said = " ".join(row.answer.text.split()) or "(no words)"
    return [row.label, row.budget_text, *cells[:6], said, *cells[6:]]

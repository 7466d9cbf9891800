"""Table of a comparison in fixed-width text."""

from __future__ import annotations

import io
from collections.abc import Sequence

from vidcompress.qa.compare.row import ComparisonRow

WIDTH = 400
"""Console width in characters; no table is that wide, because answers are cut short."""
ANSWER_WIDTH = 40
_COLUMNS = (
    ("asked", 5),
    ("sent", 4),
    ("kept", 7),
    ("first token", 11),
    ("encode", 9),
    ("compress", 9),
    ("prefill", 9),
    ("total", 10),
    ("speed-up", 8),
    ("agrees", 6),
)
"""Headings with the least width of their column, so that tables of other times look alike."""
_MS = ("first_token", "encode", "compress", "prefill", "total")


def as_table(rows: Sequence[ComparisonRow], remarks: Sequence[str]) -> str:
    """Table of the rows, then the remarks, one a line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("method", no_wrap=True, min_width=10)
    for name, width in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    table.add_column("answer", no_wrap=True, overflow="ellipsis", max_width=ANSWER_WIDTH)
    for row in rows:
        table.add_row(*map(Text, _cells(row)))
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, highlight=False)
    console.print(table)
    written: io.StringIO = console.file  # type: ignore[assignment]
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    return "\n".join([*lines, *remarks])


def _cells(row: ComparisonRow) -> list[str]:
    if row.answer is None:
        return [row.label, row.budget_text, *[""] * (len(_COLUMNS) - 1), "(out of reach)"]
    times = [f"{row.median_ms[name]:.1f} ms" for name in _MS]
    share = f"{100 * (row.retention or 0):.1f} %"
    faster = f"{row.speedup['first_token']:.2f} x"
    agrees = "" if row.agreement is None else f"{100 * row.agreement:.0f} %"
    said = " ".join(row.answer.text.split()) or "(no words)"
    return [row.label, row.budget_text, str(row.kept), share, *times, faster, agrees, said]

"""Report tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vidcompress.table import Table


def to_markdown(table: Table) -> str:
    """Markdown of a table."""
    lines = [
        f"### {escape_markdown(table.title)}",
        "",
        _line(map(escape_markdown, table.head)),
        "|" + "---|" * table.keys + "---:|" * (len(table.head) - table.keys),
    ]
    for group in table.groups:
        lines += [_line(_markdown_cell(text, bold) for text, bold in cells) for cells in group]
    return "\n".join([*lines, "", *(f"- {escape_markdown(note)}" for note in table.notes), ""])


def _markdown_cell(text: str, bold: bool) -> str:
    return f"**{escape_markdown(text)}**" if bold else escape_markdown(text)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell for cell in cells) + " |"


def escape_markdown(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return re.sub(r"([\\|`*_\[\]<>#])", r"\\\1", text)

"""Rendering of report tables: for a rich console, as text and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 400
"""Console width in characters, wider than any table."""


@dataclass(frozen=True)
class ReportTable:
    """A table before it is rendered.

    Attributes:
        title: above it. head: column headings; the first two columns hold text, the others figures.
        groups: groups of lines; a cell is its text and whether it is bold.
        notes: below it.
    """

    title: str
    head: Sequence[str]
    groups: Sequence[Sequence[Sequence[tuple[str, bool]]]]
    notes: Sequence[str]


def to_rich(table: ReportTable) -> RenderableType:
    """Renderable for a rich console."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rich_table = Table(box=None, pad_edge=False, title=Text(table.title, style="bold"), title_justify="left")
    for i, name in enumerate(table.head):
        rich_table.add_column(Text(name), justify="left" if i < 2 else "right", no_wrap=True)
    for i, group in enumerate(table.groups):
        for cells in group:
            rich_table.add_row(*(Text(text, style="bold" if bold else "") for text, bold in cells))
        if i + 1 < len(table.groups):
            rich_table.add_section()
            rich_table.add_row()
    return Group(rich_table, *(Text(note, style="dim") for note in table.notes), Text(""))


def to_text(table: ReportTable) -> str:
    """Text of a table, never wrapped to the terminal; a star stands for bold where there are no styles."""
    from rich.console import Console

    console = Console(width=WIDTH, highlight=False, emoji=False, markup=False, soft_wrap=True)
    with console.capture() as captured:
        console.print(to_rich(table if console.color_system else with_stars(table)))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def with_stars(table: ReportTable) -> ReportTable:
    """Table with stars in place of bold; figures stay aligned."""
    lines = [cells for group in table.groups for cells in group]
    marked = [any(i < len(cells) and cells[i][1] for cells in lines) for i in range(len(table.head))]

    def cell(i: int, text: str, bold: bool) -> tuple[str, bool]:
        return (f"{text}{'*' if bold else ' '}" if marked[i] else text), False

    return ReportTable(
        table.title,
        [f"{name} " if mark else name for name, mark in zip(table.head, marked, strict=True)],
        [
            [[cell(i, text, bold) for i, (text, bold) in enumerate(cells)] for cells in group]
            for group in table.groups
        ],
        [note.replace("Bold: ", "*: ") for note in table.notes],
    )


def to_markdown(table: ReportTable) -> str:
    """Markdown of a table."""
    lines = [
        f"### {escape_markdown(table.title)}",
        "",
        _line(map(escape_markdown, table.head)),
        "|" + "---|" * 2 + "---:|" * (len(table.head) - 2),
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

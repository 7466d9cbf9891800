"""Tables drawn: for a rich console, and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 400
"""Wider than any table, so that nothing is broken or cut."""


@dataclass(frozen=True)
class Sheet:
    """A table before it is drawn.

    Attributes:
        title: above it. head: column headings; the first two columns hold text, the others figures.
        groups: lines that belong together, each cell with whether it is bold.
        notes: below it.
    """

    title: str
    head: Sequence[str]
    groups: Sequence[Sequence[Sequence[tuple[str, bool]]]]
    notes: Sequence[str]


def drawn(sheet: Sheet) -> RenderableType:
    """A sheet for a rich console."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=Text(sheet.title, style="bold"), title_justify="left")
    for i, name in enumerate(sheet.head):
        table.add_column(Text(name), justify="left" if i < 2 else "right", no_wrap=True)
    for i, group in enumerate(sheet.groups):
        for cells in group:
            table.add_row(*(Text(text, style="bold" if bold else "") for text, bold in cells))
        if i + 1 < len(sheet.groups):
            table.add_section()
            table.add_row()
    return Group(table, *(Text(note, style="dim") for note in sheet.notes), Text(""))


def plain(sheet: Sheet) -> str:
    """A sheet as text, never broken to the width of the terminal; where nothing can be bold, a star stands for it."""
    from rich.console import Console

    console = Console(width=WIDTH, highlight=False, emoji=False, markup=False, soft_wrap=True)
    with console.capture() as captured:
        console.print(drawn(sheet if console.color_system else starred(sheet)))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def starred(sheet: Sheet) -> Sheet:
    """A sheet with stars in place of bold; figures stay below one another."""
    lines = [cells for group in sheet.groups for cells in group]
    marked = [any(i < len(cells) and cells[i][1] for cells in lines) for i in range(len(sheet.head))]

    def cell(i: int, text: str, bold: bool) -> tuple[str, bool]:
        return (f"{text}{'*' if bold else ' '}" if marked[i] else text), False

    return Sheet(
        sheet.title,
        [f"{name} " if mark else name for name, mark in zip(sheet.head, marked, strict=True)],
        [
            [[cell(i, text, bold) for i, (text, bold) in enumerate(cells)] for cells in group]
            for group in sheet.groups
        ],
        [note.replace("Bold: ", "*: ") for note in sheet.notes],
    )


def written(sheet: Sheet) -> str:
    """A sheet in Markdown."""
    lines = [
        f"### {escaped(sheet.title)}",
        "",
        _line(map(escaped, sheet.head)),
        "|" + "---|" * 2 + "---:|" * (len(sheet.head) - 2),
    ]
    for group in sheet.groups:
        lines += [_line(f"**{escaped(t)}**" if bold else escaped(t) for t, bold in cells) for cells in group]
    return "\n".join([*lines, "", *(f"- {escaped(note)}" for note in sheet.notes), ""])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell for cell in cells) + " |"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\|`*_\[\]<>#])", r"\\\1", text)

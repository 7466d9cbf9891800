"""Output of commands on stdout for people: tables and paragraphs of the terminal's width."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from vidcompress.table import Table, paragraph, terminal_width


def show_all(tables: Iterable[Table]) -> None:
    """Print tables, each with an empty line below it."""
    for table in tables:
        show(table)
        typer.echo()


def show(part: Table | str, *, style: str = "", hanging: int = 0) -> None:
    """Print a table or a paragraph; into a pipe no line is broken.

    Args:
        part: a table, or lines of text.
        style: of a text on a terminal, such as `dim`.
        hanging: spaces before the continuation lines of a broken line.
    """
    from rich.console import Console

    console, width = Console(highlight=False, soft_wrap=True, markup=False, emoji=False), terminal_width()
    if isinstance(part, Table):
        typer.echo(part.text(width, styled=console.color_system is not None))
        return
    for line in part.splitlines() or [""]:
        console.print(paragraph(line, width, hanging), style=style)

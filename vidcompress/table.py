"""Tables and paragraphs of a given width: what is too wide is wrapped or set below, and nothing is cut off."""

from __future__ import annotations

import io
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

Cell = tuple[str, bool]
"""Text of a cell, and whether it is bold."""
GAP = 2
"""Spaces between two columns."""
LEAST_WORDS = 30
"""Width that a column of words is not narrowed below where it can be helped."""
PAD = "\ue000"
"""Sign for a space that rich does not take away at the end of a cell."""
UNLIMITED = 10_000
"""Width that stands for none in rich."""


@dataclass(frozen=True)
class Table:
    """A table before it is laid out.

    Attributes:
        head: headings, the most important columns first.
        groups: groups of lines of cells, with an empty line between two groups.
        title: above it; empty for none.
        notes: paragraphs below it.
        keys: number of leading columns that name a line; every block of a table that is too wide repeats them.
        words: headings of further columns with words, which stand left and may be wrapped; all others are figures.
    """

    head: Sequence[str]
    groups: Sequence[Sequence[Sequence[Cell]]]
    title: str = ""
    notes: Sequence[str] = ()
    keys: int = 1
    words: Sequence[str] = ()

    @classmethod
    def of_lines(
        cls,
        head: Sequence[str],
        lines: Sequence[Sequence[str]],
        *,
        title: str = "",
        notes: Sequence[str] = (),
        keys: int = 1,
        words: Sequence[str] = (),
    ) -> Table:
        """Table of one group of lines, with no cell in bold."""
        group = [[(text, False) for text in line] for line in lines]
        return cls(head, [group], title=title, notes=notes, keys=keys, words=words)

    def text(self, width: int | None = None, *, styled: bool = False) -> str:
        """Lay the table out as text.

        Args:
            width: most columns of a line; None sets every line of the table in one line, however long.
            styled: bold and dim as escape sequences; otherwise a star stands for bold.
        """
        from rich.console import Console

        console = Console(
            file=io.StringIO(),
            width=UNLIMITED if width is None else width,
            force_terminal=styled,
            color_system="standard" if styled else None,
            highlight=False,
            emoji=False,
            markup=False,
        )
        console.print((self if styled else self._with_stars())._renderable(width))
        written: io.StringIO = console.file  # type: ignore[assignment]
        return "\n".join(line.rstrip() for line in written.getvalue().replace(PAD, " ").splitlines())

    def _renderable(self, width: int | None) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [Text(paragraph(self.title, width), style="bold")] if self.title else []
        for number, widths in enumerate(self._blocks(width)):
            parts += [Text("")] if number else []
            parts.append(self._block(widths))
        return Group(*parts, *(Text(paragraph(note, width), style="dim") for note in self.notes))

    def _block(self, widths: dict[int, int]) -> RenderableType:
        """Some columns, by index, each of a width."""
        from rich.table import Table as RichTable
        from rich.text import Text

        headings = [textwrap.wrap(self.head[i], w, break_on_hyphens=False) or [""] for i, w in widths.items()]
        deepest = max(map(len, headings))
        block = RichTable(box=None, pad_edge=False)
        for lines, (i, wide) in zip(headings, widths.items(), strict=True):
            heading = "\n" * (deepest - len(lines)) + "\n".join(lines)
            side = "left" if self._has_words(i) else "right"
            block.add_column(Text(heading), justify=side, width=wide, overflow="fold")  # type: ignore[arg-type]
        for number, group in enumerate(self.groups):
            if number:
                block.add_row()
            for line in group:
                cells = [(*(line[i] if i < len(line) else ("", False)), wide) for i, wide in widths.items()]
                block.add_row(*(Text(_broken(t, wide), style="bold" if b else "") for t, b, wide in cells))
        return block

    def _has_words(self, column: int) -> bool:
        return column < self.keys or self.head[column].rstrip(PAD) in self.words

    def _blocks(self, width: int | None) -> list[dict[int, int]]:
        """Columns of each block and how wide they are: one block where all columns fit."""
        from rich.cells import cell_len

        columns = range(len(self.head))
        cells = {i: [line[i][0] for group in self.groups for line in group if i < len(line)] for i in columns}
        widest = {i: max(1, *map(cell_len, [self.head[i], *cells[i]])) for i in columns}
        if width is None or _taken(widest.values()) <= width:
            return [widest]
        least: dict[int, int] = {}
        for i in columns:
            heading = max(map(cell_len, self.head[i].split()), default=1)
            least[i] = max([heading, *map(cell_len, cells[i])])
            if self._has_words(i):
                least[i] = max(heading, min(least[i], LEAST_WORDS))
        keys, others = [*columns[: self.keys]], [*columns[self.keys :]]
        room = width - GAP - max((least[i] for i in others), default=-GAP)
        key_widths = _fitted({i: widest[i] for i in keys}, {i: least[i] for i in keys}, room)
        key_least = {i: min(least[i], key_widths[i]) for i in keys}
        blocks: list[list[int]] = [[]]
        for i in others:
            taken = _taken([*key_least.values(), *(least[other] for other in blocks[-1]), least[i]])
            if blocks[-1] and taken > width:
                blocks.append([])
            blocks[-1].append(i)
        key_most = (
            {i: widest[i] for i in keys} if len(blocks) == 1 else key_least
        )  # else blocks stand in line
        return [
            _fitted(
                {**key_most, **{i: widest[i] for i in block}},
                {**key_least, **{i: least[i] for i in block}},
                width,
            )
            for block in blocks
        ]

    def _with_stars(self) -> Table:
        """The table with stars in place of bold; figures stay aligned."""
        lines = [cells for group in self.groups for cells in group]
        marked = [any(i < len(cells) and cells[i][1] for cells in lines) for i in range(len(self.head))]

        def cell(i: int, text: str, bold: bool) -> Cell:
            return (f"{text}{'*' if bold else PAD}" if marked[i] else text), False

        return replace(
            self,
            head=[f"{name}{PAD}" if mark else name for name, mark in zip(self.head, marked, strict=True)],
            groups=[
                [[cell(i, text, bold) for i, (text, bold) in enumerate(cells)] for cells in group]
                for group in self.groups
            ],
            notes=[note.replace("Bold: ", "*: ") for note in self.notes],
        )


def terminal_width(stderr: bool = False) -> int | None:
    """Columns of the terminal that stdout is, or those that the variable COLUMNS states.

    Args:
        stderr: ask stderr instead of stdout.

    Returns:
        None where the stream is no terminal and COLUMNS states nothing: a pipe or a file gets its lines whole.
    """
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated) > 0:
        return int(stated)
    stream = sys.stderr if stderr else sys.stdout
    try:
        return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
    except (OSError, ValueError):  # a stream without a descriptor
        return None


def paragraph(text: str, width: int | None, hanging: int = 0) -> str:
    """Text broken at words.

    Args:
        text: without line breaks; spaces at its start stay.
        width: most columns of a line; None breaks nothing.
        hanging: spaces before every line but the first.
    """
    if width is None or len(text) <= width:
        return text
    indent = " " * min(hanging, width // 2)
    start = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(
        text.lstrip(), width, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False
    )
    return "\n".join(lines)


def _taken(widths: Iterable[int]) -> int:
    """Width that columns of these widths take together."""
    each = list(widths)
    return sum(each) + GAP * max(len(each) - 1, 0)


def _broken(text: str, width: int) -> str:
    """Text whose words of more than `width` columns are broken behind commas, colons, slashes and plus signs."""
    from rich.cells import cell_len

    words = text.split(" ")
    for number, word in enumerate(words):
        if cell_len(word) > width:
            lines = [""]
            for piece in re.findall(r"[^,:/+]+[,:/+]*|[,:/+]+", word):
                if lines[-1] and cell_len(lines[-1] + piece) > width:
                    lines.append("")
                lines[-1] += piece
            words[number] = "\n".join(lines)
    return " ".join(words)


def _fitted(widest: dict[int, int], least: dict[int, int], width: int) -> dict[int, int]:
    """Widths that fit: the narrowest columns get all they want first; where not even the least fits, less than that."""
    room = width - GAP * (len(widest) - 1)
    spare = room - sum(least.values())
    if spare < 0:  # shave the widest
        shaved = dict(least)
        while sum(shaved.values()) > max(room, len(shaved)):
            i = max(shaved, key=lambda i: shaved[i])
            shaved[i] -= 1
        return shaved
    fitted = dict(least)
    missing = {i: widest[i] - least[i] for i in widest if widest[i] > least[i]}
    for number, i in enumerate(sorted(missing, key=lambda i: missing[i])):
        more = min(missing[i], spare // (len(missing) - number))
        fitted[i] += more
        spare -= more
    return fitted

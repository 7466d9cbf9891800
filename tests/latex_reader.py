"""A strict reader of the LaTeX that the package writes: it takes booktabs tables of escaped text, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SIGNS = {
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">",
    "textbar": "|", "textquotedbl": '"', "textasciigrave": "`", "dag": "†", "ddag": "‡", "ldots": "…",
    "textendash": "–", "textemdash": "—",
}  # fmt: skip
MATHS = {"-": "−", r"\times": "×", r"\pm": "±", r"\leq": "≤", r"\geq": "≥"}
TOKEN = re.compile(
    r"\\(?P<word>[a-zA-Z]+)\{\}|\\(?P<sign>[{}$&#_%])|\$(?P<maths>[^$]*)\$|(?P<group>\{[\[\]*]?\})"
    r"|(?P<plain>[^\\{}$&#_%~^<>|\"`\[\]*\n])"
)
JOINED = re.compile(r"--|,,|''")


@dataclass
class LatexTable:
    """What a table says.

    Attributes:
        caption: its text. sides: `l` or `r` per column. head: headings. notes: below it.
        groups: between two rules, lines of (text, bold).
    """

    caption: str = ""
    sides: str = ""
    head: list[str] = field(default_factory=list)
    groups: list[list[list[tuple[str, bool]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plain(tex: str) -> str:
    """Text that LaTeX sets; raises ValueError at anything that is not escaped."""
    said, at = "", 0
    if JOINED.search(tex):
        raise ValueError(f"signs that TeX joins in {tex!r}")
    while at < len(tex):
        token = TOKEN.match(tex, at)
        if token is None:
            raise ValueError(f"{tex[at : at + 20]!r} is not escaped in {tex!r}")
        if token["word"] is not None:
            if token["word"] not in SIGNS:
                raise ValueError(f"{token['word']} is no command of these tables")
            said += SIGNS[token["word"]]
        elif token["maths"] is not None:
            if token["maths"] not in MATHS:
                raise ValueError(f"${token['maths']}$ is no sign of these tables")
            said += MATHS[token["maths"]]
        elif token["group"] is not None:
            said += token["group"][1:-1]
        else:
            said += token["sign"] or token["plain"]
        at = token.end()
    return said


def read_tables(source: str) -> list[LatexTable]:
    """Tables of a document; raises ValueError where LaTeX might stop or be misled."""
    tables = []
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.startswith("%")]
    while lines:
        tables.append(_read(lines))
    return tables


def _read(lines: list[str]) -> LatexTable:
    table = LatexTable()
    _expect(lines, r"\begin{table}", r"\centering")
    if lines[0].startswith(r"\caption"):
        table.caption = plain(_between(lines.pop(0), r"\caption{", "}"))
    table.sides = _between(lines.pop(0), r"\begin{tabular}{", "}")
    if not re.fullmatch("[lr]+", table.sides):
        raise ValueError(f"columns {table.sides!r}")
    _expect(lines, r"\toprule")
    table.head = [text for text, _ in _cells(lines.pop(0), len(table.sides))]
    while lines[0] != r"\bottomrule":
        if lines[0] == r"\midrule":
            lines.pop(0)
            table.groups.append([])
            continue
        table.groups[-1].append(_cells(lines.pop(0), len(table.sides)))
    _expect(lines, r"\bottomrule", r"\end{tabular}")
    if lines[0] == r"\par\smallskip":
        _expect(lines, r"\par\smallskip", r"\begin{minipage}{\linewidth}", r"\footnotesize")
        while lines[0] != r"\end{minipage}":
            table.notes.append(plain(_between(lines.pop(0), "", r"\par")))
        _expect(lines, r"\end{minipage}")
    _expect(lines, r"\end{table}")
    return table


def _expect(lines: list[str], *expected: str) -> None:
    for line in expected:
        if not lines or lines.pop(0) != line:
            raise ValueError(f"{line} is missing")


def _between(line: str, start: str, end: str) -> str:
    if not line.startswith(start) or not line.endswith(end):
        raise ValueError(f"{line!r} is not {start}...{end}")
    return line[len(start) : len(line) - len(end)]


def _cells(line: str, count: int) -> list[tuple[str, bool]]:
    cells = re.split(r"(?<!\\) & ", _between(line, "", r" \\"))
    if len(cells) != count:
        raise ValueError(f"{len(cells)} cells where {count} belong: {line!r}")
    return [
        (plain(_between(cell, r"\textbf{", "}")), True)
        if cell.startswith(r"\textbf{")
        else (plain(cell), False)
        for cell in cells
    ]

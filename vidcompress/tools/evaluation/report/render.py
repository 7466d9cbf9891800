"""Exporters of tables: Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from vidcompress.table import Table

FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|\t")
"""Start of a cell that a spreadsheet may take for a formula; the wide forms are those of East Asian keyboards."""
PLAIN_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    # Behind \\ these two would be read as its argument and its starred form.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "…": r"\ldots{}",
}
"""Characters that LaTeX reads as commands, or that its oldest fonts lack."""
PREAMBLE = "% needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs}"


def to_markdown(table: Table) -> str:
    """Markdown of a table."""
    lines = [
        *([f"### {escape_markdown(table.title)}", ""] if table.title else []),
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


def to_csv(table: Table) -> str:
    """CSV of a table's headings and lines, without title and notes; `harmless` says what becomes of formulas."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(map(harmless, table.head))
    for group in table.groups:
        writer.writerows([harmless(text) for text, _ in cells] for cells in group)
    return written.getvalue()


def harmless(cell: str) -> str:
    """Cell of one line that no spreadsheet takes for a formula: an apostrophe stands before = + - @ and a tab.

    Plain numbers, such as -0.5, stay as they are.
    """
    line = " ".join(cell.splitlines())
    return f"'{line}" if FORMULA.match(line) and not PLAIN_NUMBER.fullmatch(line) else line


def to_latex(table: Table) -> str:
    """LaTeX of a table in the style of booktabs: title as caption, bold cells bold, notes below in small type.

    Every text is escaped, so that pdfLaTeX sets it; other scripts than Latin need LuaLaTeX or XeLaTeX and a font.
    """
    left = [i < table.keys or name in table.words for i, name in enumerate(table.head)]
    lines = [r"\begin{table}", r"  \centering"]
    lines += [rf"  \caption{{{escape_latex(table.title)}}}"] if table.title else []
    lines += [rf"  \begin{{tabular}}{{{''.join('l' if words else 'r' for words in left)}}}", r"    \toprule"]
    lines.append(_latex_line(map(escape_latex, table.head)))
    for group in table.groups:
        lines.append(r"    \midrule")
        for cells in group:
            missing = [("", False)] * (len(left) - len(cells))
            texts = [
                _latex_cell(text, bold, words)
                for (text, bold), words in zip([*cells, *missing], left, strict=True)
            ]
            lines.append(_latex_line(texts))
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    if table.notes:
        lines += [r"  \par\smallskip", r"  \begin{minipage}{\linewidth}", r"    \footnotesize"]
        lines += [rf"    {escape_latex(note)}\par" for note in table.notes]
        lines.append(r"  \end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped; what cannot be printed becomes a space."""
    # TeX joins two hyphens, commas or apostrophes to one sign.
    apart = re.sub(r"([-,'])(?=\1)", "\\1\0", _printable(text))
    return "".join(LATEX.get(sign, sign) for sign in apart).replace("\0", "{}")


def latex_comment(text: str) -> str:
    """Text as a comment of one line."""
    return f"% {_printable(text)}"


def _printable(text: str) -> str:
    """Text on one line, with a space for what cannot be printed."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _latex_line(cells: Iterable[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _latex_cell(text: str, bold: bool, words: bool) -> str:
    # A minus is longer than a hyphen.
    escaped = escape_latex(text if words else re.sub(r"(?<![\w.-])-(?=\d)", "−", text))
    return rf"\textbf{{{escaped}}}" if bold else escaped

"""Exporters of tables: what a spreadsheet, a data frame and LaTeX read is what the table says."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from latex_reader import plain, read_tables
from vidcompress.table import Table
from vidcompress.tools.evaluation.report.render import (
    escape_latex,
    harmless,
    latex_comment,
    to_csv,
    to_latex,
    to_markdown,
)

HOSTILE = r"a_b & 50 % of $x^2$ #1 {c} \input{x} ~ <d> |e| `f` \"g\" [h] *i* -- ,, '' † – é"
TABLE = Table(
    ["retention", "method", "score_1"],
    [
        [[("50 %", False), ("[x]", False), ("-5.0 [-19.9, +8.3]", True)], [("50 %", False), ("*", False)]],
        [[("10 %", False), (HOSTILE, True), ("", False)]],
    ],
    "a & b",
    ["Bold: 100 % of #1"],
    keys=2,
)


def test_latex_says_what_the_table_says() -> None:
    (table,) = read_tables(to_latex(TABLE))
    assert (table.caption, table.sides, table.head) == ("a & b", "llr", ["retention", "method", "score_1"])
    assert table.groups == [
        [
            [("50 %", False), ("[x]", False), ("−5.0 [−19.9, +8.3]", True)],
            [("50 %", False), ("*", False), ("", False)],
        ],
        [[("10 %", False), (HOSTILE, True), ("", False)]],
    ]
    assert table.notes == ["Bold: 100 % of #1"]
    untitled = Table.of_lines(["a", "words"], [["1-2", "-3 words"]], words=["words"])
    assert read_tables(to_latex(untitled))[0].groups == [[[("1-2", False), ("-3 words", False)]]]
    assert "caption" not in to_latex(untitled) and "minipage" not in to_latex(untitled)
    assert "###" not in to_markdown(untitled) and "### a & b" in to_markdown(TABLE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"\_", "_", "is not escaped"),
        (r"\%", "%", "is not escaped"),
        (r"\&", "&", "is not escaped"),
        (r"{[}x", "[x", "is not escaped"),
        ("& {*}", "& *", "is not escaped"),
        (r"\textbackslash{}", "\\", "is not escaped"),
        (r"-{}-", "--", "signs that TeX joins"),
        (r"\bottomrule", "", "is not ..."),
        (r" & {[}", " ", "2 cells where 3 belong"),
        (r"\textbf{", r"\textbf{{", "is not escaped"),
        (r"\end{table}", r"\end{table*}", r"\\end{table} is missing"),
        (r"\textasciitilde{}", r"\undefined{}", "undefined is no command"),
    ],
)
def test_the_reader_refuses_what_latex_would_stumble_over(old: str, new: str, message: str) -> None:
    source = to_latex(TABLE)
    assert old in source
    with pytest.raises(ValueError, match=message):
        read_tables(source.replace(old, new, 1))


@given(st.text(max_size=30))
@example("---")
@example("a\n\nb\t\x1b[0m")
@example(HOSTILE)
def test_any_text_is_escaped(text: str) -> None:
    expected = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    assert plain(escape_latex(text)) == expected
    assert latex_comment(text) == f"% {expected}", "a comment is one line"


@pytest.mark.parametrize(
    "formula",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "-SUM(A1)",
        "@SUM(A1)",
        " =1",
        "\t=1",
        "＝1",
        "-0.5e",
        "-inf",
        "+",
        "--1",
        "-1_0",
    ],
)
def test_what_looks_like_a_formula_gets_an_apostrophe(formula: str) -> None:
    assert harmless(formula) == f"'{formula}"
    written = to_csv(Table.of_lines([formula, "b"], [[formula, "x"]], title=formula, notes=[formula]))
    assert list(csv.reader(io.StringIO(written, newline=""))) == [[f"'{formula}", "b"], [f"'{formula}", "x"]]


@pytest.mark.parametrize(
    "cell", ["-0.5", "+5", "-1e-05", "7.", "a=1", "globalcom2:tau=5", "a-b", "", " x", "'=1", "1-1"]
)
def test_numbers_and_words_stay(cell: str) -> None:
    assert harmless(cell) == cell


def test_csv_has_the_groups_in_one_piece_and_quotes_what_must_be() -> None:
    groups = [[[("a,b", True)], [('say "x"', False)]], [[("two\r\nlines\r", False)], [("\r=1", False)]]]
    written = to_csv(Table(["h"], groups, "title", ["note"]))
    assert list(csv.reader(io.StringIO(written, newline=""))) == [
        ["h"],
        ["a,b"],
        ['say "x"'],
        ["two lines"],
        ["' =1"],
    ]
    assert "title" not in written and "note" not in written and "*" not in written

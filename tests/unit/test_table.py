"""Tables and paragraphs of a width: what is too wide goes into blocks or is broken, and all of it is there."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from vidcompress.table import Table, paragraph, terminal_width

FIGURES = Table.of_lines(
    ("method", *(f"figure {i}" for i in range(9))),
    [[name, *(f"{i}.00 ms" for i in range(9))] for name in ("globalcom2", "random")],
    title="a title",
    notes=["a note of some words"],
)


def widest(text: str) -> int:
    return max(map(cell_len, text.splitlines()))


def test_a_table_that_fits_is_one_block_and_one_that_does_not_repeats_its_keys() -> None:
    whole = FIGURES.text(None)
    assert whole == FIGURES.text(200) and widest(whole) > 80
    assert [line.split()[0] for line in whole.splitlines()] == ["a", "method", "globalcom2", "random", "a"]
    parts = FIGURES.text(60)
    assert widest(parts) <= 60
    assert parts.count("globalcom2") == parts.count("random") == 2
    assert [parts.count(f"{i}.00 ms") for i in range(9)] == [2] * 9
    assert parts.index("figure") < parts.index("8.00 ms")
    assert parts.startswith("a title\n") and parts.endswith("\na note of some words")


def test_headings_are_broken_at_words_before_figures_leave() -> None:
    table = Table.of_lines(("method", "time to the first token"), [["globalcom2", "12.0 ms"]])
    assert table.text(21).splitlines() == [
        "              time to",
        "            the first",
        "method          token",
        "globalcom2    12.0 ms",
    ]
    assert widest(table.text(None)) == 35


def test_words_are_wrapped_and_long_ones_broken_behind_their_signs() -> None:
    label = "globalcom2:allocation=topk,score=local+fastv:schedule=fit"
    table = Table.of_lines(("method", "answer"), [[label, "a red ring " * 9]], words=("answer",))
    lines = table.text(64).splitlines()
    assert lines[1].startswith("globalcom2:allocation=topk,  ")
    assert lines[2].startswith("score=local+fastv:schedule=fit  ")
    assert table.text(60).split().count("ring") == 9


def test_bold_is_a_star_without_styles() -> None:
    table = Table(
        ("a", "b"), [[[("x", False), ("1.0", True)], [("y", False), ("2.0", False)]]], notes=["Bold: best"]
    )
    assert table.text(80).splitlines() == ["a    b", "x  1.0*", "y  2.0", "*: best"]
    styled = table.text(80, styled=True)
    assert "\x1b[1m1.0" in styled and "*" not in styled
    assert re.sub(r"\x1b\[[\d;]*m", "", styled).splitlines()[-1] == "Bold: best"


CELLS = st.text(st.sampled_from("ab ,:+é界"), max_size=50).map(lambda text: " ".join(text.split()))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 9), st.integers(1, 5), st.integers(24, 120))
def test_no_line_is_wider_and_no_character_is_lost(
    data: st.DataObject, columns: int, lines: int, width: int
) -> None:
    head = data.draw(st.lists(CELLS.filter(bool), min_size=columns, max_size=columns, unique=True))
    rows = data.draw(
        st.lists(st.lists(CELLS, min_size=columns, max_size=columns), min_size=lines, max_size=lines)
    )
    keys = data.draw(st.integers(1, min(2, columns)))
    table = Table.of_lines(head, rows, keys=keys, words=head[-1:])
    text = table.text(width)
    assert widest(text or " ") <= width
    for cell in {cell for row in rows for cell in row}:
        for sign in set(cell) - {" "}:
            assert text.count(sign) >= cell.count(sign)
    assert "…" not in text


def test_paragraphs() -> None:
    assert paragraph("  one two three four", 12, hanging=4) == "  one two\n    three\n    four"
    assert paragraph("one two three", None) == "one two three"
    assert paragraph("a" * 20, 8) == "aaaaaaaa\naaaaaaaa\naaaa", (
        "a word wider than the line is broken, not cut"
    )


def test_the_width_is_that_of_the_terminal_or_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal_width() is None, "captured output is no terminal"
    for stated, width in (("72", 72), ("0", None), ("wide", None), ("", None)):
        monkeypatch.setenv("COLUMNS", stated)
        assert terminal_width() == width


def test_a_terminal_is_measured() -> None:
    pytest.importorskip("termios")
    import fcntl
    import struct
    import termios

    first, second = pty.openpty()
    fcntl.ioctl(second, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 97, 0, 0))
    command = "from vidcompress.table import terminal_width; print('columns', terminal_width())"
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    subprocess.run([sys.executable, "-c", command], stdin=second, stdout=second, env=environment, check=True)
    os.close(second)
    assert b"columns 97" in os.read(first, 1000)
    os.close(first)


def test_a_column_without_a_word_is_a_column() -> None:
    lines = [["globalcom2", "", "1"], ["random", "", "2"]]
    text = Table.of_lines(["method", "", "s"], lines).text(None)
    assert text.split() == ["method", "s", "globalcom2", "1", "random", "2"]
    assert len(text.splitlines()) == 3, "one line of headings"
    marked = Table.of_lines(["method", "", "s"], [["globalcom2", "missed", "1"]]).text(None)
    assert "missed" in marked

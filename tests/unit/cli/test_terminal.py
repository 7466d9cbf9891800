"""Tables and helps at 80 and at 200 columns: as recorded, no line too wide, nothing cut, nothing lost."""

from __future__ import annotations

import functools
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from terminal_screens import FOLDER, HELPS, SCREENS, WIDTHS, commands, recorded, screen
from vidcompress.cli import EXAMPLES
from vidcompress.cli.suite import EXAMPLES as SUITE_EXAMPLES

NAMES = [*SCREENS, *HELPS]
NARROW, WIDE = WIDTHS
NEVER_WIDE = {
    "models",
    "suite-list",
    "eval-dry-run",
    "help-methods",
    "help-models",
    "help-suite-path",
}
"""Screens that may say the same at both widths."""
shown = functools.cache(screen)


def faults(text: str, width: int) -> list[str]:
    """Lines that are wider than the terminal or cut."""
    return [line for line in text.splitlines() if cell_len(line) > width or "…" in line]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_a_screen_is_as_recorded_and_fits(name: str, width: int) -> None:
    text = shown(name, width)
    assert faults(text, width) == []
    said = "python tests/terminal_screens.py records them anew"
    assert text == recorded(name, width).read_text(encoding="utf-8"), said


def test_every_recorded_screen_is_one_of_today() -> None:
    for width in WIDTHS:
        assert {path.stem for path in (FOLDER / str(width)).iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_wide_one_is_wider_and_neither_has_lost_a_word(name: str) -> None:
    narrow, wide = (shown(name, width) for width in WIDTHS)
    words = [set(re.sub(r"[│╭╮╰╯─━┏┓┗┛•]", " ", text).split()) for text in (narrow, wide)]
    joined = [re.sub(r"[│╭╮╰╯─━┏┓┗┛•\s]", "", text) for text in (narrow, wide)]
    if name not in HELPS:  # a word that no line has room for is broken, and none is left out
        assert {word for word in words[1] - words[0] if word not in joined[0]} <= folded(wide)
    assert max(map(cell_len, narrow.splitlines())) <= NARROW
    if name not in NEVER_WIDE:
        assert max(map(cell_len, wide.splitlines())) > NARROW + 10
        assert len(wide.splitlines()) <= len(narrow.splitlines())


def folded(text: str) -> set[str]:
    """Words that are longer than a column of words need be."""
    return {word for word in text.split() if len(word) > 30}


@pytest.mark.parametrize("name", ["bench", "compare", "cost", "results", "help-ask"])
def test_a_screen_made_for_200_columns_is_seen_not_to_fit_80(name: str) -> None:
    assert faults(shown(name, WIDE), NARROW)
    assert faults("cut…", NARROW)


@pytest.mark.parametrize("width", WIDTHS)
def test_helps_name_every_option_whole_and_end_with_examples(width: int) -> None:
    examples = {**EXAMPLES, **{f"suite {name}": lines for name, lines in SUITE_EXAMPLES.items()}}
    groups = {"", "suite"}
    all_commands = dict(commands())
    assert examples.keys() | groups == all_commands.keys()
    for name, command in all_commands.items():
        text = shown(f"help-{name.replace(' ', '-') or 'vidcompress'}", width)
        words = set(re.split(r"[\s,│]+", text))
        context = command.make_context("x", [], resilient_parsing=True)
        options = [p for p in command.get_params(context) if p.param_type_name == "option"]
        assert options and {s for option in options for s in (*option.opts, *option.secondary_opts)} <= words
        for example in examples.get(name, ()):
            assert "\n".join(f" {line}" for line in example.split("\n")) in text
        assert name in groups or len(examples[name]) == 2


def test_a_pipe_gets_whole_lines() -> None:
    """Without COLUMNS and without a terminal a table is one block, however wide."""
    command = "from vidcompress.cli import main; main(['cost'])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert sum(line.startswith("TFLOPs") for line in lines) == 1
    assert max(map(len, lines)) > WIDE

"""The help of every command at 80 columns: no name is cut, flags take no value, the examples can be typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from vidcompress.cli import EXAMPLES, app, main

ROOT = Path(__file__).parents[3]
GROUP: Any = typer.main.get_command(app)
PANELS = ("Input", "Compression", "Model", "Output")


def commands(group: Any = GROUP, name: str = "") -> Iterator[tuple[str, Any]]:
    yield name, group
    for word, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {word}".strip())


COMMANDS = dict(commands())


def shown(capsys: pytest.CaptureFixture[str], name: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert not stop.value.code
    return capsys.readouterr().out


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")


def named(command: Any) -> list[str]:
    """Every spelling of every option, --help among them."""
    context = command.make_context("x", [], resilient_parsing=True)
    options = [option for option in command.get_params(context) if option.param_type_name == "option"]
    return [spelling for option in options for spelling in (*option.opts, *option.secondary_opts)]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_no_name_is_cut_at_80_columns(capsys: pytest.CaptureFixture[str], narrow: None, name: str) -> None:
    text = shown(capsys, name)
    words = set(re.split(r"[\s,│]+", text))
    missing = [spelling for spelling in named(COMMANDS[name]) if spelling not in words]
    assert missing == []
    assert "…" not in text and "<bool>" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_check_sees_a_name_that_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "40")
    assert "…" in shown(capsys, "ask")


@pytest.mark.parametrize("name", ["ask", "compare", "eval", "cost", "bench"])
def test_options_stand_in_panels_in_one_order(
    capsys: pytest.CaptureFixture[str], narrow: None, name: str
) -> None:
    text = shown(capsys, name)
    titles = re.findall(r"^╭─ ([\w-]+) ─", text, flags=re.MULTILINE)
    assert [title for title in titles if title in PANELS] == list(PANELS)
    assert "Options" not in titles


def test_short_flags_mean_one_thing() -> None:
    """-n may count frames under two names; every other letter has one meaning in all commands."""
    meanings: dict[str, set[str]] = {}
    for name, command in COMMANDS.items():
        for option in command.params:
            for short in (spelling for spelling in option.opts if re.fullmatch("-[A-Za-z]", spelling)):
                meanings.setdefault(short, set()).add(option.name)
        shorts = [spelling for spelling in named(command) if re.fullmatch("-[A-Za-z]", spelling)]
        assert len(shorts) == len(set(shorts)), name
    assert meanings == {
        "-q": {"question"},
        "-i": {"image", "size"},
        "-v": {"video"},
        "-m": {"model"},
        "-r": {"retention_ratio", "retention_ratios"},
        "-n": {"num_frames", "frames"},
        "-o": {"overlay", "out"},
        "-g": {"geometry"},
        "-d": {"data"},
        "-t": {"task"},
        "-V": {"version"},
    }


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_examples_are_whole_and_are_understood(
    capsys: pytest.CaptureFixture[str], narrow: None, name: str
) -> None:
    text = "\n".join(line.rstrip() for line in shown(capsys, name).splitlines())
    assert len(EXAMPLES[name]) == 2
    for example in EXAMPLES[name]:
        lines = example.split("\n")
        assert "\n".join(f" {line}" for line in lines) in text, "broken anew"
        program, command, *words = shlex.split(example.replace("\\\n", " "))
        assert (program, command) == ("vidcompress", name)
        COMMANDS[name].make_context(name, words)  # raises over an option that is not there
    with pytest.raises(Exception, match="No such option"):
        COMMANDS[name].make_context(name, ["--nothing"])


def test_the_first_example_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(EXAMPLES["ask"][0])[1:])
    written = capsys.readouterr()
    assert (stop.value.code, written.out) == (0, "6\n")
    assert written.err.startswith("globalcom2 (exact): 46 of 464"), "the report, and no remark on the model"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_h_is_help(capsys: pytest.CaptureFixture[str], narrow: None, name: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "-h"])
    assert not stop.value.code
    assert capsys.readouterr().out == shown(capsys, name)


START = "from vidcompress.cli import main; main()"


def in_a_shell(shell: str, words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line under a shell, which it finds among its parents."""
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "SHELL": shell}
    command = f"{sys.executable} -c {shlex.quote(START)} {words}; exit $?"
    return subprocess.run(
        [shell, "-c", command], capture_output=True, text=True, env=environment, check=False
    )


def test_completion_can_be_shown_and_installed(tmp_path: Path) -> None:
    done = in_a_shell("bash", "--show-completion", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "complete -o default -F _vidcompress_completion vidcompress" in done.stdout
    assert list(tmp_path.iterdir()) == []
    done = in_a_shell("bash", "--install-completion", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "_VIDCOMPRESS_COMPLETE" in (tmp_path / ".bash_completions" / "vidcompress.sh").read_text()
    assert "vidcompress.sh" in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("com", {"compare"}),
        ("ask --retention", {"--retention-ratio"}),
        ("suite ", {"list", "make", "path"}),
        ("x", set()),
    ],
)
def test_words_are_completed(typed: str, found: set[str]) -> None:
    words = f"vidcompress {typed}"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_VIDCOMPRESS_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, env=environment, check=False
    )
    assert set(done.stdout.split()) == found, done.stderr


def test_completion_costs_no_time_at_the_start() -> None:
    """A shell waits for every completion: nothing heavy is imported for one."""
    heavy = "{'torch', 'transformers', 'rich', 'av', 'numpy', 'pydantic'}"
    probe = f"import sys; from vidcompress.cli import app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Ctrl-C ends every command with one line on stderr and exit code 130."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer

from vidcompress.cli import app, main

PHOTO = str(Path(__file__).parents[3] / "examples" / "scene.png")
CLIP = str(Path(PHOTO).with_name("clip.mp4"))
LINE = "vidcompress: interrupted"
WAYS = {
    "ask": (("what?", PHOTO), "vidcompress.qa.visual_qa.load_model", ""),
    "remember": (
        (CLIP, "--out", "clip.memory", "--max-tokens", "60"),
        "vidcompress.qa.memory.remembering.encode_frames",
        "",
    ),
    "watch": ((CLIP, "--max-tokens", "60"), "vidcompress.qa.visual_qa.load_model", ""),
    "compare": (("what?", PHOTO), "vidcompress.qa.visual_qa.load_model", ""),
    "bench": (
        ("--model", "tiny-onevision", "--sizes", "112x112"),
        "vidcompress.tools.benchmark.run_bench",
        "",
    ),
    "bench with a journal": (
        ("--model", "tiny-onevision", "--sizes", "112x112", "--journal", "notes.jsonl"),
        "vidcompress.tools.benchmark.run_bench",
        "; the measurements so far are in notes.jsonl, and the same command goes on from there",
    ),
    "bench with servers": (
        ("--serve", "http://127.0.0.1:9", "--journal", "notes.jsonl"),
        "vidcompress.tools.benchmark.serving.client.served_model",
        "; the measurements so far are in notes.jsonl, and the same command goes on from there",
    ),
    "cost": (("--model", "tiny-onevision"), "vidcompress.cli.cost.quiet", ""),
    "eval": (
        ("--task", "shapes:image", "--out", "out"),
        "vidcompress.tools.evaluation.run.runner.Runner.run",
        "; the answers so far are in out, and the same command goes on from there",
    ),
    "tune": (
        ("--task", "shapes:image", "--out", "out"),
        "vidcompress.tools.evaluation.run.runner.Runner.run",
        "; the answers so far are in out, and the same command goes on from there",
    ),
    "results": (("out",), "vidcompress.tools.evaluation.report.load.read_rows", ""),
    "app": ((), "vidcompress.qa.visual_qa.load_model", ""),
    "serve": (("tiny-onevision", "--dry-run"), "vidcompress.serving.launch.server_command", ""),
    "doctor": ((), "vidcompress.tools.doctor.run", ""),
    "methods": ((), "vidcompress.cli.listings.method_entries", ""),
    "models": ((), "vidcompress.cli.listings.family_entries", ""),
    "suite list": ((), "rich.console.Console.print", ""),
    "suite make": (
        ("needle", "--out", "drawn"),
        "vidcompress.tools.evaluation.suite.make",
        "; what is drawn so far is in drawn, and the same command goes on from there",
    ),
    "suite path": ((), "vidcompress.tools.evaluation.suite.tasks_folder", ""),
}
"""What is typed, where the signal comes, and what the line says of what is kept."""


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """A job in the background ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(*given: Any, **named: Any) -> NoReturn:
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("the signal was ignored")


@pytest.mark.parametrize("way", list(WAYS))
def test_one_line_and_the_exit_code_of_a_shell(
    way: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words, place, kept = WAYS[way]
    monkeypatch.chdir(tmp_path)
    where, _, name = place.rpartition(".")
    owner, _, cls = where.rpartition(".")
    target = getattr(import_module(owner), cls) if cls[0].isupper() else import_module(where)
    monkeypatch.setattr(target, name, interrupted)
    with pytest.raises(SystemExit, match="^130$") as stop:
        main([*way.partition(" with ")[0].split(), *words])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err) == (130, "", f"{LINE}{kept}\n")


def test_every_command_is_among_them() -> None:
    group: Any = typer.main.get_command(app)
    names = {
        f"{name} {word}".strip()
        for name, command in group.commands.items()
        for word in getattr(command, "commands", {"": None})
    }
    assert {way.partition(" with ")[0] for way in WAYS} == names


def test_on_a_terminal_the_line_stands_below_what_the_terminal_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidcompress.cli.interrupt import say_interrupted

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    say_interrupted("all is kept")
    assert capsys.readouterr().err == f"\n{LINE}; all is kept\n"

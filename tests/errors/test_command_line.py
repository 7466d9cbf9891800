"""Every option of every command, wrong: one line on stderr, the right exit code, and nothing left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from errors import rows_command_line, rows_payoff, rows_suite
from errors.rows import NEXT
from errors.rows_command_line import FAILURE, Words
from result_files import run_of
from vidcompress.cli import app, main

ROWS = rows_command_line.ROWS + rows_payoff.ROWS + rows_suite.ROWS
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with one folder in it that is called like a picture."""
    (tmp_path / "sub.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit, match=r"^[012]$") as stop:
        main(list(words))
    written = capsys.readouterr()
    return int(stop.value.code or 0), written.out, written.err


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_wrong_option_is_refused(
    row: Words, capsys: pytest.CaptureFixture[str], room: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = tmp_path_factory.mktemp("broken") / "words.mp4"
    broken.write_text("this is no clip " * 50)
    files = {"photo": EXAMPLES / "scene.png", "clip": EXAMPLES / "clip.mp4", "broken": broken, "room": room}
    files["empty"] = tmp_path_factory.mktemp("empty")
    if "{run}" in row.words:
        files["run"] = run_of(tmp_path_factory.mktemp("run"), questions=4)
    words = [word.format(**files) if "{" in word else word for word in row.words]
    code, out, err = run(capsys, *row.command.split(), *words)
    assert (code, out) == (row.code, ""), err
    assert err.startswith("vidcompress: error: ")
    assert err.count("\n") == 1
    assert row.message in err
    assert (row.names or row.parameter) in err.replace("-", "_") or (row.names or row.parameter) in err
    assert NEXT.search(err) or re.search(r"valid |No such|Missing|requires|unexpected|does not take", err)
    assert "Traceback" not in err
    assert [path.name for path in room.iterdir()] == ["sub.png"], "nothing is left behind"


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The group, its commands and those of the groups within it, with the words that call them."""
    yield name, group
    for word, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {word}".strip())


def test_every_option_has_a_row() -> None:
    """A new command or option without a row turns this red; so does a row of one that is gone."""
    group: Any = typer.main.get_command(app)
    wanted = {(name, option.name) for name, command in commands(group) for option in command.params}
    known = {(row.command, row.parameter) for row in ROWS if row.parameter}
    assert sorted(wanted - known) == []
    assert sorted(known - wanted) == [("", "command")]


def test_overlays_are_written_all_or_none(
    capsys: pytest.CaptureFixture[str], room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the second of two pictures: neither is left, and an older one stays as it was."""
    (room / "kept.png").write_text("older")
    save, saved = Image.Image.save, []

    def full(picture: Image.Image, target: Any, *args: Any, **kwargs: Any) -> None:
        saved.append(target)
        if len(saved) == 2:
            Path(target).write_text("half")
            raise OSError(28, "No space left on device")
        save(picture, target, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", full)
    photo = str(EXAMPLES / "scene.png")
    words = ("--image", photo, "--image", photo, "--max-new-tokens", "1", "--overlay", "kept.png")
    code, out, err = run(capsys, "ask", "--question", "what digit is shown?", *words)
    assert (code, out) == (FAILURE, "")
    assert re.search(r"--overlay='kept.png': cannot be written \(.*No space left.*\); name another file", err)
    assert sorted(path.name for path in room.iterdir()) == ["kept.png", "sub.png"]
    assert (room / "kept.png").read_text() == "older"


def test_a_page_is_written_whole_or_not_at_all(
    capsys: pytest.CaptureFixture[str], room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full half way: an older page stays as it was."""
    (room / "kept.html").write_text("older")

    def full(path: Path, text: str, **_: Any) -> None:
        path.write_bytes(text[:100].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    words = ("--image", str(EXAMPLES / "scene.png"), "--max-new-tokens", "1", "--html", "kept.html")
    code, out, err = run(capsys, "ask", "--question", "what digit is shown?", *words)
    assert (code, out) == (FAILURE, "")
    assert re.search(r"--html='kept.html': cannot be written \(.*No space left.*\); name another file", err)
    assert sorted(path.name for path in room.iterdir()) == ["kept.html", "sub.png"]
    assert (room / "kept.html").read_text() == "older"

"""docs/reproduce.md: every command exists, its options too, its files are there, and what can run offline runs."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from result_files import run_of
from vidcompress.cli import app, main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line and not line.startswith("#")]
OURS = [shlex.split(command)[1:] for command in COMMANDS if command.startswith("vidcompress ")]
SCRIPTS = [command for command in COMMANDS if "scripts/" in command]


def options_of(command: str) -> set[str]:
    group: Any = typer.main.get_command(app)
    return {name for option in group.commands[command].params for name in option.opts}


def test_all_commands_are_looked_at() -> None:
    rest = [c for c in COMMANDS if not c.startswith("vidcompress ") and c not in SCRIPTS]
    assert rest == [
        "python3.11 -m venv .venv-eval",
        ". .venv-eval/bin/activate",
        "pip install -e '.[eval,plot]'",
    ]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    assert {"eval", "plot"} <= extras.keys()
    assert len(OURS) >= 10
    assert len(SCRIPTS) >= 4


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_options_and_files_exist(words: list[str]) -> None:
    given = {word for word in words if word.startswith("--")}
    assert given <= options_of(words[0])
    for word in words:
        if word.endswith(".toml"):
            assert (ROOT / word).is_file(), word


@pytest.mark.parametrize("words", [words for words in OURS if words[0] == "eval"], ids=" ".join)
def test_sweeps_can_be_planned(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With --dry-run where the page has none."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="^0$"):
        main([*words[:1], *(["--dry-run"] if "--dry-run" not in words else []), *words[1:]])
    rows = [line for line in capsys.readouterr().out.splitlines() if "--" in line]
    assert rows
    if "lmms:pope" in words:
        assert len(rows) == 3, "the baseline, globalcom2 and random"
        assert all("--lmms_pope--" in line for line in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["configs"], "nothing is made"


@pytest.mark.parametrize("words", [words for words in OURS if words[0] == "results"], ids=" ".join)
def test_results_can_be_shown(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of runs that lie where the page has them."""
    monkeypatch.chdir(tmp_path)
    for word in words[1:]:
        if re.fullmatch(r"runs/[\w-]+", word):
            run_of(tmp_path / word, questions=4)
    with pytest.raises(SystemExit, match="^0$"):
        main(words)
    assert "globalcom2" in capsys.readouterr().out


@pytest.mark.parametrize("command", SCRIPTS)
def test_launchers_and_their_sweeps_exist(command: str) -> None:
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    script = (ROOT / words[0]).read_text(encoding="utf-8")
    assert (ROOT / "configs" / f"{words[1]}.toml").is_file()
    for name in re.findall(r"\b([A-Z_]+)=", command):
        assert f"${{{name}" in script, name


def test_the_dry_run_of_doctor_s_command_is_right() -> None:
    """The page's checkpoint is the one of the sweep."""
    sweep = tomllib.loads((ROOT / "configs" / "globalcom2-llava-next-7b.toml").read_text(encoding="utf-8"))
    (doctor,) = [words for words in OURS if words[:2] == ["doctor", "--model"]]
    assert doctor[2] == sweep["models"][0]["name"]
    assert doctor[doctor.index("--preset") + 1] == sweep["models"][0]["preset"]


def test_links_and_options_in_the_text() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    known = set().union(*(options_of(name) for name in ("eval", "results", "doctor", "ask")))
    for option in re.findall(r"`(?:[^`]* )?(--[a-z][a-z-]+)", PAGE):
        assert option in known, option
    assert "(reproduce.md)" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")

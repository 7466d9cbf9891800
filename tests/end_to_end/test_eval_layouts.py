"""`vidcompress eval` over drawn questions with small checkpoints of Gemma 3, SmolVLM2 and Qwen3.5, as on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from later_layouts import GEMMA, QWEN, SMOL, save_later
from vidcompress.cli import main

pytestmark = pytest.mark.transformers

CLIP = {SMOL: {"num_frames": None, "fps": 1.0, "max_frames": 64}, QWEN: {"num_frames": None, "fps": 2.0}}
"""How many frames of a clip are taken, as the checkpoint or its family says."""


def run(command: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0


def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]


@pytest.mark.parametrize(
    ("name", "medium"), [(GEMMA, "image"), (SMOL, "image"), (SMOL, "clip"), (QWEN, "image"), (QWEN, "clip")]
)
def test_it_runs_goes_on_and_says_its_frames(
    name: str, medium: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = save_later(name, tmp_path / "hub"), tmp_path / "run"
    command = ["eval", "-m", str(folder), "-t", f"shapes:{medium}", "--limit", "3", "-r", "0.5"]
    command += ["--methods", "uniform", "--device", "cpu", "--batch-size", "2", "--out", str(out)]
    run(command)
    first = results(out)
    assert len(first) == 2 and all(len(row["samples"]["id"]) == 3 and not row["failed"] for row in first)
    positions = "original" if name == QWEN else "contiguous"
    for row in first:
        settings = row["settings"]
        assert settings["positions"] == positions
        if medium == "clip":
            assert {key: settings[key] for key in CLIP[name]} == CLIP[name]
        else:
            assert (settings["num_frames"], settings["fps"]) == (None, None)
    whole, half = sorted(first, key=lambda row: -row["tokens"]["kept"])
    assert half["tokens"]["kept"] == pytest.approx(whole["tokens"]["kept"] / 2, abs=1)
    # An answer that is lost is asked again, and no other; the row is the same as before.
    journal = next(out.glob("*uniform*")) / "answers.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))
    next(out.glob("*uniform*")).joinpath("result.json").unlink()
    capsys.readouterr()
    run(command)
    again = results(out)
    assert [row["samples"] for row in again] == [row["samples"] for row in first]
    assert [row["restarts"] for row in again] == [int(row["method"] == "uniform") for row in again]
    assert [row["settings"] for row in again] == [row["settings"] for row in first]

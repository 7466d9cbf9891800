"""The scripts in examples/ run as they stand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from vidcompress.core.method import METHODS

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """Import an example without running it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested() -> None:
    tested = {"ask_image", "ask_video", "plain", "plug_and_play", "conversation", "own_method"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_ask_image(tmp_path: Path) -> None:
    answer = load("ask_image").main(tmp_path / "kept.png")
    assert answer.report.kept == answer.report.budget
    assert Image.open(tmp_path / "kept.png").width > 1000


def test_ask_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = load("ask_video").main(tmp_path / "kept.png")
    assert [answer.report.kept for answer in answers] == [40, 40, 40]
    assert "what digit is shown?" in capsys.readouterr().out


def test_plain(capsys: pytest.CaptureFixture[str]) -> None:
    assert load("plain").main()
    assert "->" in capsys.readouterr().out


def test_plug_and_play() -> None:
    stock, compressed = load("plug_and_play").main()
    assert stock
    assert compressed


def test_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    first, *later = load("conversation").main()
    assert first.timing_ms["encode"] > 0
    assert len(later) == 2 and not any(answer.timing_ms["encode"] for answer in later)
    assert f"what digit is shown? {later[0]}" in capsys.readouterr().out.replace("  ", " ")


def test_own_method() -> None:
    try:
        answer = load("own_method").main()
        assert answer.report.method == "loudest"
        assert answer.report.kept == answer.report.budget
    finally:
        METHODS._classes.pop("loudest", None)

"""What the package says through logging: what was loaded, what was kept and by what; and nothing at all by default."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vidcompress
from cases import CASES, SCENES
from tiny_models import batch, tiny_model
from vidcompress import VisualQA

ROOT = Path(__file__).parents[2]
SCENE, CLIP = str(ROOT / "examples" / "scene.png"), str(ROOT / "examples" / "clip.mp4")


@pytest.fixture(scope="module")
def qa() -> VisualQA:
    return VisualQA.from_pretrained(local_files_only=True, num_frames=4)


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_loading_says_what_was_loaded(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vidcompress"):
        VisualQA.from_pretrained(device="cpu", dtype="bfloat16", local_files_only=True)
    (line,) = lines(caplog)
    pattern = (
        r"loaded .*tiny-onevision: LlavaOnevisionForConditionalGeneration, bfloat16 on cpu in \d+\.\d s, "
        r"adapter LlavaOnevisionAdapter"
    )
    assert re.fullmatch(pattern, line), line
    assert caplog.records[0].name == "vidcompress.loading.load"


def test_a_question_says_what_was_kept(caplog: pytest.LogCaptureFixture, qa: VisualQA) -> None:
    with caplog.at_level(logging.INFO, logger="vidcompress"):
        answer = qa.ask("what digit is shown?", image=SCENE, max_new_tokens=1)
    encoded, kept, answered = lines(caplog)
    assert encoded == "LlavaOnevisionAdapter encodes 1 visuals, evidence: none"
    counts = f"{answer.report.kept} of {answer.report.total}"
    assert kept == f"globalcom2 kept {counts} visual tokens (budget 116) of 1 images and videos"
    assert re.fullmatch(r"answered 1 questions in \d+\.\d ms", answered)
    assert lines(caplog, logging.DEBUG) == []


def test_a_method_inside_says_its_average(caplog: pytest.LogCaptureFixture, qa: VisualQA) -> None:
    with caplog.at_level(logging.INFO, logger="vidcompress"):
        qa.using(method="pdrop", retention_ratio=0.5).ask(
            "what digit is shown?", image=SCENE, max_new_tokens=1
        )
    _, kept, average, _ = lines(caplog)
    assert kept.startswith("pdrop kept 464 of 464 visual tokens")
    assert re.fullmatch(r"pdrop keeps \d+\.\d of them on average over the layers", average)


def test_the_evidence_is_named(caplog: pytest.LogCaptureFixture, qa: VisualQA) -> None:
    with caplog.at_level(logging.INFO, logger="vidcompress"):
        qa.using(method="visionzip").ask("what digit is shown?", image=SCENE, max_new_tokens=1)
    assert "evidence: (Evidence(quantity='attention_received'" in lines(caplog)[0]


def test_debug_has_visuals_clips_and_phases(caplog: pytest.LogCaptureFixture, qa: VisualQA) -> None:
    with caplog.at_level(logging.DEBUG, logger="vidcompress"):
        qa.ask_batch([{"question": "how many?", "video": CLIP}], max_new_tokens=1)
    text = "\n".join(lines(caplog, logging.DEBUG))
    assert re.search(r"^read VideoFrames\('.*', 4 of 8 frames", text, flags=re.MULTILINE)
    assert re.search(r"^visual 0: VisualReport\(video, kept=", text, flags=re.MULTILINE)
    assert re.search(r"^phases in ms: .*'prefill'", text, flags=re.MULTILINE)


class Counter(logging.Handler):
    """Counts the records that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def test_nothing_is_formatted_where_the_level_is_off(qa: VisualQA, monkeypatch: pytest.MonkeyPatch) -> None:
    """No record is made and no repr is asked for; at DEBUG both are."""
    root, counter, reprs = logging.getLogger("vidcompress"), Counter(), []
    for cls in (vidcompress.Report, type(qa.ask("a", image=SCENE, max_new_tokens=1).report.visuals[0])):

        def counted(self: Any, original: Any = cls.__repr__) -> str:
            reprs.append(type(self))
            text: str = original(self)
            return text

        monkeypatch.setattr(cls, "__repr__", counted)
    made: list[Any] = []
    make = logging.Logger.makeRecord

    def make_record(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        if self.name.startswith("vidcompress"):
            made.append(args)
        return make(self, *args, **kwargs)

    monkeypatch.setattr(logging.Logger, "makeRecord", make_record)
    level, handlers = root.level, list(root.handlers)
    root.addHandler(counter)
    try:
        root.setLevel(logging.WARNING)
        qa.ask("what digit is shown?", image=SCENE, max_new_tokens=1)
        qa.ask("how many?", video=CLIP, max_new_tokens=1)
        assert (made, reprs, counter.count) == ([], [], 0)
        root.setLevel(logging.DEBUG)
        qa.ask("what digit is shown?", image=SCENE, max_new_tokens=1)
        assert made and counter.count == len(made)
        text = io.StringIO()
        root.addHandler(logging.StreamHandler(text))
        reprs.clear()
        qa.ask("what digit is shown?", image=SCENE, max_new_tokens=1)
        assert reprs and "VisualReport(" in text.getvalue()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.mark.parametrize(("method", "family", "modality"), CASES[::7])
def test_logging_asks_the_device_for_nothing(
    method: str, family: str, modality: str, caplog: pytest.LogCaptureFixture
) -> None:
    from device_questions import CountSyncs

    model = tiny_model(family)
    inputs = batch(model, [SCENES[family, modality]])
    seen = []
    for level in (logging.WARNING, logging.DEBUG):
        vidcompress.compress_inputs(model, inputs, method, retention_ratio=0.5)
        with caplog.at_level(level, logger="vidcompress"), CountSyncs() as counter:
            vidcompress.compress_inputs(model, inputs, method, retention_ratio=0.5)
        seen.append(counter.seen)
    assert seen[0] == seen[1]
    assert any("visual tokens" in line for line in lines(caplog))


def test_nothing_is_printed_unless_the_application_sets_logging_up() -> None:
    code = f"""
import logging, vidcompress
assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("vidcompress").handlers)
logging.getLogger("vidcompress").setLevel(logging.DEBUG)
from vidcompress import media
frames = media.read_video({CLIP!r}, num_frames=2)
SETUP
frames = media.read_video({CLIP!r}, num_frames=2)
"""
    printed = []
    for setup in ("", "logging.basicConfig()"):
        command = [sys.executable, "-c", code.replace("SETUP", setup)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        printed.append((done.stdout, done.stderr.count("read VideoFrames(")))
    assert printed == [("", 0), ("", 1)]


@pytest.mark.parametrize(
    ("level", "code", "said"),
    [
        (None, 0, None),
        ("info", 0, "INFO vidcompress.session.inputs: globalcom2 kept 116 of 464 visual tokens"),
        ("loud", 2, "VIDCOMPRESS_LOG='loud': must be DEBUG, INFO, WARNING or ERROR"),
    ],
)
def test_the_command_line_logs_to_stderr(level: str | None, code: int, said: str | None) -> None:
    given = {} if level is None else {"VIDCOMPRESS_LOG": level}
    words = ["ask", "--image", SCENE, "--question", "what digit is shown?", "--max-new-tokens", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "vidcompress", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **given},
    )
    assert done.returncode == code, done.stderr
    assert said is None or said in done.stderr
    assert ("INFO vidcompress" in done.stderr) == (level == "info")
    assert "vidcompress.session" not in done.stdout

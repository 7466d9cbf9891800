"""`VisualQA.compare` and `vidcompress compare` on the embedded models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from PIL import Image

import vidcompress
from vidcompress import UnsupportedInputError
from vidcompress.cli import main
from vidcompress.core.method import METHODS, Method
from vidcompress.core.method_lookup import available_methods
from vidcompress.core.method_spec import parse_method_spec
from vidcompress.errors import ArgumentError
from vidcompress.media import MediaError
from vidcompress.qa import Comparison
from vidcompress.qa.compare.contact_sheet import draw_selection
from vidcompress.qa.pipeline import Pipeline
from vidcompress.tools.runs.provenance import provenance

QUESTION = "how many objects are there?"


@pytest.fixture(scope="module")
def comparison(qa: vidcompress.VisualQA, image: Path) -> Comparison:
    methods = "globalcom2:tau=5,pool"
    return qa.compare(QUESTION, image=image, methods=methods, retention_ratios=[0.5, "0.1"], max_new_tokens=4)


def on_one_line(made: Comparison) -> str:
    """The comparison as text, in which long notes are broken at words, without line breaks."""
    return " ".join(str(made).split())


def test_rows_say_what_ask_says(qa: vidcompress.VisualQA, image: Path, comparison: Comparison) -> None:
    assert [row.budget_text for row in comparison.rows[:3]] == ["all", "0.5", "0.1"]
    assert comparison.baseline.kept == comparison.baseline.total == 464
    for row in comparison.rows:
        method, options = parse_method_spec(row.label)
        alone = qa.using(method=method, retention_ratio=row.retention_ratio, **options)
        answer = alone.ask(QUESTION, image=image, max_new_tokens=4)
        assert (row.text, row.kept, row.total) == (answer.text, answer.report.kept, answer.report.total)
        assert row.agreement == (
            None if row is comparison.baseline else float(row.text == comparison.baseline.text)
        )


def test_times_add_up(comparison: Comparison) -> None:
    for row in comparison.rows:
        fast, middle = row.fastest_ms, row.median_ms
        assert list(middle) == ["encode", "compress", "prefill", "first_token", "generate", "total"]
        assert all(0 <= fast[name] <= middle[name] for name in middle)
        assert middle["encode"] > 0 < middle["prefill"]
        # Two timed runs: their median is their mean, so that even medians add up.
        assert middle["first_token"] == pytest.approx(
            sum(middle[n] for n in ("encode", "compress", "prefill"))
        )
        assert middle["total"] == pytest.approx(middle["first_token"] + middle["generate"])
        for name in ("first_token", "total"):
            assert row.speedup[name] == pytest.approx(comparison.baseline.median_ms[name] / middle[name])
    assert comparison.baseline.speedup == {"first_token": 1.0, "total": 1.0}
    assert set(comparison.shared_ms) == {"decode", "preprocess"} and min(comparison.shared_ms.values()) > 0


def test_rows_take_turns_and_media_are_read_once(
    qa: vidcompress.VisualQA, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    prepared: list[Any] = []
    answer, preprocess = Pipeline.answer, Pipeline.preprocess

    def watched(self: Pipeline, *args: Any) -> Any:
        ran.append(self.config.method.name)
        answers = answer(self, *args)
        answers[0].timing_ms["prefill"] = float(len(ran))
        return answers

    monkeypatch.setattr(Pipeline, "answer", watched)
    monkeypatch.setattr(
        Pipeline, "preprocess", lambda *args, **kwargs: prepared.append(args) or preprocess(*args, **kwargs)
    )
    made = qa.compare(
        QUESTION, video=clip, methods="vidcom2", retention_ratios=0.25, repeats=4, max_new_tokens=2
    )
    there = ["none", "vidcom2", "random", "uniform"]
    assert ran == [*there, *there, *there[::-1], *there]
    assert len(prepared) == 1 and made.runs == 3
    # The warm-up counts for nothing: numbers 1 to 4 are not among the times.
    turns = {"none": [5, 12, 13], "vidcom2": [6, 11, 14], "random": [7, 10, 15], "uniform": [8, 9, 16]}
    for row in made.rows:
        assert row.median_ms["prefill"] == median(turns[row.label])
        assert row.fastest_ms["prefill"] == min(turns[row.label])


def test_budgets_out_of_reach_are_rows_without_an_answer(qa: vidcompress.VisualQA, clip: Path) -> None:
    made = qa.compare(QUESTION, video=clip, methods="frames", max_tokens=[40, 5], controls=False, repeats=2)
    _, reached, lost = made.rows
    assert reached.kept is not None and reached.kept <= 40
    assert (lost.text, lost.kept, lost.median_ms, lost.budget_text) == (None, None, {}, "5 tokens")
    assert "at least 16" in lost.note
    assert "out of reach" in str(made) and lost.note in on_one_line(made)
    assert json.loads(json.dumps(made.to_dict()))["rows"][2]["answer"] is None
    assert made.overlay().width > 300


@pytest.fixture
def failing() -> Iterator[str]:
    """A method that can be made and fails when it is run."""

    @dataclass(frozen=True)
    class Failing(Method):
        name = "failing"
        summary = "raises"
        modalities = frozenset({"image"})

        def select(self, batch: Any, plans: Any) -> Any:
            raise ZeroDivisionError("by zero")

    METHODS._classes["failing"] = Failing
    yield "failing"
    METHODS._classes.pop("failing")


def test_a_method_that_fails_is_left_out_unless_named(
    qa: vidcompress.VisualQA, image: Path, failing: str
) -> None:
    made = qa.compare(QUESTION, image=image, retention_ratios=0.5, repeats=2, max_new_tokens=2)
    assert made.skipped[failing] == "ZeroDivisionError: by zero"
    serving = {name for name in available_methods() if "image" in METHODS.get(name).modalities}
    assert {row.label for row in made.rows} == serving - {failing}
    assert "vidcom2: serves video inputs only" in on_one_line(made)
    assert "left out: failing: ZeroDivisionError: by zero" in on_one_line(made)
    with pytest.raises(ZeroDivisionError):
        qa.compare(QUESTION, image=image, methods=[failing], repeats=2)


def test_methods_inside_the_language_model(qa: vidcompress.VisualQA, image: Path) -> None:
    made = qa.compare(
        QUESTION,
        image=image,
        methods=["fastv", "globalcom2+fastv:schedule=fit"],
        retention_ratios=[0.5, 0.1],
        controls=False,
        repeats=2,
        max_new_tokens=2,
    )
    _, fast, lost, both, _ = made.rows
    assert fast.answer is not None and fast.answer.report.inside is not None
    assert fast.kept == fast.total == 464 and fast.retention == pytest.approx(0.5, abs=0.01)
    assert "floor" in lost.note
    assert both.kept is not None and both.effective is not None and both.effective < both.kept < 464
    assert both.retention == pytest.approx(0.5, abs=0.01)
    assert made.to_dict()["rows"][1]["inside"]["mean"] == pytest.approx(fast.effective, abs=1e-3)
    assert "on average over its layers" in str(made) and "on average" not in str(
        qa.compare(QUESTION, image=image, methods="pool", retention_ratios=0.5, controls=False, repeats=2)
    )
    assert made.overlay().width > 600


def test_settings_of_the_object_and_of_the_call(qa: vidcompress.VisualQA, image: Path) -> None:
    dropping = qa.using(method="globalcom2", separators="drop", tau=3.0)
    asked: dict[str, Any] = dict(
        image=image, methods="globalcom2", retention_ratios=0.5, controls=False, repeats=2
    )
    row = dropping.compare(QUESTION, **asked, max_new_tokens=2).rows[1]
    assert row.answer is not None and row.answer.report.separators == "drop"
    row = dropping.compare(QUESTION, **asked, separators="keep", num_beams=2, max_new_tokens=2).rows[1]
    assert row.answer is not None and row.answer.report.separators == "keep"
    assert row.answer.new_tokens <= 2


def test_what_only_the_media_can_tell(qa: vidcompress.VisualQA, tmp_path: Path, clip: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        qa.compare(QUESTION, image=tmp_path / "missing.png")
    with pytest.raises(ArgumentError, match="holds '<image>'"):
        qa.compare("what <image>?", video=clip)
    with pytest.raises(ArgumentError, match="max_new_tokens=0"):
        qa.compare(QUESTION, video=clip, max_new_tokens=0)
    with pytest.raises(UnsupportedInputError, match="'vidcom2' serves video inputs only"):
        qa.compare(QUESTION, image=tmp_path / "never-opened.png", methods="vidcom2")


def test_table_and_json(comparison: Comparison) -> None:
    text = str(comparison)
    lines = text.splitlines()
    assert len({line.index(" ms") for line in lines[1 : 1 + len(comparison.rows)]}) == 1  # columns line up
    assert "no benchmark" in text and max(map(len, lines)) <= 100
    assert set(text.split()) <= set(comparison.table().text(None).split())
    for row in comparison.rows:
        low, high = row.speedup_range["first_token"]
        assert low <= row.speedup["first_token"] * 1.0001 or row is comparison.baseline
        assert 0 < low <= high and f"{low:.2f}-{high:.2f} x" in text
    assert comparison.baseline.speedup_range["total"] == (1, 1)
    entry = json.loads(json.dumps(comparison.to_dict(provenance())))
    assert "provenance" not in comparison.to_dict()
    assert entry["model"] == "tiny-onevision" and entry["runs"] == 2
    assert set(entry["provenance"]) >= {"command", "versions", "machine"}
    for row, raw in zip(comparison.rows, entry["rows"], strict=True):
        assert (raw["method"], raw["answer"]) == (row.label, row.text)
        assert raw["visual_tokens"]["kept"] == row.kept
        assert raw["realised_retention"] == pytest.approx(row.kept / row.total, abs=1e-6)  # type: ignore[operator]


def test_sheet_shows_what_was_kept(comparison: Comparison) -> None:
    sheet = comparison.overlay()
    assert 900 < sheet.width <= 1800 and 300 < sheet.height < 12_000
    rows = {row.label: row for row in comparison.rows if row.budget_text in ("0.1", "all")}
    light = {}
    for name in ("none", "random"):
        answer = rows[name].answer
        assert answer is not None
        small = draw_selection(answer.report.visuals[0], answer.media[0], 240).convert("L")
        counts = small.histogram()
        light[name] = sum(counts[120:245]) / sum(counts)
    assert light["none"] > 2 * light["random"]


def test_sheets_stay_small(qa: vidcompress.VisualQA, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 64), (5 * n, 90, 90)) for n in range(20)]
    thin = Image.new("RGB", (20, 2000), (90, 90, 200))
    short: dict[str, Any] = dict(image=thin, controls=False, repeats=2, max_new_tokens=1)
    made = qa.compare(QUESTION, video=frames, methods="pool", max_tokens=[64, 8], **short)
    sheet = made.overlay()
    assert sheet.width <= 1800 and sheet.height <= 2 * (480 + 60) + 100
    many = qa.compare(QUESTION, methods="uniform", max_tokens=list(range(1, 10)), **short)
    with pytest.raises(ArgumentError, match="1 methods at 9 budgets; a sheet takes at most 40 and 8"):
        many.overlay()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit, match="^[012]$") as stop:
        main(["compare", *words])
    written = capsys.readouterr()
    return int(stop.value.code or 0), written.out, written.err


@pytest.mark.slow
def test_a_process_prints_one_object_and_nothing_else(image: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from vidcompress.cli import main; main()",
        "compare",
        "--image",
        str(image),
    ]
    command += [
        "--question",
        "what digit is shown?",
        "--retention-ratios",
        "0.25",
        "--json",
        "--overlay",
        "all.png",
    ]
    command += ["--model", "tiny-next", "--methods", "globalcom2:tau=5", "--methods", "pool", "--only"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    entry = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    assert [row["method"] for row in entry["rows"]] == ["none", "globalcom2:tau=5", "pool"]
    assert entry["model"] == "tiny-next" and entry["overlay"] == "all.png"
    assert set(entry["provenance"]) >= {"command", "versions", "machine"}
    assert Image.open(tmp_path / "all.png").width > 600


def test_words_for_people(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    words = (
        "--video",
        str(clip),
        "-q",
        QUESTION,
        "--max-tokens",
        "30, 20",
        "--methods",
        "vidcom2",
        "--seed",
        "3",
    )
    sheet = tmp_path / "sheet.jpg"
    code, out, err = run(capsys, *words, "--num-frames", "4", "--repeats", "2", "--overlay", str(sheet))
    assert (code, err) == (0, f"wrote {sheet}\n")
    assert [line.split()[0] for line in out.splitlines()[1:8]] == [
        *("none", "vidcom2", "vidcom2", "random", "random", "uniform", "uniform")
    ]
    assert "30 tokens" in out and "20 tokens" in out and "wrote" not in out
    assert "after one that is not counted" in out


def test_one_repeat_is_counted_and_said(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    words = (QUESTION, str(clip), "--num-frames", "2", "--methods", "vidcom2", "--only", "-r", "0.5")
    code, out, _ = run(capsys, *words, "--repeats", "1", "--max-new-tokens", "2")
    assert code == 0
    assert "1 timed run per row, warming up included" in out and "not counted" not in out
    entries = [
        json.loads(run(capsys, *words, "--repeats", count, "--max-new-tokens", "2", "--json")[1])
        for count in "123"
    ]
    assert [(entry["runs"], entry["warmed_up"]) for entry in entries] == [(1, False), (1, True), (2, True)]
    for entry in entries:
        assert [row["method"] for row in entry["rows"]] == ["none", "vidcom2"]
        assert all(row["median_ms"]["total"] > 0 and row["answer"] for row in entry["rows"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "question: there is none; pass it first, then the media: vidcompress compare"),
        (("-q", "what?"), 2, "compare: there is nothing to compress"),
        (
            ("-q", "what?", "--image", "IMAGE", "--methods", "vidcom2"),
            2,
            "'vidcom2' serves video inputs only",
        ),
        (("-q", "what?", "--image", "IMAGE", "--methods", "globalcom"), 2, "did you mean 'globalcom2'"),
        (("-q", "what?", "--image", "IMAGE", "--methods", ","), 2, "methods=',': name at least one"),
        (("-q", "what?", "--image", "IMAGE", "--retention-ratios", "0.5,x"), 2, "got 'x'"),
        (("-q", "what?", "--image", "IMAGE", "--retention-ratios", ","), 2, "give at least one"),
        (
            ("-q", "what?", "--image", "IMAGE", "--max-tokens", "8,x"),
            2,
            "--max-tokens='x': must be whole numbers",
        ),
        (
            ("-q", "what?", "--image", "IMAGE", "--max-tokens", "8", "--retention-ratios", "1"),
            2,
            "exclude each other",
        ),
        (("-q", "what?", "--image", "IMAGE", "--repeats", "0"), 2, "repeats=0: must be"),
        (("-q", "what?", "--image", "IMAGE", "--overlay", "x.gif"), 2, "must end in .png"),
        (("-q", "what?", "--image", "IMAGE", "--model", "tiny"), 2, "neither a folder nor an embedded model"),
        (("-q", "what?", "--image", "missing.png"), 1, "image='missing.png': no such file"),
        (
            ("-q", "what?", "--video", "CLIP", "--model", "tiny-next", "--repeats", "2"),
            1,
            "this model takes none",
        ),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str],
    image: Path,
    clip: Path,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    files = {"IMAGE": str(image), "CLIP": str(clip)}
    got, out, err = run(capsys, *(files.get(word, word) for word in words))
    assert (got, out) == (code, "")
    assert message in err and err.count("\n") == 1

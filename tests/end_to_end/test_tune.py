"""`vidcompress tune` on the embedded model: its counts, its controls, what fails, and a run that is killed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmark_folder import BROKEN, write_benchmark
from vidcompress.cli import main
from vidcompress.cli.payoff.tune import _commands
from vidcompress.errors import ArgumentError, UnsupportedInputError
from vidcompress.tools.evaluation.report.comparison.pairing import answers_of
from vidcompress.tools.evaluation.run.model_cache import ModelCache
from vidcompress.tools.evaluation.tuning import TunedRow, Tuning, run_tuning, tune
from vidcompress.tools.evaluation.tuning.agreement import Agreement

WORDS = ("--method", "census", "-r", "0.5,0.1", "--agreement", "0.6", "--batch-size", "3")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit, match=r"^[012]$") as stop:
        main(["tune", *words])
    written = capsys.readouterr()
    return int(stop.value.code or 0), written.out, written.err


def answers(out: Path, method: str, amount: str) -> dict[str, str]:
    """Answers of a row without those that failed, read by themselves."""
    (path,) = out.glob(f"*--{method}--{amount}--*/answers.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    return {line["id"]: line["answer"] for line in lines if "error" not in line}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmark(tmp_path_factory.mktemp("data") / "bench", pictures=20)


@pytest.fixture(scope="module")
def out(data: Path, qa: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    models = ModelCache(lambda spec: (qa.model, qa.processor))
    given = {"method": "census", "retention_ratios": [0.1, "0.5"], "agreement": 0.6, "batch_size": 3}
    tuning = tune("tiny-onevision", f"data:{data}", out=folder, models=models, **given)
    assert tuning is not None and [row.shown for row in tuning.rows] == ["50 %", "10 %"]
    return folder


def test_counts_are_those_of_the_answers(out: Path) -> None:
    said = json.loads((out / "tune.json").read_text())
    whole = answers(out, "none", "1.0")
    assert len(whole) == 25
    assert {(row["method"], row["retention_ratio"], row["control"]) for row in said["rows"]} == {
        (method, ratio, method != "census")
        for method in ("census", "random", "uniform")
        for ratio in (0.5, 0.1)
    }
    for row in said["rows"]:
        mine = answers(out, row["method"], str(row["retention_ratio"]))
        equal = [name for name, answer in whole.items() if mine.get(name) == answer]
        assert (row["equal"], row["questions"]) == (len(equal), len(whole))
        assert sum(kind["questions"] for kind in row["kinds"].values()) == 25
        assert sum(kind["equal"] for kind in row["kinds"].values()) == len(equal)
    by_method = {row["method"]: row["equal"] for row in said["rows"] if row["retention_ratio"] == 0.1}
    assert by_method["random"] < by_method["census"], "a control that must differ"
    assert said["left_out"] == len(BROKEN)
    assert said["choice"] == {"retention_ratio": 0.1}
    assert said["provenance"]["versions"]["torch"]


def test_a_question_that_fails_under_the_budget_alone_is_not_equal(
    data: Path, qa: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"retention_ratios": [0.5], "controls": False, "limit": 12, "batch_size": 3, "agreement": 0.6}
    models = ModelCache(lambda spec: (qa.model, qa.processor))
    first = tune("tiny-onevision", f"data:{data}", out=tmp_path, models=models, **given)
    lost = next(iter(answers(tmp_path, "none", "1.0")))

    def without(row: Any) -> Any:
        return {name: text for name, text in answers_of(row).items() if row.is_baseline or name != lost}

    monkeypatch.setattr(run_tuning, "answers_of", without)
    second = tune("tiny-onevision", f"data:{data}", out=tmp_path, models=models, **given)
    assert first is not None and second is not None
    before, after = first.rows[0].agreement, second.rows[0].agreement
    assert before.questions == after.questions and after.equal == before.equal - 1


def test_the_command_prints_what_it_found_and_how_to_ask(
    capsys: pytest.CaptureFixture[str], data: Path, out: Path
) -> None:
    code, said, err = run(capsys, "--data", str(data), *WORDS, "--out", str(out))
    assert (code, "failed: " in err) == (0, True)
    assert "10 % with census is the smallest budget that is confirmed" in said
    command = said.splitlines()[-1].strip()
    assert command == "vidcompress ask --method census --retention-ratio 0.1 QUESTION FILE"
    code, said, _ = run(capsys, "--data", str(data), *WORDS, "--out", str(out), "--json")
    entry = json.loads(said)
    assert entry["commands"] == [command]
    assert {**json.loads((out / "tune.json").read_text()), "provenance": None} == {
        **{key: value for key, value in entry.items() if key not in ("out", "commands")},
        "provenance": None,
    }
    asked = ["what digit is shown?" if word == "QUESTION" else word for word in shlex.split(command)[1:]]
    with pytest.raises(SystemExit, match="^0$"):
        main([str(Path("examples/scene.png").absolute()) if word == "FILE" else word for word in asked])
    assert capsys.readouterr().out.strip()


def test_the_command_that_serves_is_printed_where_a_server_would_do_the_same() -> None:
    def commands(method: str) -> list[str]:
        row = TunedRow(method, {"retention_ratio": 0.25}, "25 %", Agreement(200, 200))
        return _commands(Tuning("m", "t", "ab", method, 0.95, [row]), "owner/name")

    asks = "vidcompress ask --model owner/name --method globalcom2 --retention-ratio 0.25 QUESTION FILE"
    serves = "vidcompress serve owner/name --method globalcom2 -r 0.25"
    assert commands("globalcom2") == [asks, serves]
    assert len(commands("census")) == 1, "it was tuned with masses, which vLLM does not take"
    assert len(commands("census:mass=off")) == 2


def test_another_task_in_the_folder_and_a_row_that_cannot_run_are_refused(
    data: Path, qa: Any, out: Path, tmp_path: Path
) -> None:
    def failing(spec: Any) -> Any:
        raise RuntimeError("no such weights")

    given = {"method": "census", "retention_ratios": [0.5], "agreement": 0.6, "controls": False}
    with pytest.raises(
        UnsupportedInputError, match=r"none at 1: .*no such weights; the answers so far are in"
    ):
        tune("tiny-onevision", f"data:{data}", out=tmp_path / "a", models=ModelCache(failing), **given)
    assert not (tmp_path / "a" / "tune.json").exists()
    with pytest.raises(ArgumentError, match="begun with no --limit"):
        tune("tiny-onevision", f"data:{data}", out=out, limit=3, **given)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_loses_nothing(data: Path, out: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "vidcompress", "tune", "--data", str(data), *WORDS]
    words += ["--out", str(tmp_path / "run")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list((tmp_path / "run").glob("*census*/answers.jsonl"))) < 1:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*/answers.jsonl")}
    assert 1 < len(before) < 7 and not (tmp_path / "run" / "tune.json").exists()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path, content in before.items():
        whole = content[: content.rindex(b"\n") + 1]
        assert set(whole.splitlines()) <= set(path.read_bytes().splitlines()), "no answer is lost"
    for path in out.glob("*/answers.jsonl"):
        assert path.read_bytes() == (tmp_path / "run" / path.parent.name / path.name).read_bytes()
    one, other = (json.loads((place / "tune.json").read_text()) for place in (out, tmp_path / "run"))
    assert {**one, "provenance": 0} == {**other, "provenance": 0}

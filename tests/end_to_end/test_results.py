"""`vidcompress results` and the launchers, from a sweep of the embedded model to the tables."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latex_reader import read_tables
from result_files import marks, row, run_of, write
from vidcompress.cli import main

ROOT = Path(__file__).parents[2]
LAUNCHERS = sorted((ROOT / "scripts").glob("eval_*.sh"))
SWEEP = """
name = "tiny"
ratios = [0.25]
methods = ["globalcom2", "random"]
tasks = [{ name = "shapes:image", questions = 4 }]
[[models]]
name = "tiny-onevision"
"""


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit, match="^0$"):
        main(["results", *words])
    return capsys.readouterr().out


def test_tables_pairs_plots_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = str(run_of(tmp_path / "run", questions=40))
    words = (run, "--pairs", "globalcom2,random", "--against", "published")
    out = shown(capsys, *words, "--plot", str(tmp_path / "plots"))
    assert "globalcom2 minus random" in out
    assert "against GlobalCom2 on LLaVA-NeXT-7B" not in out, "their scores have other names"
    assert "note: nothing to compare with GlobalCom2 on LLaVA-NeXT-7B" in out
    assert f"wrote 5 plots, as .svg and .png, to {tmp_path / 'plots'}" in out
    entry = json.loads(shown(capsys, *words, "--json"))
    assert entry.keys() == {"tables", "pairs", "published", "scores", "provenance", "notes", "plots"}
    assert [(pair["first"], pair["second"], pair["budget"]) for pair in entry["pairs"]] == [
        ("globalcom2", "random", budget) for budget in ("50 %", "25 %", "10 %")
    ]
    gap = entry["pairs"][0]["differences"]["gqa"]
    assert gap["low"] <= gap["mean"] <= gap["high"]
    assert gap["questions"] == 40


def test_parts_and_stars(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    unanswered = {"questions": 10, "value": None}
    kinds = {"popular": {"questions": 30, "value": 0.8}, "adversarial": unanswered}
    scores = {"accuracy": 0.9, "precision": 0.75, "yes_rate": 0.4, "other": 12.0}
    right, wrong = [1.0] * 40, [1.0] * 10 + [0.0] * 30
    entries = [
        row("data:mine", score=right, scores={**scores, "accuracy": 1.0}, per_kind=kinds),
        row("data:mine", "globalcom2", 0.25, score=right, scores=scores, per_kind=kinds),
        row("data:mine", "random", 0.25, score=wrong, scores={"accuracy": 0.25}),
    ]
    run = str(write(tmp_path / "run", entries))
    out = shown(capsys, run)
    assert "in parts" not in out and "Bold" not in out
    assert "90.0 (90.0)*" in out and "*: best of its group" in out
    (clear,) = (line for line in out.splitlines() if "-75.0 [" in line)
    assert clear.endswith("]*")
    lines = shown(capsys, run, "--parts").splitlines()
    head = next(line for line in lines if "popular" in line)
    assert head.split()[2:] == ["precision", "yes_rate", "other", "popular", "(30)"]
    assert "25 %        globalcom2       75.0      40.0   12.0          80.0" in lines
    assert "| 25 % | globalcom2 | 75.0 | 40.0 | 12.0 | 80.0 |" in shown(capsys, run, "--parts", "--markdown")
    entry = json.loads(shown(capsys, run, "--json"))["tables"][0]["rows"][1]["parts"]["data:mine"]
    assert entry == {"scores": scores, "kinds": {"popular": {"questions": 30, "value": 0.8}}}


def outcome(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    with pytest.raises(SystemExit, match="^0$"):
        main(["results", *words])
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_every_format_says_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = str(run_of(tmp_path / "run", questions=40))
    text, _ = outcome(capsys, run)
    assert outcome(capsys, run, "--format", "text")[0] == text
    marked = outcome(capsys, run, "--markdown")[0]
    assert (
        marked
        == outcome(capsys, run, "--format", "markdown")[0]
        == outcome(capsys, run, "--format", "markdown", "--markdown")[0]
    )
    entry = json.loads(outcome(capsys, run, "--json")[0])
    assert entry == json.loads(outcome(capsys, run, "--format", "json")[0])
    latex, said = outcome(capsys, run, "--format", "latex")
    assert said == "" and latex.startswith("% needs ")
    scores, differences = read_tables(latex)
    assert scores.caption == entry["tables"][0]["title"]
    for line, of_json in zip(
        [line for group in scores.groups for line in group], entry["tables"][0]["rows"], strict=True
    ):
        assert line[1][0] == of_json["method"]
        assert line[3][0].split()[0] == f"{100 * of_json['scores']['gqa']:.1f}"
        assert " & ".join(text for text, _ in line).replace(" & ", " | ") in marked.replace("**", "")
    bold = [line[3] for line in scores.groups[1] if line[3][1]]
    assert bold == [("75.0 (93.8)", True)], "the best of its group"
    assert len(differences.groups) == 3


def test_csv_is_alone_on_stdout_and_read_as_it_was_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entries = [
        row("data:=SUM(A1)", score=[1.0, 0.0, 1.0]),
        row(
            "data:=SUM(A1)",
            "globalcom2",
            0.25,
            score=[1.0, 0.0, 0.0],
            scores={"accuracy": 1 / 3, "=cmd": 0.5},
        ),
        row("data:=SUM(A1)", "fastv", 0.1, unreachable="-its floor, is 25 %"),
    ]
    for entry in entries:
        entry["model"]["name"] = "=HYPERLINK(1)"
    run = str(write(tmp_path / "run", entries))
    out, err = outcome(capsys, run, "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [(line["method"], line["score"]) for line in lines] == [
        ("none", "accuracy"),
        ("globalcom2", "accuracy"),
        ("globalcom2", "'=cmd"),
        ("fastv", "accuracy"),
    ]
    assert {line["model"] for line in lines} == {"'=HYPERLINK(1)"}
    assert lines[3]["unreachable"] == "'-its floor, is 25 %" and lines[3]["value"] == ""
    assert float(lines[1]["difference"]) == pytest.approx(-1 / 3) and lines[1]["difference"].startswith("-")
    assert "note: fastv at 10 % is empty" in err and f"run: {tmp_path / 'run'} (3 rows)" in err
    assert "note" not in out
    assert len({len(line) for line in csv.reader(io.StringIO(out))}) == 1
    people = outcome(capsys, run)[0]  # a control: their table is not what a data frame reads
    assert len({len(line) for line in csv.reader(io.StringIO(people))}) > 1


def test_a_run_against_a_baseline_in_every_format(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = {"provenance": {"machine": "another"}}
    new = write(
        tmp_path / "new",
        [row(score=marks(40, 0.9, 0)), row(method="random", ratio=0.5, score=marks(40, 0.9, 0))],
    )
    old = write(
        tmp_path / "old",
        [
            row(score=marks(40, 0.9, 0), **other),
            row(method="random", ratio=0.5, score=marks(40, 0.4, 0), **other),
        ],
    )
    here = {"provenance": {"machine": "this one"}}
    (new / "000" / "result.json").write_text(json.dumps(row(score=marks(40, 0.9, 0), **here)))
    words = (str(new), "--baseline", str(old))
    out, _ = outcome(capsys, *words)
    (line,) = (line for line in out.splitlines() if line.startswith("50 %"))
    assert line.split()[:7] == ["50", "%", "random", "90.0", "%", "40.0", "%"] and "+50.0 [" in line
    assert "note: rows differ in machine (this one: 1, another: 2)" in out
    assert out.count("\nrun: ") == 3
    (pair,) = (
        r for r in json.loads(outcome(capsys, *words, "--json")[0])["comparison"] if r["method"] == "random"
    )
    assert pair["difference"] == pytest.approx(0.5) and pair["baseline_value"] == pytest.approx(0.4)
    (of_csv,) = (
        r
        for r in csv.DictReader(io.StringIO(outcome(capsys, *words, "--format", "csv")[0]))
        if r["method"] == "random"
    )
    assert {key: "" if value is None else str(value) for key, value in pair.items()} == of_csv
    (table,) = read_tables(outcome(capsys, *words, "--format", "latex")[0])
    assert table.groups[1][0][1:4] == [("random", False), ("90.0 %", False), ("40.0 %", False)]
    assert table.groups[1][0][4][1], "a clear difference is bold"
    assert "| 50 % | random | 90.0 % | 40.0 % | **+50.0 " in outcome(capsys, *words, "--markdown")[0]
    with pytest.raises(SystemExit, match="^2$"):
        main(["results", str(new), "--baseline", str(run_of(tmp_path / "more", questions=50))])
    assert "40 and 50 questions, 40 ids shared" in capsys.readouterr().err


def test_what_is_not_ours_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="^2$"):
        main(["results", str(ROOT / "docs" / "results" / "shapes" / "tiny-next-image.json")])
    assert "is not of `vidcompress eval`, it has no schema" in capsys.readouterr().err


def test_ours_beside_theirs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given: dict[str, Any] = {"main": "exact_match"}
    entries = [
        row("lmms:gqa", scores={"exact_match": 0.64}, **given),
        row("lmms:gqa", "globalcom2", 0.25, scores={"exact_match": 0.6}, **given),
    ]
    out = shown(capsys, str(write(tmp_path / "run", entries)), "--against", "published")
    assert "64.0 / 64.2 (-0.2)" in out
    assert "60.0 / 61.5 (-1.5)" in out
    assert "not matched, not run: prumerge: PruMerge at 10 %" in out
    marked = shown(capsys, str(tmp_path / "run"), "--against", "published", "--markdown")
    assert "| 25 % | GlobalCom2 | 60.0 / 61.5 (-1.5) | – / 55.7 |" in marked
    own = str(ROOT / "configs" / "published" / "globalcom2-ablation-score.toml")
    assert "– / 68.1" in shown(capsys, str(tmp_path / "run"), "--against", own), (
        "a file is shown even if nothing fits"
    )


def test_reading_results_needs_no_torch(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", questions=4)
    probe = (
        "import sys\nfrom vidcompress.cli import main\n"
        f"try: main(['results', {str(run)!r}, '--against', 'published'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, env=environment())


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **offline, "PYTHONPATH": path, "PYTHON": sys.executable, **more}


@pytest.mark.parametrize("script", LAUNCHERS, ids=lambda path: path.name)
def test_launchers_are_sound(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    if script.name != "eval_lib.sh":
        assert os.access(script, os.X_OK)
        done = subprocess.run([str(script)], capture_output=True, text=True, env=environment())
        assert done.returncode != 0
        assert "name a sweep of configs/, or a TOML file" in done.stderr


@pytest.mark.slow
def test_one_gpu_from_sweep_to_table(tmp_path: Path) -> None:
    """From another folder, with options of eval."""
    (tmp_path / "tiny.toml").write_text(SWEEP)
    command = [str(ROOT / "scripts" / "eval_one_gpu.sh"), "tiny.toml", "--batch-size", "2"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.startswith("tiny-onevision\nretention   method")
    assert "note: no published table is about tiny-onevision" in done.stdout
    results = sorted((tmp_path / "runs" / "tiny").glob("*/result.json"))
    assert len(results) == 3


@pytest.mark.slow
def test_several_gpus_means_several_processes(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SWEEP)
    command = [
        str(ROOT / "scripts" / "eval_gpus.sh"),
        "tiny.toml",
        "--batch-size",
        "2",
        "--methods",
        "random",
    ]
    environ = environment(GPUS="2", OUT=str(tmp_path / "out"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environ, check=True)
    assert "25 %        random" in done.stdout
    begun = [json.loads(line) for log in (tmp_path / "out").glob("*/run.jsonl") for line in log.open()]
    assert {entry["processes"] for entry in begun if entry["event"] == "start"} == {2}

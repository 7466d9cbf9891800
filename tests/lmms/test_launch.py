"""lmms-eval in processes of its own: one, two, and one of them killed."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lmms_tasks import shapes
from vidcompress import ArgumentError
from vidcompress.tools.evaluation.lmms_eval import launch
from vidcompress.tools.evaluation.lmms_eval.arguments import as_read
from vidcompress.tools.evaluation.lmms_eval.launch import LmmsError, run_lmms
from vidcompress.tools.evaluation.lmms_eval.record import read_times
from vidcompress.tools.runs.journal import rank_paths

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lmms_eval") is None, reason="lmms-eval is not installed (make install does it)"
)
ARGS = {"pretrained": "tiny-onevision", "method": "globalcom2", "retention_ratio": 0.25}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lmms") / "tasks"
    shapes(folder)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tasks.parent / "hub"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run(tasks: Path, out: Path, **options: Any) -> dict[str, Any]:
    return run_lmms(
        "vc_images",
        **{
            "model_args": ARGS,
            "out": out,
            "journal": out / "answers.jsonl",
            "include_path": tasks,
            "batch_size": 2,
            **options,
        },
    )


COUNTS = ("main", "scores", "samples", "tokens", "failed", "version", "revision", "split")


@pytest.mark.slow
def test_two_processes_one_of_them_killed_end_with_what_one_process_gives(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(tasks, tmp_path / "alone")
    assert alone["main"] == "acc" and alone["scores"]["acc"] > 0.5
    assert alone["samples"]["id"] == [f"vc_images/{number}" for number in range(12)]
    assert (
        alone["tokens"]["kept"]
        == alone["tokens"]["budget"]
        == pytest.approx(alone["tokens"]["total"] / 4, abs=1)
    )
    assert alone["time_to_first_token_ms"]["mean"] > 0 and alone["questions_per_second"] > 0

    fuse = tmp_path / "fuse"
    fuse.touch()
    monkeypatch.setenv("SHAPES_FUSE", str(fuse))
    pair = tmp_path / "pair"
    with pytest.raises(
        LmmsError, match=r"lmms-eval failed over 'vc_images' \(exit code 1\); run it again to go on"
    ):
        run(tasks, pair, processes=2)
    assert not fuse.exists()
    assert len(rank_paths(pair / "answers.jsonl")) == 1
    answered = set(read_times(pair / "answers.jsonl"))
    assert {"vc_images/1", "vc_images/3"} <= answered  # what the killed process had finished: its first batch

    together = run(tasks, pair, processes=2)
    assert {name: together[name] for name in COUNTS} == {name: alone[name] for name in COUNTS}
    assert (pair / "answers.jsonl").read_bytes() == (tmp_path / "alone" / "answers.jsonl").read_bytes()
    assert not rank_paths(pair / "answers.jsonl")
    assert sorted(start["rank"] for start in together["starts"]) == [0, 0, 1, 1]
    times = [line for line in (pair / "answers.times").read_text().splitlines() if "timing_ms" in line]
    assert len(times) == 12  # nothing was answered twice


def pretend(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Start this in the place of lmms-eval."""
    monkeypatch.setattr(launch, "_starter", lambda processes: [sys.executable, "-c", program])


def test_the_exit_code_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "print('Traceback: all is lost')")
    with pytest.raises(LmmsError, match=r"(?s)ended over 'vc_images' without writing results; .*all is lost"):
        run(tmp_path, tmp_path)
    pretend(monkeypatch, "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(
        LmmsError, match=r"failed over 'vc_images' \(killed by signal 11\); run it again to go on"
    ):
        run(tmp_path, tmp_path)


def test_silence_is_ended_with_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "child"
    sleeper = "import time; time.sleep(60)"
    program = (
        "import subprocess, sys, time; "
        f"child = subprocess.Popen([sys.executable, '-c', {sleeper!r}]); "
        f"open({str(note)!r}, 'w').write(str(child.pid)); {sleeper}"
    )
    pretend(monkeypatch, program)
    with pytest.raises(LmmsError, match="no answer and no output for 1 seconds and was ended"):
        run(tmp_path, tmp_path, silence=1)
    for _ in range(100):
        if not alive(int(note.read_text())):
            break
        time.sleep(0.05)
    assert not alive(int(note.read_text()))


def alive(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_without_lmms_eval_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(LmmsError, match=r"lmms-eval is not installed; pip install '.\[eval\]'"):
        run(tmp_path, tmp_path)


def test_values_are_read_as_lmms_eval_reads_them() -> None:
    from lmms_eval.utils import simple_parse_args_string

    texts = ("true", "False", "2880", "0.25", "1e5", "-3", "nan", "x=y", "a/b", "[1]", "None", "٣")
    for text in texts:
        assert repr(simple_parse_args_string(f"name={text}")["name"]) == repr(as_read(text))
    for text in ("it's", "a[b"):  # refused, for what comes next would be lost
        assert simple_parse_args_string(f"name={text},next=1") != {"name": text, "next": 1}


def test_arguments_are_refused_before_anything_is_started(tmp_path: Path) -> None:
    where = {"out": tmp_path / "out", "journal": tmp_path / "answers.jsonl"}
    for options, said in (
        (
            {"model_args": {**ARGS, "max_frames": 8}},
            "max_frames=8: no such model argument.*did you mean 'max_frames_num'",
        ),
        ({"model_args": {**ARGS, "method": "a,b"}}, "method='a,b' holds a comma"),
        ({"model_args": ARGS, "processes": 0}, "processes=0: must be a whole number of at least 1"),
        ({"model_args": ARGS, "limit": 0}, "limit=0: must be a whole number of at least 1"),
        ({"model_args": ARGS, "batch_size": 0}, "batch_size=0: must be a whole number of at least 1"),
        ({"model_args": ARGS, "silence": 0}, "silence=0: must be a positive number of seconds"),
        ({"model_args": {}}, "pretrained is missing"),
    ):
        with pytest.raises(ArgumentError, match=said):
            run_lmms("vc_images", **{**where, **options})
    assert not (tmp_path / "out").exists()

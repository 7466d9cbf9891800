"""The child process behind decord and the doctor: answers, bytes behind them, deaths, time limits."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vidcompress.media.subprocess_worker import SubprocessWorker, WorkerError

CHILD = """
import json, os, signal, subprocess, sys, time
for line in sys.stdin:
    request = json.loads(line)
    do, count = request["do"], request.get("count", 0)
    if do == "heir": subprocess.Popen(["sleep", "60"], close_fds=False); time.sleep(60)
    if do == "sleep": time.sleep(60)
    if do == "quiet": os.close(1); time.sleep(60)
    if do == "abort": print("the reason", file=sys.stderr, flush=True); os.abort()
    if do == "leave": sys.exit(3)
    body = bytes(range(256)) * (count // 256)
    if do == "short": body = body[:-1]
    answer = {"pid": os.getpid(), "count": count}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\\n" + body)
    sys.stdout.buffer.flush()
    if do == "short": os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def child(tmp_path: Path) -> str:
    path = tmp_path / "child.py"
    path.write_text(CHILD)
    return str(path)


@pytest.fixture
def worker(child: str) -> Iterator[SubprocessWorker]:
    made = SubprocessWorker(child, keeps_stderr=True)
    yield made
    made.close()


def ask(
    worker: SubprocessWorker, do: str, count: int = 0, seconds: float = 30
) -> tuple[dict[str, Any], bytes]:
    answer, content = worker.ask({"do": do, "count": count}, seconds, lambda answer: int(answer["count"]))
    return answer, bytes(content)


def test_answers_and_the_bytes_behind_them_come_from_one_process(worker: SubprocessWorker) -> None:
    assert not worker.is_alive
    first, nothing = ask(worker, "answer")
    second, content = ask(worker, "answer", 2**20)
    assert first["pid"] == second["pid"] != os.getpid()
    assert nothing == b""
    assert content == bytes(range(256)) * 2**12
    assert worker.is_alive
    worker.close()
    assert not worker.is_alive
    assert ask(worker, "answer")[0]["pid"] != first["pid"]


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("abort", r"^crashed \(SIGABRT\): the reason$"),
        ("leave", "^died with exit code 3$"),
        ("short", r"^crashed \(SIGKILL\)$"),
    ],
)
def test_a_death_says_how_and_the_next_request_is_answered(
    worker: SubprocessWorker, do: str, message: str
) -> None:
    first, _ = ask(worker, "answer")
    with pytest.raises(WorkerError, match=message) as caught:
        ask(worker, do, 2**20)
    assert not caught.value.timed_out
    assert ask(worker, "answer")[0]["pid"] != first["pid"]


@pytest.mark.parametrize("do", ["sleep", "heir", "quiet"])
def test_what_takes_too_long_is_ended_with_its_own_children(worker: SubprocessWorker, do: str) -> None:
    ask(worker, "answer")  # so that the start is not in the time
    begun = time.monotonic()
    with pytest.raises(WorkerError, match="^took longer than 1.5 s and was stopped$") as caught:
        ask(worker, do, seconds=1.5)
    assert time.monotonic() - begun < 20, "a child of the child does not hold the pipe open"
    assert caught.value.timed_out
    assert not worker.is_alive
    assert ask(worker, "answer")[0]["count"] == 0


def test_a_limit_of_one_request_is_none_of_the_next(worker: SubprocessWorker) -> None:
    first, _ = ask(worker, "answer", seconds=5)
    time.sleep(6)
    assert ask(worker, "answer")[0]["pid"] == first["pid"]


def test_without_stderr_a_death_says_only_how(child: str) -> None:
    worker = SubprocessWorker(child)
    with pytest.raises(WorkerError, match=r"^crashed \(SIGABRT\)$"):
        ask(worker, "abort")


def test_the_environment_is_the_one_given() -> None:
    code = "import json, os, sys; sys.stdin.readline(); print(json.dumps(dict(os.environ)), flush=True)"
    worker = SubprocessWorker("-c", code, environment={"ONLY": "this", "PATH": os.environ["PATH"]})
    answer, _ = worker.ask({}, 30)
    assert answer["ONLY"] == "this"
    assert "HOME" not in answer
    worker.close()

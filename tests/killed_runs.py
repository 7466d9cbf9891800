"""Runs an evaluation that is killed again and again: `python killed_runs.py BENCHMARK OUT KILLS SEED`.

The model is loaded once; every run is a process of its own, made by fork, that works the real runner, and dies of
SIGKILL at a random moment. The last one is left alone; where one comes to its end before, the next begins another folder.
Prints one JSON object: how many answers there were at every kill, and which folders came of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import vidcompress
from vidcompress.evaluate.checkpoints import Checkpoints
from vidcompress.evaluate.runner import Runner, _where_from
from vidcompress.evaluate.sweep_file import read_sweep


def sweep_of(folder: str) -> object:
    """The sweep that is killed: two rows, groups among the questions, a method that draws at random."""
    return read_sweep(
        {
            "models": ["tiny-onevision"],
            "tasks": [f"data:{folder}"],
            "methods": ["random"],
            "ratios": [0.3],
            "batch_size": 3,
        }
    )


def start(run: Runner) -> int:
    """The id of a process that works."""
    child = os.fork()
    if child == 0:
        outcomes = run.run()
        os._exit(0 if all(outcome.error is None for outcome in outcomes) else 3)
    return child


def ended(child: int, seconds: float) -> bool:
    """Whether a process comes to its end within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        time.sleep(0.002)
    return False


def answered(out: Path) -> int:
    """Lines of all journals, whole or torn."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("*/answers.jsonl"))


def main(folder: str, out: Path, kills: int, seed: int) -> None:
    """Kill `kills` runs, then let one finish."""
    torch.set_num_threads(1)
    qa = vidcompress.VisualQA.from_pretrained(device="cpu")
    loaded = qa.model, qa.processor
    _where_from()  # asks git, once for all runs

    def runner(out: Path) -> Runner:
        return Runner(sweep_of(folder), out, models=Checkpoints(lambda spec: loaded))

    begin = time.monotonic()
    assert os.waitpid(start(runner(out / "whole")), 0)[1] == 0
    took = time.monotonic() - begin
    rng = random.Random(seed)
    folders, moments = [out / "killed0"], []
    while len(moments) < kills:
        child = start(runner(folders[-1]))
        # Half of the moments come early, so that starting, reading back and going on are hit as well as answering.
        if ended(child, rng.uniform(0, took / (4 if rng.random() < 0.5 else 12))):
            assert os.waitpid(child, 0)[1] == 0
            folders.append(out / f"killed{len(folders)}")
            continue
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        moments.append(answered(folders[-1]))
    assert os.waitpid(start(runner(folders[-1])), 0)[1] == 0
    print(json.dumps({"moments": moments, "folders": [folder.name for folder in folders], "seconds": took}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

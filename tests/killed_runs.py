"""Runs an evaluation that is killed again and again: `python killed_runs.py BENCHMARK OUT KILLS SEED [MODEL]`.

The model is loaded once; every run is a process of its own, made by fork, that works the real runner, and dies of
SIGKILL at a random moment: after none to three batches and a random time. The last one is left alone; where one comes
to its end before, the next begins another folder.
Prints one JSON object: how many bytes of answers there were at every kill, and which folders came of them.
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
from vidcompress.tools.evaluation.run.model_cache import ModelCache
from vidcompress.tools.evaluation.run.runner import Runner, _provenance
from vidcompress.tools.evaluation.run.sweep_file import read_sweep


def sweep_of(folder: str, model: str) -> object:
    """The sweep that is killed: two rows, groups among the questions, a method that draws at random."""
    return read_sweep(
        {
            "models": [model],
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


def ended(child: int, out: Path, batches: int, seconds: float) -> bool:
    """Whether a process comes to its end before it has written so many batches and worked some seconds more."""
    size, until = written(out), None
    while True:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        if written(out) != size:
            size, batches = written(out), batches - 1
        if batches <= 0:
            until = until or time.monotonic() + seconds
            if time.monotonic() >= until:
                return False
        time.sleep(0.002)


def written(out: Path) -> int:
    """Bytes of all journals."""
    return sum(path.stat().st_size for path in out.glob("*/answers.jsonl"))


def main(folder: str, out: Path, kills: int, seed: int, model: str = "tiny-onevision") -> None:
    """Kill `kills` runs, then let one finish."""
    torch.set_num_threads(1)
    qa = vidcompress.VisualQA.from_pretrained(model, device="cpu")
    loaded = qa.model, qa.processor
    _provenance()  # asks git, once for all runs

    def runner(out: Path) -> Runner:
        return Runner(sweep_of(folder, model), out, models=ModelCache(lambda spec: loaded))

    begin = time.monotonic()
    assert os.waitpid(start(runner(out / "whole")), 0)[1] == 0
    took = time.monotonic() - begin
    rng = random.Random(seed)
    folders, moments = [out / "killed0"], []
    while len(moments) < kills:
        child = start(runner(folders[-1]))
        if ended(child, folders[-1], rng.randint(0, 3), rng.uniform(0, took / 12)):
            assert os.waitpid(child, 0)[1] == 0
            folders.append(out / f"killed{len(folders)}")
            continue
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        moments.append(written(folders[-1]))
    assert os.waitpid(start(runner(folders[-1])), 0)[1] == 0
    print(json.dumps({"moments": moments, "folders": [folder.name for folder in folders], "seconds": took}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])

"""Several processes share a run: two give what one gives, and one that dies is noticed and made up for."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate import PartialState

from benchmark_folder import write_benchmark
from vidcompress.tools.evaluation.run.distributed import RankError, Ranks
from vidcompress.tools.evaluation.run.model_cache import ModelCache
from vidcompress.tools.evaluation.run.runner import Runner
from vidcompress.tools.evaluation.run.sweep_file import read_sweep

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
DYING = str(Path(__file__).parents[1] / "dying_rank.py")
SAME = ("samples", "scores", "per_kind", "tokens", "failed", "task", "settings", "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_benchmark(tmp_path_factory.mktemp("data") / "bench", pictures=9)


def run_here(data, out, qa):
    """One process."""
    found = {"models": ["tiny-onevision"], "tasks": [f"data:{data}"], "methods": ["random"], "ratios": [0.3]}
    return Runner(
        read_sweep({**found, "batch_size": 2, "limit": 16}),
        out,
        models=ModelCache(lambda spec: (qa.model, qa.processor)),
    ).run()


@pytest.fixture(scope="module")
def whole(data, qa, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, run_here(data, out, qa)


def words(data, out):
    return (
        *(
            "eval",
            "--data",
            str(data),
            "--methods",
            "random",
            "--retention-ratios",
            "0.3",
            "--batch-size",
            "2",
        ),
        *("--limit", "16", "--out", str(out)),
    )


def same(whole, out):
    there, outcomes = whole
    for outcome in outcomes:
        name = outcome.row.id
        assert (out / name / "answers.jsonl").read_bytes() == (there / name / "answers.jsonl").read_bytes()
        result = json.loads((out / name / "result.json").read_text())
        assert {key: result[key] for key in SAME} == {key: outcome.result[key] for key in SAME}
        assert not list((out / name).glob("answers.rank*"))
        assert result["times_ms"]["encode"]["mean"] > 0
    return True


def test_two_processes_give_what_one_gives(whole, data, tmp_path):
    done = subprocess.run(
        [*TORCHRUN, "-m", "vidcompress", *words(data, tmp_path)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 1, "the broken pictures; " + done.stderr[-2000:]
    assert done.stderr.count("question 'broken': ") == 2, "one process speaks"
    assert done.stdout.count("tiny-onevision") == 2, "one table, of scores and differences"
    assert same(whole, tmp_path)
    events = "".join(path.read_text() for path in tmp_path.glob("*/run*.jsonl"))
    assert events.count('"event":"start"') == 2, "one for each row"
    assert '"processes":2' in events


def test_a_process_that_dies_fails_the_run_and_the_next_one_goes_on(whole, data, qa, tmp_path):
    done = subprocess.run(
        [*TORCHRUN, DYING, "1", "2", *words(data, tmp_path)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    (died,) = re.findall(r"dying at ([\d.]+)", done.stderr)
    assert time.time() - float(died) < 60, "seconds, on a machine that does nothing else"
    assert done.returncode != 0
    assert re.search(r"exitcode\s*: -9 .*", done.stderr), done.stderr[-2000:]
    kept = [line for path in tmp_path.glob("*/answers*.jsonl") for line in path.read_bytes().splitlines()[1:]]
    assert 0 < len(kept) < 2 * 16
    assert list(tmp_path.glob("*/answers.rank1.jsonl")), "what the dead one had answered is there"
    assert not list(tmp_path.glob("*/result.json"))
    outcomes = run_here(data, tmp_path, qa)
    assert outcomes[0].resumed == len({json.loads(line)["id"] for line in kept}) > 2
    assert same(whole, tmp_path)


def test_a_lost_connection_is_one_error(monkeypatch):
    def closed(values):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr("accelerate.utils.gather_object", closed)
    ranks = Ranks()
    assert ranks.gather(1) == [1], "one process asks no other"
    ranks.rank, ranks.size = 1, 2
    with pytest.raises(
        RankError, match=r"process 1 of 2: another one has ended \(.*closed by peer.*run the same"
    ):
        ranks.gather(1)


def test_accelerate_is_left_as_it_was(monkeypatch):
    monkeypatch.setattr(PartialState, "_shared_state", {})
    with Ranks() as ranks:
        assert (ranks.rank, ranks.size, ranks.local, ranks.here, ranks.first) == (0, 1, 0, 1, True)
        assert PartialState._shared_state
    assert PartialState._shared_state == {}
    before = dict(vars(PartialState()))
    with Ranks():
        pass
    assert PartialState._shared_state == before, "that of the program stays"

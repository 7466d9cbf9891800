"""Runs that are killed at random moments and go on end as if nothing had been."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

from benchmark_folder import write_benchmark

SCRIPT = Path(__file__).parents[1] / "killed_runs.py"
KILLS = 20
TIMES = (
    "times_ms",
    "time_to_first_token_ms",
    "questions_per_second",
    "peak_memory_bytes",
    "restarts",
    "provenance",
)


def test_twenty_kills_leave_no_trace_in_the_answers(tmp_path):
    data = write_benchmark(tmp_path / "data", pictures=24)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(data), str(tmp_path), str(KILLS), "3"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["moments"]) == KILLS
    assert len(set(told["moments"])) >= 4, "they hit the run at different places"
    rows = sorted(path.name for path in (tmp_path / "whole").glob("*--*"))
    assert len(rows) == 2
    starts = 0
    for folder, row in itertools.product(told["folders"], rows):
        whole, killed = tmp_path / "whole" / row, tmp_path / folder / row
        assert (whole / "answers.jsonl").read_bytes() == (killed / "answers.jsonl").read_bytes()
        one, other = (json.loads((place / "result.json").read_text()) for place in (whole, killed))
        for name in set(one) - set(TIMES):
            assert one[name] == other[name], name
        assert (one["task"]["questions"], len(one["failed"])) == (32, 3)
        starts += 1 + other["restarts"]
        assert {path.name for path in killed.iterdir()} == {"answers.jsonl", "run.jsonl", "result.json"}
    assert starts > 2 * len(told["folders"]), "the restarts are on record"

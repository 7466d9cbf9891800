"""`vidcompress eval` on the newer families: killed runs go on, processes share a run, and the frame rule is stated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark_folder import write_benchmark
from family_folders import CLIPS, FOLDERS

SCRIPT = Path(__file__).parents[1] / "killed_runs.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
RULES = {
    "smolvlm": "CentreRule(num_frames=64, fps=1.0)",
    "qwen3_5": "PacedRule(num_frames=None, fps=2.0, min_frames=4, most_frames=768, multiple=1, spread='nearest')",
    "glm4v": "SecondsRule(num_frames=None, fps=2.0, max_duration=300.0)",
}


@pytest.fixture(scope="module", params=FOLDERS)
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Family, model and data folder, the folder of the runs, and what the script tells of them."""
    family, out = request.param, tmp_path_factory.mktemp(request.param)
    model = FOLDERS[family](out / "model")
    data = write_benchmark(out / "data", pictures=9, broken=False, clip=family in CLIPS)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(data), str(out), "3", "5", str(model)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return family, model, data, out, json.loads(done.stdout.splitlines()[-1])


def rows(folder: Path) -> dict[str, Path]:
    found = {path.name.split("--")[-3]: path for path in folder.glob("*--*")}
    assert set(found) == {"none", "random"}
    return found


def test_killed_runs_go_on_as_if_nothing_had_been(killed: Any) -> None:
    family, _, _, out, told = killed
    assert len(told["moments"]) == 3
    whole, seen = rows(out / "whole"), {}
    for folder in told["folders"]:
        for method, row in rows(out / folder).items():
            assert (row / "answers.jsonl").read_bytes() == (whole[method] / "answers.jsonl").read_bytes()
    for method, row in whole.items():
        result = json.loads((row / "result.json").read_text())
        assert result["failed"] == [] and result["unreachable"] is None
        assert result["settings"].get("frame_rule") == RULES.get(family)
        assert result["model"]["family"] == family
        seen[method] = [
            json.loads(line)["answer"] for line in (row / "answers.jsonl").read_text().splitlines()[1:]
        ]
    assert len(set(seen["none"])) > 1 and seen["none"] != seen["random"], "answers depend on what is sent"


def test_two_processes_give_what_one_gives(killed: Any, tmp_path: Path) -> None:
    family, model, data, out, _ = killed
    if family not in CLIPS:
        pytest.skip("families with clips take pictures too")
    words = ["eval", "--data", str(data), "--model", str(model), "--methods", "random", "--batch-size", "3"]
    words += ["--retention-ratios", "0.3", "--out", str(tmp_path / "shared")]
    done = subprocess.run(
        [*TORCHRUN, "-m", "vidcompress", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    whole = rows(out / "whole")
    for method, row in rows(tmp_path / "shared").items():
        ours, theirs = (
            (place / "answers.jsonl").read_text().splitlines()[1:] for place in (whole[method], row)
        )
        assert ours == theirs
        assert '"processes":2' in "".join(path.read_text() for path in row.glob("run*.jsonl"))

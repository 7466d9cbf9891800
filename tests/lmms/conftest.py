"""lmms-eval in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidcompress.tools.evaluation.lmms_eval.launch import _environment

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run evaluations: (jobs, include_path, hub, path) to what came of each by its name."""
    if importlib.util.find_spec("lmms_eval") is None:
        pytest.skip("lmms-eval is not installed (make install does it)")

    def run(jobs: list[dict[str, Any]], include_path: Path, hub: Path, path: str = "") -> Any:
        out = tmp_path_factory.mktemp("probe") / "found.json"
        given = {"jobs": jobs, "include_path": [str(include_path)], "out": str(out)}
        with _environment("cpu", 1, "llava_vid") as environment:
            environment |= {"HF_HOME": str(hub), "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [path, environment["PYTHONPATH"]]))
            done = subprocess.run(
                [sys.executable, str(TESTS / "lmms_probe.py")],
                input=json.dumps(given),
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
            )
        assert done.returncode == 0, done.stderr[-3000:]
        print("\n".join(line for line in done.stderr.splitlines() if "s of processor time" in line))
        return json.loads(out.read_text())

    return run

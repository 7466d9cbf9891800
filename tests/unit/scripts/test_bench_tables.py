"""docs/performance.md holds what the result files say, and the script that writes it reads every kind of result."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
QUANTITIES = ("first token, ms", "first token, processor ms", "compress, ms", "peak, MiB")


def script_module(name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """scripts/bench_tables.py as a module."""
    return script_module("bench_tables")


def test_the_page_is_in_step_with_the_results(script: ModuleType) -> None:
    pages = (PAGE, (ROOT / "docs" / "long-video.md").read_text(encoding="utf-8"))
    assert {name for page in pages for _, name, _ in script.MARK.findall(page)} == set(script.TABLES)
    for page in pages:
        assert script.fill(page, ROOT / "docs" / "results") == page


def test_a_table_takes_the_place_of_what_stood_there(script: ModuleType, tmp_path: Path) -> None:
    where = {
        "commit": "a" * 40,
        "dirty": False,
        "command": "python x.py",
        "machine": "m",
        "threads": 1,
        "device": "cpu",
    }
    curve = {"exponent": 1.04, "r2": 0.999, "slope": 2.5}
    result: dict[str, Any] = {
        "growth": {"video": {quantity: {"globalcom2 0.1": curve} for quantity in QUANTITIES}},
        "provenance": where,
    }
    (tmp_path / "length.json").write_text(json.dumps(result))
    filled = script.fill("<!-- bench:length -->\nold\n<!-- /bench -->\n", tmp_path)
    cells = " | ".join(["1.04 (0.9990)"] * 4)
    assert "old" not in filled
    assert f"| video, `globalcom2 0.1` | {cells} | 2.5 | 2.5 |" in filled
    assert "`python x.py` at commit aaaaaaaaaa; m, 1 threads, cpu." in filled
    assert script.fill("<!-- bench:bench_cpu -->\nold\n<!-- /bench -->\n", tmp_path).count("old") == 1


def test_a_verdict_is_not_met_by_rows_that_were_not_measured() -> None:
    settled = script_module("bench_cpu").settled
    rows = [{"retention_ratio": ratio} for ratio in (1.0, 0.25, 0.1)]
    cases = {"image": {"groups": [{"rows": rows}]}, "embedded": {"groups": [{"rows": rows}]}}
    good = {"fast": True, "fast_when_alone": True, "small": True}
    assert settled(cases, {"image": [good, good], "embedded": []}) == good
    bad = dict.fromkeys(good, False)
    assert settled(cases, {"image": [good], "embedded": []}) == bad
    assert settled({}, {}) == bad
    assert settled(cases, {"image": [good, good | {"fast": False}]}) == good | {"fast": False}
    unmeasured = {"fast": True, "fast_when_alone": True}  # memory failed
    assert settled(cases, {"image": [good, unmeasured]}) == good | {"small": False}


def test_the_table_of_a_gpu_says_what_is_not_in_it(script: ModuleType) -> None:
    where = {"commit": None, "dirty": False, "command": "c", "machine": "m", "threads": 1, "device": "H200"}
    spread = {"min": 10.0, "median": 12.0}
    summary = {
        "first_token_ms": spread,
        "samples_per_s": {"16": 3.5},
        "peak_bytes": {"all": 23e9},
        "share": {"encode": 0.2, "compress": 0.01, "prefill": 0.5},
        "against": {
            "first_token": {"median": 2.5},
            "flops": 2.75,
            "samples_per_s": {"16": 1.9},
            "peak_above": 0.2,
        },
    }
    fine = {"method": "globalcom2", "budget": "0.1", "skipped": None, "summary": summary}
    full = {"method": "none", "budget": "1", "skipped": "out of memory"}
    run = {
        "plan": {"new_tokens": [1, 16]},
        "groups": [{"name": "128 frames, batch 8", "rows": [full, fine]}],
        "complete": False,
        "provenance": where,
    }
    aims = {"x": [{"met": True}, {"met": False}]}
    said = script.gpu({"runs": {"x": run, "y": run | {"complete": True}}, "aims": aims, "provenance": where})
    cells = "0.1 | 12.0 | 3.50 | 23.0 | 20 / 1 / 50 | 2.50 (2.75) | 1.90 x | 20 |"
    assert f"| x, 128 frames, batch 8, `globalcom2` | {cells}" in said
    assert "Not measured: y, 128 frames, batch 8, `none` at 1: out of memory." in said
    assert said.count("Incomplete: ") == 1 and "1 of 2 aims met." in said
    assert said.count("`c` at commit unknown; m, 1 threads, H200.") == 1

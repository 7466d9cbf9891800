"""docs/performance.md holds what the result files say, and the script that writes it reads every kind of result."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
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
    assert {name for _, name, _ in script.MARK.findall(PAGE)} == set(script.TABLES)
    assert script.fill(PAGE, ROOT / "docs" / "results") == PAGE


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

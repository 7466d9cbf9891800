"""The benchmark of selection: every method is in it, it goes on after a stop, and its loops compute what ours do."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

import bench_inputs
import bench_inside
import bench_select
from documents import documents
from refresh_documents import COST_FILE, ROOT, cost_table, with_tables
from vidcompress.core.method_lookup import available_methods, get_method

QUARTER = Fraction(1, 4)


@pytest.fixture(scope="module")
def scene() -> bench_inside.Scene:
    return bench_inside.Scene("clip", 200)


@pytest.mark.parametrize("name", bench_inside.LOOPED)
def test_loops_inside_the_model_are_what_ours_compute(name: str, scene: bench_inside.Scene) -> None:
    method = get_method(name, **bench_select.OPTIONS.get(name, {}))
    ours = bench_inside.ours(scene, method, QUARTER)
    assert ours.shape[1] < scene.width
    assert torch.allclose(ours, bench_inside.loop(scene, method, QUARTER), atol=1e-4)


@pytest.mark.parametrize("name", ["divprune", "cdpruner", "fastervlm", "evs", "random", "uniform"])
def test_loops_before_the_model_keep_what_ours_keep(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench_inputs.WIDTH, "clip", 128)
    method = get_method(name)
    tokens = bench_inputs.with_evidence(bench_inputs.clip_tokens(4, 128), method)
    loops = {**bench_select.bench_loops.LOOPS, "fastervlm": bench_select.attention_loops.LOOPS["fastervlm"]}
    loop = loops[name](tokens, 0.25) if name == "fastervlm" else loops[name](tokens)
    ours = bench_select.selecting(method, tokens)()
    same = (ours[:, None] == loop[None]).all(-1).any(1).float().mean()
    assert ours.shape == loop.shape
    assert same > 0.95, "all but where rounding decides between two tokens"


def test_every_method_is_timed_on_what_it_serves() -> None:
    cases = bench_select.all_cases(list(available_methods()), encoders=True)
    for side in ("ours", "loop"):
        timed = {(case.method, case.medium) for case in cases if case.side == side}
        assert timed >= {
            (name, "clip" if medium == "video" else "image")
            for name in (available_methods() if side == "ours" else bench_select.LOOPED)
            for medium in get_method(name).modalities
        }
    assert [case.medium for case in cases if case.side == "encoder"] == ["image", "clip"]


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    path, settings = tmp_path / "out.json.partial", {"commit": "a", "threads": 1}
    case = bench_select.Case("none", "image", "ours")
    bench_select.journal_of(path, settings).add([bench_select.measured(0, case, [1.5, 2.5])])
    path.write_text(path.read_text() + '{"case": "image none ours 64", "id": "1", "ms": [3.')
    again = bench_select.journal_of(path, settings)
    assert list(again.done.values()) == [bench_select.measured(0, case, [1.5, 2.5])]
    assert bench_select.times_so_far(again, case) == [1.5, 2.5]
    assert bench_select.times_so_far(again, replace(case, side="loop")) == []
    assert bench_select.journal_of(path, {**settings, "commit": "b"}).done == {}


def test_the_table_says_what_was_measured() -> None:
    journal = bench_select.journal_of(None, {})
    cases = bench_select.all_cases(["divprune"], encoders=True)
    for number, case in enumerate(cases):
        journal.add([bench_select.measured(0, case, [100.0 * (number + 1)])])
    rows = [asdict(row) for row in bench_select.rows_of(cases, journal)]
    assert [(row["medium"], row["select_ms"], row["loop_frames"]) for row in rows] == [
        ("image", 200.0, None),
        ("clip", 500.0, 8),
    ]
    assert [row["times_faster"] for row in rows] == [300 / 200, 700 / 600]
    origin = {"threads": 2, "machine": "two cores", "command": "python x.py", "commit": "0123456789abcdef"}
    text = cost_table({"rows": rows, "provenance": origin, "clock": "processor"})
    assert "| divprune | 200 | 1.5 x | 200.00 % | 500 | 1.2 x † | 1.95 % |" in text
    assert "`python x.py` at commit 0123456789." in text


def test_the_last_run_has_every_method() -> None:
    result = json.loads(COST_FILE.read_text(encoding="utf-8"))
    assert not result["provenance"]["dirty"]
    timed = {row["method"] for row in result["rows"]}
    later = bench_select.UNRUN
    assert not later & timed and bench_select.LOOPED - later <= timed <= set(available_methods()), (
        "a new method comes with the next run"
    )
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert f"<!-- selection -->\n{cost_table(result)}\n<!-- /selection -->" in page


def test_documents_hold_the_tables_of_the_committed_run() -> None:
    for page in documents():
        text = page.read_text(encoding="utf-8")
        assert with_tables(text, page) == text, page
    page = ROOT / "docs" / "performance.md"
    text = page.read_text(encoding="utf-8")
    start, end = "<!-- selection -->\n", "<!-- /selection -->"
    emptied = text[: text.index(start) + len(start)] + text[text.index(end) :]
    assert emptied != text
    assert with_tables(emptied, page) == text

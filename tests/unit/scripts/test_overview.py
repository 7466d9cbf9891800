"""Tables and verdicts of accuracy sweeps, on results small enough to check by hand."""

from __future__ import annotations

from typing import Any

import pytest

from shapes_accuracy.overview import (
    best_control,
    boosts,
    compare_with_controls,
    condensed,
    methods_of,
    overview,
)
from vidcompress.tools.evaluation.report.statistics import wilson


def row(method: str, ratio: float, right: int | str, of: int = 400) -> dict[str, Any]:
    marks = right if isinstance(right, str) else "1" * right + "0" * (of - right)
    share = marks.count("1") / len(marks)
    return {
        "method": method,
        "retention_ratio": ratio,
        "accuracy": share,
        "interval": list(wilson(marks.count("1"), len(marks))),
        "correct": marks,
    }


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "model": "tiny-m",
        "medium": "clip",
        "rows": [
            row("none", 1.0, 380),
            row("good", 0.5, 300),
            row("same", 0.5, "0" * 3 + "1" * 241 + "0" * 156),  # differs from random on seven questions
            row("bad", 0.5, 100),
            row("inner:schedule=fit", 0.5, 200),
            row("good+inner:schedule=fit", 0.5, 260),
            row("random", 0.5, 240),
            row("uniform", 0.5, 238),
            row("good", 0.1, 80),
            {"method": "frames", "retention_ratio": 0.1, "unreachable": "one frame is more"},
            row("random", 0.1, 60),
        ],
    }


def test_methods_before_compositions_before_controls(result: dict[str, Any]) -> None:
    assert methods_of([result]) == [
        "bad", "good", "inner:schedule=fit", "same", "good+inner:schedule=fit", "random", "uniform", "frames",
    ]  # fmt: skip


def test_verdicts_are_paired_against_the_best_control(result: dict[str, Any]) -> None:
    assert best_control(result, 0.5) == "random"
    assert compare_with_controls(result, 0.5) == {
        "better": ["good", "good+inner:schedule=fit"],
        "alike": ["same"],
        "worse": ["bad", "inner:schedule=fit"],
    }
    assert compare_with_controls(result, 0.1) == {"better": ["good"], "alike": [], "worse": []}


def test_overview_marks_best_fit_unreachable_and_unserved(result: dict[str, Any]) -> None:
    other = {"model": "tiny-n", "medium": "image", "rows": [row("none", 1.0, 390), row("bad", 0.5, 200)]}
    lines = overview([result, other]).splitlines()
    assert lines[0] == "| method | m clips, 0.5 | m clips, 0.1 | n images, 0.5 |"
    assert lines[2] == "| all tokens | 95.0 | 95.0 | 97.5 |"
    assert "| bad | 25.0 | – | **50.0** |" in lines
    assert "| good | **75.0** | **20.0** |  |" in lines
    assert "| inner:schedule=fit | 50.0 fit | – |  |" in lines
    assert "| frames | – | – |  |" in lines


def test_condensed_has_intervals(result: dict[str, Any]) -> None:
    low, high = (100 * x for x in wilson(300, 400))
    assert f"| good | 75.0 ({low:.1f} to {high:.1f}) |" in condensed(result)


def test_boosts_compare_with_the_inside_method_alone_and_behind_random(result: dict[str, Any]) -> None:
    text = boosts(result)
    # 60 of 400 questions more: mean 0.15, interval 1.96 sqrt(0.15 * 0.85 * 400 / 399 / 400)
    assert "| 0.5 | good+inner:schedule=fit | 65.0 fit | 50.0 fit | +15.0 ± 3.5 | – |  |" in text
    result["rows"].append(row("random+inner:schedule=fit", 0.5, 250))
    assert "| 62.5 fit | +2.5 ± 1.5 |" in boosts(result)

"""The README's table of figures, made from the result files that it links to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shapes_accuracy.overview import CONTROLS, cells_of
from vidcompress.tools.cost import allowed_ratio

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
METHOD = "globalcom2"
RATIOS = (0.25, 0.1)
INPUTS = {"image": "shapes/tiny-onevision-image", "video": "shapes/tiny-onevision-clip"}
"""Case of the benchmark to the accuracy run of the same medium."""

Rows = dict[tuple[str, float], dict[str, Any]]
Cells = dict[str, dict[str, Any]]


def figures_table() -> str:
    """Speed, memory and accuracy of one method at two budgets as a Markdown table, the controls beside it."""
    bench = json.loads((RESULTS / "bench_cpu.json").read_text(encoding="utf-8"))["verdicts"]
    timed = [{(row["method"], row["retention_ratio"]): row for row in bench[case]} for case in INPUTS]
    asked = [json.loads((RESULTS / f"{run}.json").read_text(encoding="utf-8")) for run in INPUTS.values()]
    lines = [
        ("", *("pictures, all tokens", "a quarter", "a tenth", "clips, all tokens", "a quarter", "a tenth")),
        ("---", *["---:"] * 6),
        _measured("speed-up of the [first token](docs/performance.md), measured", "1", timed, _speed),
        _measured("upper bound from operation counts", "1", timed, _allowed),
        _on_paper("the same of the whole LLaVA-OneVision-7B, [on paper](docs/cost.md)"),
        _measured("[peak memory of prefill](docs/performance.md)", "100 %", timed, _memory),
        _right(f"[right answers](docs/accuracy.md), `{METHOD}`", asked, lambda cells: METHOD),
        _right("best method", asked, _best, named=True),
        *[_right(f"`{name}`", asked, lambda cells, name=name: name) for name in ("random", "uniform")],
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _measured(title: str, whole: str, timed: list[Rows], cell: Callable[[dict[str, Any]], str]) -> list[str]:
    return [title, *(text for rows in timed for text in (whole, *(cell(rows[METHOD, r]) for r in RATIOS)))]


def _on_paper(title: str) -> list[str]:
    """Operations up to the first token, all of them over those with fewer tokens; no clock is read."""
    line = [title]
    for given in ({"size": (384, 768)}, {"frames": 32}):
        whole = {"model": "llava-onevision-7b", "method": METHOD, **given}
        line += ["1", *(f"{allowed_ratio(**whole, retention_ratio=ratio):.2f}" for ratio in RATIOS)]
    return line


def _speed(row: dict[str, Any]) -> str:
    """Ratio of the fastest rounds."""
    return f"{row['speed_up']['min']:.2f}"


def _allowed(row: dict[str, Any]) -> str:
    return f"{row['allowed']:.2f}"


def _memory(row: dict[str, Any]) -> str:
    return f"{100 * row['prefill_memory']:.0f} %"


def _right(
    title: str, asked: list[dict[str, Any]], choose: Callable[[Cells], str], named: bool = False
) -> list[str]:
    """Per cent of right answers of the method that `choose` picks in each column."""
    line = [title]
    for run in asked:
        line.append(f"{100 * cells_of(run, RATIOS[0])['none']['accuracy']:.1f} %")
        for ratio in RATIOS:
            cells = cells_of(run, ratio)
            method = choose(cells)
            name = f"`{method}` " if named else ""
            line.append(f"{name}{100 * cells[method]['accuracy']:.1f} %")
    return line


def _best(cells: Cells) -> str:
    """The method that answers most questions, the uncompressed model and the controls left out."""
    methods = [name for name in cells if name != "none" and name not in CONTROLS]
    return max(methods, key=lambda name: cells[name]["accuracy"])

"""The README's table of figures, made from the result files that it links to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shapes_accuracy.overview import CONTROLS, cells_of

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
METHOD = "globalcom2"
RATIOS = (0.25, 0.1)
INPUTS = {"pictures": ("image", "shapes/tiny-onevision-image"), "clips": ("video", "shapes/tiny-onevision-clip")}
"""Heading to the case of the benchmark and the file of the accuracy run."""


def figures_table() -> str:
    """Speed, memory and accuracy of one method at two budgets as a Markdown table, the controls beside it."""
    bench = json.loads((RESULTS / "bench_cpu.json").read_text(encoding="utf-8"))
    lines = []
    for heading, (case, run) in INPUTS.items():
        rows = {(row["method"], row["retention_ratio"]): row for row in bench["verdicts"][case]}
        shapes = json.loads((RESULTS / f"{run}.json").read_text(encoding="utf-8"))
        lines += [
            f"| **{heading}** | all tokens | a quarter | a tenth |" if not lines else f"| **{heading}** | | | |",
            *(["|---|---:|---:|---:|"] if not lines else []),
            _line("[first token](docs/performance.md), times as fast (operations allow)", "1", rows, _speed),
            _line("[peak memory of prefill](docs/performance.md)", "100 %", rows, _memory),
            _accuracy(f"[right answers](docs/accuracy.md), `{METHOD}`", shapes, lambda cells: METHOD),
            _accuracy("the best method", shapes, _best, named=True),
            _accuracy("`random`", shapes, lambda cells: "random"),
            _accuracy("`uniform`", shapes, lambda cells: "uniform"),
        ]
    return "\n".join(lines)


def _line(title: str, whole: str, rows: dict[Any, Any], cell: Any) -> str:
    return f"| {title} | {whole} | {' | '.join(cell(rows[METHOD, ratio]) for ratio in RATIOS)} |"


def _speed(row: dict[str, Any]) -> str:
    """Ratio of the fastest rounds, and the ratio of operations."""
    return f"{row['speed_up']['min']:.2f} ({row['allowed']:.2f})"


def _memory(row: dict[str, Any]) -> str:
    return f"{100 * row['prefill_memory']:.0f} %"


def _accuracy(title: str, shapes: dict[str, Any], choose: Any, named: bool = False) -> str:
    cells = []
    for ratio in RATIOS:
        by_method = cells_of(shapes, ratio)
        method = choose(by_method)
        name = f" (`{method}`)" if named else ""
        cells.append(f"{100 * by_method[method]['accuracy']:.1f} %{name}")
    whole = f"{100 * cells_of(shapes, RATIOS[0])['none']['accuracy']:.1f} %"
    return f"| {title} | {whole} | {' | '.join(cells)} |"


def _best(cells: dict[str, Any]) -> str:
    """The method that answers most questions, the uncompressed model and the controls left out."""
    methods = [name for name in cells if name != "none" and name not in CONTROLS]
    return max(methods, key=lambda name: cells[name]["accuracy"])

"""Tables of accuracy sweeps with the methods as rows, and paired tests against the controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidcompress.tools.evaluation.report.statistics import paired, paired_limits

CONTROLS = ("random", "uniform", "pool", "frames")
Row = dict[str, Any]


def cells_of(result: dict[str, Any], ratio: float) -> dict[str, Row]:
    """The rows of one retention ratio that have a figure, by method; `none` is in all of them."""
    return {
        row["method"]: row
        for row in result["rows"]
        if "accuracy" in row and (row["retention_ratio"] == ratio or row["method"] == "none")
    }


def ratios_of(result: dict[str, Any]) -> list[float]:
    """The retention ratios below 1, the largest first."""
    return sorted({row["retention_ratio"] for row in result["rows"] if row["method"] != "none"}, reverse=True)


def methods_of(results: Sequence[dict[str, Any]]) -> list[str]:
    """Every method of the results: single ones by name, then compositions, then controls."""
    names = {row["method"] for result in results for row in result["rows"]} - {"none"}
    return [
        *sorted(name for name in names if name not in CONTROLS and "+" not in name),
        *sorted(name for name in names if "+" in name),
        *(name for name in CONTROLS if name in names),
    ]


def overview(results: Sequence[dict[str, Any]]) -> str:
    """Overall accuracy in per cent: a line per method, a column per result and ratio, the best of each in bold.

    A dash is a budget that the method cannot reach, an empty cell a medium that it does not serve; `fit` marks cells
    that were reached with `schedule="fit"`.
    """
    columns = [(result, ratio) for result in results for ratio in ratios_of(result)]
    head = [f"{r['model'].removeprefix('tiny-')} {r['medium']}s, {ratio:g}" for r, ratio in columns]
    lines = ["| method | " + " | ".join(head) + " |", "|---|" + "---:|" * len(columns)]
    lines.append("| all tokens | " + " | ".join(_percent(r["rows"][0]) for r, _ in columns) + " |")
    best = [
        max(row["accuracy"] for name, row in cells_of(*column).items() if name != "none")
        for column in columns
    ]
    for method in methods_of(results):
        cells = []
        for (result, ratio), top in zip(columns, best, strict=True):
            row = cells_of(result, ratio).get(method)
            served = any(other["method"] == method for other in result["rows"])
            text = ("–" if served else "") if row is None else _percent(row)
            cells.append(f"**{text}**" if row is not None and row["accuracy"] == top else text)
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def condensed(result: dict[str, Any]) -> str:
    """One result: a line per method, per ratio the accuracy with its 95 % interval, in per cent."""
    ratios = ratios_of(result)
    lines = [
        "| method | " + " | ".join(f"{ratio:g}" for ratio in ratios) + " |",
        "|---|" + "---|" * len(ratios),
    ]
    lines.append("| all tokens | " + " | ".join([_with_interval(result["rows"][0])] * len(ratios)) + " |")
    for method in methods_of([result]):
        rows = [cells_of(result, ratio).get(method) for ratio in ratios]
        lines.append(
            f"| {method} | " + " | ".join("–" if r is None else _with_interval(r) for r in rows) + " |"
        )
    return "\n".join(lines) + "\n"


def compare_with_controls(result: dict[str, Any], ratio: float) -> dict[str, list[str]]:
    """Methods by how they stand to the best control of the ratio: `better`, `alike` or `worse`.

    Better and worse are paired differences on the same questions whose 95 % interval (`paired_limits`) leaves out zero;
    nothing is corrected for how many methods there are.
    """
    cells = cells_of(result, ratio)
    best = best_control(result, ratio)
    out: dict[str, list[str]] = {"better": [], "alike": [], "worse": []}
    for method in methods_of([result]):
        if method in CONTROLS or method not in cells:
            continue
        outcomes = list(zip(cells[method]["correct"], cells[best]["correct"], strict=True))
        low, high = paired_limits(
            sum(a > b for a, b in outcomes), sum(a < b for a, b in outcomes), len(outcomes)
        )
        out["better" if low > 0 else "worse" if high < 0 else "alike"].append(method)
    return out


def best_control(result: dict[str, Any], ratio: float) -> str:
    """The control of highest accuracy at a ratio."""
    cells = cells_of(result, ratio)
    return max((name for name in CONTROLS if name in cells), key=lambda name: cells[name]["accuracy"])


def boosts(result: dict[str, Any]) -> str:
    """What a method before the language model adds to one inside it: paired differences under the same budget."""
    lines = [
        "| budget | composition | accuracy % | the inside method alone | difference | behind `random` | difference |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for ratio in ratios_of(result):
        cells = cells_of(result, ratio)
        for method, row in cells.items():
            before, _, within = method.partition("+")
            if within and before != "random":
                against = [cells.get(within), cells.get(f"random+{within}")]
                figures = [_difference(row, other) for other in against]
                lines.append(
                    f"| {ratio:g} | {method} | {_percent(row)} | "
                    + " | ".join(" | ".join(f) for f in figures)
                    + " |"
                )
    return "\n".join(lines) + "\n"


def _difference(row: Row, other: Row | None) -> tuple[str, str]:
    if other is None:
        return "–", ""
    mean, half = paired(row["correct"], other["correct"])
    return _percent(other), f"{100 * mean:+.1f} ± {100 * half:.1f}"


def _percent(row: Row) -> str:
    return f"{100 * row['accuracy']:.1f}" + (" fit" if "schedule=fit" in row["method"] else "")


def _with_interval(row: Row) -> str:
    low, high = row["interval"]
    return f"{_percent(row)} ({100 * low:.1f} to {100 * high:.1f})"

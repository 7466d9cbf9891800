"""Growth of time and memory with the length of an input: a fitted line and the exponent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import linear_regression
from typing import Any

from vidcompress.tools.evaluation.report.plot_style import COLOURS, DASHES, MARKERS
from vidcompress.tools.runs.plot_files import figure_of, save

LINEAR = 1.1
"""Largest exponent between the middle and the end of a series that still counts as linear growth."""


def fit(lengths: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """Fit a line.

    Args:
        lengths: of the input, at least two different ones, ascending.
        values: of each.

    Returns:
        `slope` per unit of length and `intercept` (least squares), `r2`, the `exponent` of growth over the upper half
        of the series (log-log), and `linear`: whether it is at most `LINEAR`.
    """
    slope, intercept = linear_regression(lengths, values)
    mean = sum(values) / len(values)
    spread = sum((v - mean) ** 2 for v in values)
    left = sum((v - slope * n - intercept) ** 2 for n, v in zip(lengths, values, strict=True))
    start = min(len(lengths) // 2, len(lengths) - 2)
    logs = [[math.log(max(x, 1e-12)) for x in series[start:]] for series in (lengths, values)]
    exponent = linear_regression(*logs).slope
    return {
        "slope": slope,
        "intercept": intercept,
        "r2": 1 - left / spread if spread else 1.0,
        "exponent": exponent,
        "linear": exponent <= LINEAR,
    }


def series(result: dict[str, Any], modality: str) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Curves of a summarised run: quantity -> row -> (views, value).

    Args:
        result: with one group per length.
        modality: `image` or `video`; of images the thumbnail counts as a view.

    Returns:
        Milliseconds of `encode`, `compress`, `prefill` and to the `first token`, least of the rounds, and the processor
        time of the last, median; and MiB of `peak` memory above weights
        and pixels and of the `encode`, `compress` and `prefill` peaks.
    """
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for group in result["groups"]:
        if group["modality"] != modality:
            continue
        for row in group["rows"]:
            if "summary" not in row or not row["summary"]["visual"]:
                continue
            name = f"{row['method']} {row['budget']}"
            for quantity, value in _quantities(row["summary"]).items():
                curves.setdefault(quantity, {}).setdefault(name, []).append((float(group["views"]), value))
    return curves


def _quantities(summary: dict[str, Any]) -> dict[str, float]:
    found = {f"{name}, ms": spread["min"] for name, spread in summary["phases_ms"].items()}
    found["first token, ms"] = summary["first_token_ms"]["min"]
    found["first token, processor ms"] = summary["first_token_ms"]["busy"]
    if summary["peak_bytes"] is not None:
        above = summary["peak_bytes"]["above_by_phase"]
        found |= {
            f"{name}, MiB": above[name] / 2**20 for name in ("encode", "compress", "prefill") if name in above
        }
        found["peak, MiB"] = summary["peak_bytes"]["above"] / 2**20
    return found


def growth(result: dict[str, Any]) -> dict[str, Any]:
    """`fit` of every curve of a summarised run, by modality, quantity and row."""
    return {
        modality: {
            quantity: {
                name: {"points": points, **fit(*zip(*sorted(dict(points).items()), strict=True))}
                for name, points in rows.items()
                if len({n for n, _ in points}) > 2
            }
            for quantity, rows in series(result, modality).items()
        }
        for modality in ("image", "video")
    }


def draw_growth(found: dict[str, Any], path: Path, quantities: Sequence[str], title: str) -> None:
    """Draw points and their fitted lines: a row of panels per modality, a panel per quantity.

    The exponents above a panel are in the order of the legend.
    """
    modalities = [m for m in found if found[m]]
    names = list(dict.fromkeys(n for m in modalities for q in quantities for n in found[m].get(q, {})))
    figure = figure_of((4 * len(quantities), 0.4 + 3 * len(modalities)))
    axes = figure.subplots(len(modalities), len(quantities), squeeze=False)
    for modality, panels in zip(modalities, axes, strict=True):
        for quantity, axis in zip(quantities, panels, strict=True):
            exponents = []
            for name, curve in found[modality].get(quantity, {}).items():
                number = names.index(name)
                colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
                x, y = zip(*curve["points"], strict=True)
                # Hollow and of falling size: where two fall together, both are seen.
                axis.plot(x, y, marker, ms=max(9 - 2 * number, 3), mfc="none", color=colour)
                ends = [0, max(x)]
                line = [curve["intercept"] + curve["slope"] * n for n in ends]
                axis.plot(ends, line, lw=0.8, color=colour, ls=DASHES[number % len(DASHES)])
                exponents.append(f"{curve['exponent']:.2f}")
            axis.set_title(f"exponents {', '.join(exponents)}", fontsize=8, loc="left")
            axis.set_xlabel("frames" if modality == "video" else "views (thumbnail and crops)")
            axis.set_ylabel(quantity)
            axis.set_ylim(bottom=0)
            axis.tick_params(labelsize=8)
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            marker=MARKERS[i % len(MARKERS)],
            color=COLOURS[i % len(COLOURS)],
            ls=DASHES[i % len(DASHES)],
            mfc="none",
        )
        for i in range(len(names))
    ]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    save(figure, path)

"""Plots of a benchmark: time by phase, and time to the first token against visual tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.plot_style import MARKERS, legend_beside
from vidcompress.tools.runs.plot_files import figure_of, save

COLOURS = {
    "decode_video": "#bbbbbb",
    "preprocess": "#888888",
    "encode": "#4477aa",
    "encode + prefill": "#66ccee",
    "compress": "#ee6677",
    "prefill": "#228833",
    "decode": "#ccbb44",
    "other": "#dddddd",
}


def draw_panels(result: dict[str, Any], path: Path) -> None:
    """Draw two panels per group: time by phase of every row as bars, and time to the first token against tokens.

    Args:
        result: summarised.
        path: of the picture; its suffix names the format.

    Raises:
        ArgumentError: nothing was measured, or the file cannot be written.
        UnsupportedInputError: matplotlib is not installed.
    """
    groups = [(g, [row for row in g["rows"] if "summary" in row]) for g in result["groups"]]
    groups = [(group, rows) for group, rows in groups if rows]
    if not groups:
        raise ArgumentError(
            f"plot={str(path)!r}: nothing was measured, so there is nothing to draw; see the table"
        )
    heights = [1.2 + 0.24 * len(rows) for _, rows in groups]
    figure = figure_of((12, sum(heights)))
    axes = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
    for (group, rows), (bars, lines) in zip(groups, axes, strict=True):
        _bars(bars, group, rows)
        _against_tokens(lines, group, rows)
    from matplotlib.patches import Rectangle

    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    figure.legend(handles, list(COLOURS), loc="outside upper center", ncols=len(COLOURS), fontsize=8)
    save(figure, path)


def _bars(axis: Any, group: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    names = [f"{row['method']} {row['budget']}" for row in rows]
    left = [0.0] * len(rows)
    longest = [max(row["summary"]["total_ms"].values()) for row in rows]
    media = sum(value["median"] for value in group["media_ms"].values())
    whole = [total + media for total in longest]
    phases = [name for name in COLOURS if any(row["summary"]["share"].get(name, 0) > 0 for row in rows)]
    for name in phases:
        widths = [
            row["summary"]["share"].get(name, 0.0) * total for row, total in zip(rows, whole, strict=True)
        ]
        axis.barh(names, widths, left=left, color=COLOURS[name], label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axis.invert_yaxis()
    axis.set_xlabel("ms to the last token")
    axis.set_title(group["name"], fontsize=10)
    axis.tick_params(labelsize=8)


def _against_tokens(axis: Any, group: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    whole = [row["summary"] for row in rows if row["method"] == "none"]
    methods = dict.fromkeys(row["method"] for row in rows if row["summary"]["visual"])
    for number, method in enumerate(methods):
        mine = whole + [row["summary"] for row in rows if row["method"] == method != "none"]
        points = sorted((tokens_of(s["visual"]), s["first_token_ms"]["median"]) for s in mine)
        marker, (xs, ys) = MARKERS[number % len(MARKERS)], zip(*points, strict=True)
        axis.plot(xs, ys, marker=marker, markersize=4, linewidth=1, label=method)
    axis.set_xlabel("visual tokens per decoder layer, whole batch")
    axis.set_ylabel("ms to the first token")
    axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
    axis.tick_params(labelsize=8)
    legend_beside(axis)


def tokens_of(visual: dict[str, Any]) -> float:
    """Return the visual tokens that a decoder layer takes in, on average."""
    layers = visual["per_layer"]
    return sum(layers) / len(layers) if layers else float(visual["sent"])

"""Plots of a benchmark: time by phase, and time to the first token against visual tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.plot_style import (
    BASELINE_MARKER,
    COLOURS,
    CONTROLS,
    MARKERS,
    Point,
    draw_controls,
    draw_line,
    legend_beside,
    side_by_side,
)
from vidcompress.tools.runs.plot_files import figure_of, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PHASES = {
    "decode_video": ("#bbbbbb", ""),
    "preprocess": ("#888888", "..."),
    "encode": ("#4477aa", ""),
    "encode + prefill": ("#66ccee", "\\\\\\"),
    "compress": ("#ee6677", "xxx"),
    "prefill": ("#228833", "///"),
    "decode": ("#ccbb44", ""),
    "other": ("#dddddd", "---"),
}
"""Colour and hatching of each phase; neighbours differ in both, so that they are apart in grey."""
BESIDE = 0.006
"""Least distance of two bars, as a share of the axis: times of one budget are nearly alike, and x is to be read."""
MOST = len(COLOURS)
"""Most methods in one panel that differ in colour and marker."""


def draw_panels(result: dict[str, Any], *paths: Path) -> None:
    """Write the `panels` of a result.

    Args:
        result: summarised.
        paths: of the picture; the suffix of each names its format.

    Raises:
        ArgumentError: nothing was measured, or a file cannot be written.
        UnsupportedInputError: matplotlib is not installed.
    """
    figure = panels(result)
    for path in paths:
        save(figure, path)


def panels(result: dict[str, Any]) -> Figure:
    """Draw two panels per group: time by phase of every row as bars, and time to the first token against tokens.

    The first token is a median with the shortest and longest round as its bar.

    Args:
        result: summarised.

    Raises:
        ArgumentError: nothing was measured.
        UnsupportedInputError: matplotlib is not installed.
    """
    groups = [(g, [row for row in g["rows"] if "summary" in row]) for g in result["groups"]]
    groups = [(group, rows) for group, rows in groups if rows]
    if not groups:
        raise ArgumentError("plot: nothing was measured, so there is nothing to draw; see the table")
    heights = [1.6 + 0.24 * len(rows) for _, rows in groups]
    figure = figure_of((12, 0.4 + sum(heights)))
    axes = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
    for (group, rows), (bars, lines) in zip(groups, axes, strict=True):
        _bars(bars, group, rows)
        _against_tokens(lines, rows)
    from matplotlib.patches import Rectangle

    drawn = [name for name in PHASES if any(_share(row, name) for _, rows in groups for row in rows)]
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=PHASES[name][0], hatch=PHASES[name][1], edgecolor="white")
        for name in drawn
    ]
    figure.legend(handles, drawn, loc="outside upper center", ncols=len(drawn), fontsize=8, handleheight=1.2)
    return figure


def _share(row: dict[str, Any], phase: str) -> float:
    return float(row["summary"]["share"].get(phase, 0.0))


def _bars(axis: Any, group: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    names = [f"{row['method']} {row['budget']}" for row in rows]
    left = [0.0] * len(rows)
    longest = [max(row["summary"]["total_ms"].values()) for row in rows]
    media = sum(value["median"] for value in group["media_ms"].values())
    whole = [total + media for total in longest]
    for name, (colour, hatch) in PHASES.items():
        widths = [_share(row, name) * total for row, total in zip(rows, whole, strict=True)]
        if any(width > 0 for width in widths):
            axis.barh(
                names, widths, left=left, color=colour, hatch=hatch, edgecolor="white", lw=0.5, label=name
            )
            left = [a + b for a, b in zip(left, widths, strict=True)]
    axis.invert_yaxis()
    axis.set_xlabel("time to the last token, ms", fontsize=9)
    axis.set_title(group["name"], fontsize=10)
    axis.tick_params(labelsize=8)


def _against_tokens(axis: Any, rows: list[dict[str, Any]]) -> None:
    series: dict[str, list[Point]] = {}
    for row in rows:
        if row["summary"]["visual"]:
            series.setdefault(row["method"], []).append(_point(row))
    whole = series.pop("none", [])
    # Every line ends at the uncompressed model, whose bar is drawn once.
    ends = [replace(point, low=None, high=None) for point in whole]
    apart = side_by_side(
        {method: sorted([*ends, *points], key=lambda point: point.x) for method, points in series.items()},
        log_x=False,
        beside=BESIDE,
    )
    controls = [method for method in apart if method in CONTROLS]
    draw_controls(axis, {method: apart[method] for method in controls})
    for number, method in enumerate(method for method in apart if method not in controls):
        marker = MARKERS[
            (number + number // MOST) % len(MARKERS)
        ]  # another one with a colour that comes again
        draw_line(axis, apart[method], COLOURS[number % MOST], 1.2, method, marker)
    if whole:
        draw_line(axis, whole, "black", 0, "none: all tokens", BASELINE_MARKER)
    axis.set_xlabel("visual tokens per decoder layer, whole batch", fontsize=9)
    axis.set_ylabel("time to the first token, ms", fontsize=9)
    axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
    axis.tick_params(labelsize=8)
    legend_beside(axis)


def _point(row: dict[str, Any]) -> Point:
    rounds = [entry["first_token"] for entry in row.get("rounds", ())]
    middle = row["summary"]["first_token_ms"]["median"]
    return Point(
        tokens_of(row["summary"]["visual"]),
        middle,
        *((min(rounds), max(rounds)) if len(rounds) > 1 else (None, None)),
    )


def tokens_of(visual: dict[str, Any]) -> float:
    """Return the visual tokens that a decoder layer takes in, on average."""
    layers = visual["per_layer"]
    return sum(layers) / len(layers) if layers else float(visual["sent"])

"""Plots of results: accuracy against tokens or time, and heat maps of needle tasks. Needs matplotlib (extra `plot`).

Figures are drawn without pyplot, so that nothing global is touched and no display is needed; the same data give the
same bytes of SVG.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from vidcompress.errors import ArgumentError, shown
from vidcompress.tools.evaluation.report.plot_style import (
    COLOURS,
    CONTROLS,
    MARKERS,
    Point,
    draw_controls,
    draw_line,
    legend_beside,
    side_by_side,
    small_panels,
    style_axes,
    ticks_at,
)
from vidcompress.tools.runs.plot_files import SUFFIXES, figure_of, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CONTROLS", "SUFFIXES", "Point", "accuracy_plot", "heat_map", "save"]
TOGETHER = len(COLOURS)
"""Most methods in one panel: one per distinct colour."""


def accuracy_plot(
    series: Mapping[str, Sequence[Point]],
    *,
    x_label: str,
    y_label: str,
    baseline: Point | None = None,
    controls: Collection[str] = CONTROLS,
    title: str = "",
    log_x: bool = True,
    panels: bool | None = None,
    join_as_given: bool = False,
) -> Figure:
    """Draw scores against tokens or time.

    Up to seven methods share one panel, with a legend in the order of the lines' right ends; points whose intervals
    would hide one another are set side by side. With more methods, each has a small panel of its own, with all the
    others pale behind it. Controls are grey with hollow markers and in every panel. Methods differ in colour and in
    marker.

    Args:
        series: label -> points, in any order; a label without points is left out.
        x_label: name of x with its unit. y_label: name of y with its unit.
        baseline: the uncompressed model, a star and a dashed line at its y.
        controls: labels that are drawn in grey.
        title: above the figure.
        log_x: logarithmic x; all x must then be above 0.
        join_as_given: join a label's points in the order given, such as that of the budgets, instead of by x.
        panels: True for small panels, False for one; None chooses by the number of methods.

    Raises:
        ArgumentError: nothing to draw, or a number that cannot be drawn.
        UnsupportedInputError: matplotlib is not installed.
    """
    drawn = {
        label: list(points) if join_as_given else sorted(points, key=lambda p: p.x)
        for label, points in series.items()
        if points
    }
    if not drawn:
        raise ArgumentError("series: has no points; pass at least one label with one Point")
    _check_points({**drawn, "baseline": [baseline]} if baseline is not None else drawn, log_x)
    methods = [label for label in drawn if label not in controls]
    if panels is None:
        panels = len(methods) > TOGETHER
    grey = {label: drawn[label] for label in drawn if label in controls}
    if panels and methods:
        return small_panels(drawn, methods, grey, baseline, (x_label, y_label, title), log_x)
    figure = figure_of((8.0, 5.0))
    axes = figure.subplots()
    apart = side_by_side({label: drawn[label] for label in (*methods, *grey)}, log_x)
    draw_controls(axes, {label: apart[label] for label in grey})
    for i, label in enumerate(methods):
        draw_line(axes, apart[label], COLOURS[i % len(COLOURS)], 1.8, label, MARKERS[i % len(MARKERS)])
    style_axes(axes, baseline, log_x, ticks_at(drawn, baseline))
    legend_beside(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", fontsize=11)
    return figure


def heat_map(
    cells: Mapping[tuple[float, float], tuple[float, int]], *, x_label: str, y_label: str, title: str = ""
) -> Figure:
    """Draw a heat map of shares, as of a needle in a haystack: rows are positions, columns are lengths.

    Args:
        cells: (x, y) -> (share from 0 to 1, number of questions). Missing cells stay blank.
        x_label: of columns, such as frames. y_label: of rows, such as the needle's position.
        title: above the figure.

    Raises:
        ArgumentError: no cells, or a share outside 0 to 1.
        UnsupportedInputError: matplotlib is not installed.
    """
    if not cells:
        raise ArgumentError("cells: there is nothing to draw; pass at least one (x, y) with its share")
    for place, (share, _) in cells.items():
        if not 0 <= share <= 1:
            raise ArgumentError(f"cells: the share at {place} must be from 0 to 1, got {shown(share)}")
    xs, ys = sorted({x for x, _ in cells}), sorted({y for _, y in cells})
    figure = figure_of((1.6 + 0.85 * len(xs), 1.6 + 0.5 * len(ys)))
    axes = figure.subplots()
    grid = [[cells.get((x, y), (math.nan, 0))[0] for x in xs] for y in ys]
    image = axes.imshow(grid, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for (x, y), (share, count) in cells.items():
        words = f"{100 * share:.0f}" + (f"\nn={count}" if len(ys) <= 8 else "")
        axes.text(
            xs.index(x), ys.index(y), words, ha="center", va="center", fontsize=8, color="wk"[share > 0.6]
        )
    axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
    axes.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", fontsize=10)
    figure.colorbar(image, ax=axes, label="questions right, %", format=lambda share, _: f"{100 * share:.0f}")
    return figure


def _check_points(series: Mapping[str, Sequence[Point]], log_x: bool) -> None:
    for label, points in series.items():
        for point in points:
            numbers = [n for n in (point.x, point.y, point.low, point.high) if n is not None]
            if not all(math.isfinite(n) for n in numbers) or (log_x and point.x <= 0):
                above = " and, on a logarithmic axis, x above 0" if log_x else ""
                raise ArgumentError(f"series: {label!r} must have finite numbers{above}, got {shown(point)}")

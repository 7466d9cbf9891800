"""Plots of results: accuracy against tokens or time, and heat maps of needle tasks. Needs matplotlib (extra `plot`).

Figures are drawn without pyplot, so that nothing global is touched and no display is needed; the same data give the
same bytes of SVG.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidcompress.errors import ArgumentError, one_line, shown
from vidcompress.tools.evaluation.report.plot_style import (
    COLOURS,
    CONTROLS,
    GREY,
    Point,
    draw_controls,
    draw_line,
    figure_of,
    label_ends,
    small_panels,
    style_axes,
    ticks_at,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CONTROLS", "SUFFIXES", "Point", "accuracy_plot", "heat_map", "save"]
SUFFIXES = (".svg", ".png", ".pdf")
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

    Up to seven methods share one panel, each labelled at its line. Of more, each has a small panel of its own, with all
    the others pale behind it. Controls are grey and in every panel.

    Args:
        series: label -> points, in any order; a label without points is left out.
        x_label: what x is, with its unit. y_label: what y is, with its unit.
        baseline: the uncompressed model, a diamond and a dashed line at its y.
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
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(methods)}
    draw_controls(axes, grey)
    for label in methods:
        draw_line(axes, drawn[label], colours[label], width=1.8)
    style_axes(axes, baseline, log_x, ticks_at(drawn, baseline))
    last = {label: max(points, key=lambda p: p.x) for label, points in drawn.items()}
    ends = [(label, point, colours.get(label, GREY)) for label, point in last.items()]
    if baseline is not None:
        ends.append(("all tokens", baseline, "black"))
    label_ends(axes, ends, log_x)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", fontsize=11)
    return figure


def heat_map(
    cells: Mapping[tuple[float, float], tuple[float, int]], *, x_label: str, y_label: str, title: str = ""
) -> Figure:
    """Draw a heat map of shares, as of a needle in a haystack: rows are positions, columns are lengths.

    Args:
        cells: (x, y) -> (share from 0 to 1, number of questions). What is missing stays blank.
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
    figure.colorbar(image, ax=axes, label="share right")
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, whole or not at all; the suffix says how (.svg, .png, .pdf).

    Raises:
        ArgumentError: another suffix, or a place that cannot be written.
    """
    import matplotlib

    if path.suffix not in SUFFIXES:
        raise ArgumentError(f"path={shown(str(path))}: must end in {', '.join(SUFFIXES)}")
    still = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
    settings: Any = {"svg.hashsalt": "vidcompress", "svg.fonttype": "none"}
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, matplotlib.rc_context(settings):
            unfinished = Path(folder) / path.name
            figure.savefig(unfinished, dpi=150, metadata=still)
            unfinished.replace(path)
    except OSError as error:
        raise ArgumentError(
            f"path={shown(str(path))}: cannot be written ({one_line(error)}); name another"
        ) from error
    return path


def _check_points(series: Mapping[str, Sequence[Point]], log_x: bool) -> None:
    for label, points in series.items():
        for point in points:
            numbers = [n for n in (point.x, point.y, point.low, point.high) if n is not None]
            if not all(math.isfinite(n) for n in numbers) or (log_x and point.x <= 0):
                above = " and, on a logarithmic axis, x above 0" if log_x else ""
                raise ArgumentError(f"series: {label!r} must have finite numbers{above}, got {shown(point)}")

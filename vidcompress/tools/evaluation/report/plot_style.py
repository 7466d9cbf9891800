"""Plot style: lines with error bars side by side, grey controls, a legend, small panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidcompress.tools.runs.plot_files import figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONTROLS = ("random", "uniform", "pool", "frames")
"""Control methods, drawn in grey."""
INK, GREY, PALE = "#1f5fa8", "#6b6b6b", "#d9d9d9"
COLOURS = ("#1f5fa8", "#c8501e", "#2a8a57", "#8a4fae", "#b08a00", "#b3305f", "#1b8f9e")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BESIDE = 0.014
"""Share of the axis between two points that are set side by side."""
ONE_PLACE = 0.01
"""Relative difference of x below which two points stand at one place."""
DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Point:
    """One method at one budget.

    Attributes:
        x: visual tokens, a retention ratio, milliseconds.
        y: the score, in the unit of the axis.
        low, high: ends of the interval of y; None draws no bar.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None


def small_panels(
    series: Mapping[str, Sequence[Point]],
    methods: Sequence[str],
    grey: Mapping[str, Sequence[Point]],
    baseline: Point | None,
    words: tuple[str, str, str],
    log_x: bool,
) -> Figure:
    """One panel per method; the axes are shared, so that heights can be compared across panels."""
    across = min(6, math.ceil(math.sqrt(1.4 * len(methods))))
    down = math.ceil(len(methods) / across)
    figure = figure_of((0.6 + 2.3 * across, 1.1 + 1.9 * down))
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    ticks = ticks_at(series, baseline)
    for axes, label in zip(grid.flat, methods, strict=False):
        for other in methods:
            if other != label:
                axes.plot([p.x for p in series[other]], [p.y for p in series[other]], color=PALE, lw=0.8)
        draw_controls(axes, grey)
        draw_line(axes, series[label], INK, width=2.0)
        style_axes(axes, baseline, log_x, ticks)
        axes.set_title(label, loc="left", fontsize=8.5, color=INK)
        axes.tick_params(labelsize=7)
    for spare in grid.flat[len(methods) :]:
        spare.set_axis_off()
    for last in range(across):  # the lowest panel of a column that is not full has tick labels too
        column = [axes for axes in grid[:, last] if axes.axison]
        column[-1].tick_params(labelbottom=True)
    figure.supxlabel(words[0], fontsize=9)
    figure.supylabel(words[1], fontsize=9)
    figure.suptitle(words[2], fontsize=11, x=0.01, ha="left")
    names = [line for line in grid.flat[0].get_lines() if not line.get_label().startswith("_")]
    if names:
        labels = [str(line.get_label()) for line in names]
        figure.legend(names, labels, loc="outside upper right", ncols=6, fontsize=8, frameon=False)
    return figure


def ticks_at(series: Mapping[str, Sequence[Point]], baseline: Point | None) -> list[float]:
    """x values of all points."""
    return sorted({p.x for points in series.values() for p in points} | ({baseline.x} if baseline else set()))


def draw_line(
    axes: Axes, points: Sequence[Point], colour: str, width: float, label: str = "", marker: str = "o"
) -> None:
    """Draw a method: its points joined, its intervals as error bars; with a label it is in legends."""
    axes.plot(
        [p.x for p in points],
        [p.y for p in points],
        color=colour,
        lw=width,
        marker=marker,
        ms=4,
        label=label or "_line",
    )
    for p in points:
        if p.low is not None and p.high is not None:
            axes.vlines(p.x, p.low, p.high, color=colour, lw=width / 2)


def draw_controls(axes: Axes, grey: Mapping[str, Sequence[Point]]) -> None:
    """Draw the controls as grey lines; each has the same dashes in every figure."""
    for i, (label, points) in enumerate(grey.items()):
        dash = DASHES[(CONTROLS.index(label) if label in CONTROLS else i) % len(DASHES)]
        axes.plot(
            [p.x for p in points],
            [p.y for p in points],
            color=GREY,
            lw=1.0,
            ls=dash,
            label=label,
            marker=".",
            ms=3,
        )


def style_axes(axes: Axes, baseline: Point | None, log_x: bool, xs: Sequence[float]) -> None:
    """Draw baseline, scale and ticks: at the points, or at round numbers where the points are many."""
    if baseline is not None:
        axes.axhline(baseline.y, color="black", lw=0.8, ls=(0, (6, 3)), label="all tokens")
        axes.plot([baseline.x], [baseline.y], color="black", marker="D", ms=3.5)
    if log_x:
        axes.set_xscale("log")
    spread = xs[-1] / xs[0] > 1.2 ** len(xs) if log_x else False
    ticks = xs if len(xs) <= 5 and spread else _round_ticks(xs[0], xs[-1], log_x)
    axes.set_xticks(ticks, [f"{x:.0f}" if x >= 100 else f"{x:.3g}" for x in ticks])
    axes.minorticks_off()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color="#eeeeee", lw=0.6)
    axes.set_axisbelow(True)


def _round_ticks(low: float, high: float, log_x: bool) -> list[float]:
    """About four round numbers within the range; its ends where there are none."""
    if log_x:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        decades = [10.0**e for e in range(first, last + 1)]
        tens = [m * decade for decade in decades for m in (1, 2, 5)]
        if sum(low <= tick <= high for tick in tens) < 3:
            tens = [m * decade for decade in decades for m in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)]
    else:
        step = 10.0 ** math.floor(math.log10((high - low) or 1.0))
        tens = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    inside = [tick for tick in tens if low <= tick <= high]
    thinned = inside[:: max(1, math.ceil(len(inside) / 4))]
    return thinned if len(thinned) > 1 else [low, high]


def legend_beside(axes: Axes) -> None:
    """Write a legend to the right of the axes, in the order of the lines' right ends from top to bottom."""
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    lines.sort(key=lambda line: -float(list(line.get_ydata())[-1]))  # type: ignore[arg-type]
    labels = [str(line.get_label()) for line in lines]
    axes.legend(lines, labels, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, frameon=False)


def side_by_side(series: Mapping[str, Sequence[Point]], log_x: bool) -> dict[str, list[Point]]:
    """Series whose points with intervals at one x are moved apart, by at most some hundredths of the axis.

    Args:
        series: label -> points. log_x: whether x is drawn on a logarithmic scale.
    """
    xs = [p.x for points in series.values() for p in points]
    if len(set(xs)) < 2:
        return {label: list(points) for label, points in series.items()}
    span = math.log(max(xs) / min(xs)) if log_x else max(xs) - min(xs)
    moved: dict[str, list[Point]] = {}
    for label, points in series.items():
        moved[label] = []
        for point in points:
            there = [
                other
                for other, its in series.items()
                if any(p.low is not None and _is_one_place(p.x, point.x) for p in its)
            ]
            step = there.index(label) - (len(there) - 1) / 2 if point.low is not None else 0.0
            shift = step * BESIDE * span
            moved[label].append(replace(point, x=point.x * math.exp(shift) if log_x else point.x + shift))
    return moved


def _is_one_place(x: float, other: float) -> bool:
    return math.isclose(x, other, rel_tol=ONE_PLACE)

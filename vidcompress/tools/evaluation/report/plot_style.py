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
INK, GREY, PALE = "#0072b2", "#6b6b6b", "#d9d9d9"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#882255", "#e69f00", "#56b4e9", "#cc79a7")
"""Colours of methods: those of Okabe and Ito, which the colour-blind tell apart, with wine in place of black."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Markers of methods, which tell them apart in grey; those of controls are hollow."""
BASELINE_MARKER = "*"
"""Marker of the uncompressed model, which is black."""
BESIDE = 0.011
"""Least distance of two intervals, as a share of the axis."""
TICKS_APART = 0.05
"""Least distance of two ticks, as a share of the axis, so that their figures do not lie on one another."""
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
    bare = {label: [replace(p, low=None, high=None) for p in points] for label, points in grey.items()}
    for axes, label in zip(grid.flat, methods, strict=False):
        for other in methods:
            if other != label:
                axes.plot([p.x for p in series[other]], [p.y for p in series[other]], color=PALE, lw=0.8)
        draw_controls(axes, bare)  # the panel is too small for bars side by side
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
    xs, ys = [p.x for p in points], [p.y for p in points]
    axes.plot(xs, ys, color=colour, lw=width, marker=marker, ms=5, label=label or "_line")
    draw_intervals(axes, points, colour, width / 2)


def draw_controls(axes: Axes, grey: Mapping[str, Sequence[Point]]) -> None:
    """Draw the controls as grey lines with hollow markers; each has the same dashes and marker in every figure."""
    for i, (label, points) in enumerate(grey.items()):
        number = CONTROLS.index(label) if label in CONTROLS else i
        axes.plot(
            [p.x for p in points],
            [p.y for p in points],
            color=GREY,
            lw=1.0,
            ls=DASHES[number % len(DASHES)],
            label=label,
            marker=MARKERS[number % len(MARKERS)],
            mfc="white",
            ms=4,
        )
        draw_intervals(axes, points, GREY, 0.7)


def draw_intervals(axes: Axes, points: Sequence[Point], colour: str, width: float) -> None:
    """Draw the intervals of points as upright bars."""
    for p in points:
        if p.low is not None and p.high is not None:
            axes.vlines(p.x, p.low, p.high, color=colour, lw=width)


def style_axes(axes: Axes, baseline: Point | None, log_x: bool, xs: Sequence[float]) -> None:
    """Draw baseline, scale and ticks: at the points, or at round numbers where the points are many."""
    if baseline is not None:
        axes.axhline(baseline.y, color="black", lw=0.8, ls=(0, (6, 3)), label="all tokens")
        axes.plot([baseline.x], [baseline.y], color="black", marker=BASELINE_MARKER, ms=7)
        draw_intervals(axes, [baseline], "black", 0.8)
    if log_x:
        axes.set_xscale("log")
    xs = _readable(xs, log_x)
    spread = xs[-1] / xs[0] > 1.2 ** len(xs) if log_x else False
    ticks = xs if len(xs) <= 5 and spread else _round_ticks(xs[0], xs[-1], log_x)
    axes.set_xticks(ticks, [f"{x:.0f}" if x >= 100 else f"{x:.3g}" for x in ticks])
    axes.minorticks_off()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color="#eeeeee", lw=0.6)
    axes.set_axisbelow(True)


def _readable(xs: Sequence[float], log_x: bool) -> list[float]:
    """The first of rising x values, and those that are far enough from the one before for a tick."""
    scale = math.log if log_x else float
    least = TICKS_APART * (scale(xs[-1]) - scale(xs[0]))
    ticks = [xs[0]]
    for x in xs[1:]:
        if scale(x) - scale(ticks[-1]) >= least > 0:
            ticks.append(x)
    return ticks


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


def side_by_side(
    series: Mapping[str, Sequence[Point]], log_x: bool, beside: float = BESIDE
) -> dict[str, list[Point]]:
    """Series whose points with intervals are moved apart where they would lie on one another, as little as possible.

    Args:
        series: label -> points. log_x: whether x is drawn on a logarithmic scale.
        beside: least distance of two of them, as a share of the range of x.
    """
    moved = {label: list(points) for label, points in series.items()}
    xs = [p.x for points in series.values() for p in points]
    if not xs or (log_x and min(xs) <= 0):
        return moved
    scale = math.log if log_x else float
    width = scale(max(xs)) - scale(min(xs))
    if not width:  # one place has no range: take about that to the uncompressed model
        width = 2.0 if log_x else abs(xs[0]) or 1.0
    step = beside * width
    with_bars = [
        (scale(p.x), i, label)
        for label, points in series.items()
        for i, p in enumerate(points)
        if p.low is not None and p.high is not None
    ]
    with_bars.sort(key=lambda bar: bar[0])  # equal x stay in the order of the series
    for (place, i, label), new in zip(with_bars, _apart([bar[0] for bar in with_bars], step), strict=True):
        if not math.isclose(new, place, rel_tol=0, abs_tol=step / 1e6):
            moved[label][i] = replace(moved[label][i], x=math.exp(new) if log_x else new)
    return moved


def _apart(places: Sequence[float], step: float) -> list[float]:
    """Rising places at least a step apart, nearest to the given ones in the sum of squares.

    What is nearer than a step is pooled and spread about its mean (isotonic regression by pooling neighbours).
    """
    pools: list[tuple[float, int]] = []  # mean of place minus its steps, number of places
    for number, place in enumerate(places):
        mean, count = place - number * step, 1
        while pools and pools[-1][0] > mean:
            before, of_before = pools.pop()
            mean, count = (before * of_before + mean * count) / (of_before + count), of_before + count
        pools.append((mean, count))
    levels = [mean for mean, count in pools for _ in range(count)]
    return [level + number * step for number, level in enumerate(levels)]

"""Plot style: lines with error bars, grey controls, labels at line ends, small panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidcompress.errors import UnsupportedInputError
from vidcompress.loading.distribution import how_to_install

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONTROLS = ("random", "uniform", "pool", "frames")
"""Control methods, drawn in grey."""
INK, GREY, PALE = "#1f5fa8", "#6b6b6b", "#d9d9d9"
COLOURS = ("#1f5fa8", "#c8501e", "#2a8a57", "#8a4fae", "#b08a00", "#b3305f", "#1b8f9e")
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


def figure_of(size: tuple[float, float]) -> Figure:
    """An empty figure, in inches.

    Raises:
        UnsupportedInputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnsupportedInputError(
            f"plots need matplotlib, which is not installed; use {how_to_install('plot')}"
        ) from error
    return Figure(figsize=size, layout="constrained")


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


def draw_line(axes: Axes, points: Sequence[Point], colour: str, width: float) -> None:
    """Draw a method: its points joined, its intervals as error bars."""
    axes.plot([p.x for p in points], [p.y for p in points], color=colour, lw=width, marker="o", ms=3.5)
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


def label_ends(axes: Axes, ends: Sequence[tuple[str, Point, Any]], log_x: bool) -> None:
    """Write each label beside its line's last point, pushed apart where they would overlap."""
    low, high = axes.get_ylim()
    right = max(point.x for _, point, _ in ends)
    left = min(axes.get_xlim()[0], right)
    reach = right * (right / left) ** 0.04 if log_x and left > 0 else right + 0.03 * (right - left)
    ordered = sorted(ends, key=lambda end: end[1].y)
    for (label, point, colour), y in zip(
        ordered, _spread([end[1].y for end in ordered], 0.042 * (high - low)), strict=True
    ):
        axes.annotate(
            label,
            xy=(point.x, point.y),
            xytext=(reach, y),
            color=colour,
            fontsize=8.5,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.4, "shrinkA": 0, "shrinkB": 2},
        )


def _spread(heights: Sequence[float], least: float) -> list[float]:
    """Ascending heights moved as little as needed to lie `least` apart: crowded ones are centred on their mean."""
    blocks: list[list[float]] = []  # each a run of labels that touch
    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and _top(blocks[-2], least) + least > _bottom(blocks[-1], least):
            last = blocks.pop()
            blocks[-1] += last
    return [_bottom(block, least) + i * least for block in blocks for i in range(len(block))]


def _bottom(block: Sequence[float], least: float) -> float:
    return sum(block) / len(block) - (len(block) - 1) * least / 2


def _top(block: Sequence[float], least: float) -> float:
    return _bottom(block, least) + (len(block) - 1) * least

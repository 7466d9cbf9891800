"""Plot of paired differences: a dot with its interval for each method and budget, against the uncompressed model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vidcompress.tools.evaluation.report.leaderboard import Leaderboard
from vidcompress.tools.evaluation.report.plot_style import COLOURS, GREY, MARKERS
from vidcompress.tools.evaluation.report.tables import column_names, in_per_cent
from vidcompress.tools.runs.plot_files import figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def difference_figures(leaderboard: Leaderboard) -> Iterator[tuple[str, Figure]]:
    """Yield a plot for each task: what each method lost of the uncompressed model's score, on the same questions.

    Args:
        leaderboard: with a row of the uncompressed model; tasks without one have no plot.

    Raises:
        UnsupportedInputError: matplotlib is not installed.
    """
    for column, name in column_names(leaderboard.columns).items():
        groups = [
            (budget, [(e, gap) for e in entries if (gap := leaderboard.gap(e, column)) is not None])
            for budget, entries in leaderboard.groups()
        ]
        lines = sum(len(entries) + 1 for _, entries in groups if entries)
        if not lines:
            continue
        first = next(entry.cells[column] for _, entries in groups for entry, _ in entries)
        scale, unit = (100, "points") if in_per_cent(first) else (1, first.main)
        figure = figure_of((7.0, 1.2 + 0.24 * lines))
        axes = figure.subplots()
        place, places, labels = 0.0, [], []
        for number, (budget, entries) in enumerate(group for group in groups if group[1]):
            colour = COLOURS[number % len(COLOURS)]
            for entry, gap in entries:
                shade = GREY if entry.is_control else colour
                axes.errorbar(
                    scale * gap.mean,
                    place,
                    xerr=[[scale * (gap.mean - gap.low)], [scale * (gap.high - gap.mean)]],
                    fmt=MARKERS[number % len(MARKERS)],
                    color=shade,
                    markerfacecolor="white" if entry.is_control else shade,
                    markersize=5,
                    linewidth=1.2,
                )
                places.append(place)
                labels.append(f"{entry.method}, {budget}")
                place += 1
            place += 1
        axes.axvline(0, color=GREY, linewidth=1, linestyle="--")
        axes.set_yticks(places, labels, fontsize=8)
        axes.invert_yaxis()
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlabel(
            f"difference to all tokens, {unit}\nbars are 95 % intervals, hollow marks are controls"
        )
        axes.set_title(f"{leaderboard.title}, {name}: paired differences", loc="left", fontsize=10)
        yield f"{leaderboard.title}, {name}: paired differences", figure

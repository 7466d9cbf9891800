"""Plots of runs: scores against tokens and time, averages, and heat maps of needle tasks."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.leaderboard import (
    Column,
    Leaderboard,
    LeaderboardEntry,
    leaderboards_of,
)
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.evaluation.report.plot_style import Point
from vidcompress.tools.evaluation.report.plots import accuracy_plot, heat_map
from vidcompress.tools.evaluation.report.tables import column_names, in_per_cent
from vidcompress.tools.runs.plot_files import plot_paths, save
from vidcompress.tools.runs.validation import is_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FACTS = ("frames", "position")
_BINS = 10
"""Most positions that are drawn unbinned; more are binned by tenths."""


def plot_rows(rows: Iterable[ResultRow], path: Path) -> list[Path]:
    """Draw all plots of some rows.

    Args:
        rows: from `read_rows`.
        path: a folder for all plots, or a file for the only one; see `plot_paths`.

    Returns:
        The files; in a folder each plot is there as .svg and .png. Per model and task these are scores against visual
        tokens and against the time to the first token; per model the average against the share of tokens kept; per row
        whose questions state frames and a position a heat map.

    Raises:
        ArgumentError: the files cannot be written there, or nothing can be drawn.
        UnsupportedInputError: matplotlib is not installed.
    """
    figures = [
        (name, figure) for leaderboard in leaderboards_of(rows) for name, figure in run_figures(leaderboard)
    ]
    if not figures:
        raise ArgumentError("plot: no row has a score to draw; pass runs that have finished")
    places = plot_paths(path, [name for name, _ in figures])
    return [
        save(figure, place) for (_, figure), files in zip(figures, places, strict=True) for place in files
    ]


def run_figures(leaderboard: Leaderboard) -> Iterator[tuple[str, Figure]]:
    """Yield the plots of a leaderboard, each with the name of its file."""
    names = column_names(leaderboard.columns)
    for column, name in names.items():
        for kind, label in (("tokens", "visual tokens per question"), ("time", "time to first token, ms")):
            series = {
                method: [point for entry in entries if (point := _point(entry, column, kind))]
                for method, entries in _methods(leaderboard).items()
            }
            if any(series.values()):
                yield (
                    _file_name(leaderboard.title, name, kind),
                    accuracy_plot(
                        series,
                        baseline=_point(leaderboard.baseline, column, kind),
                        x_label=label,
                        y_label=_unit(leaderboard, column),
                        title=f"{leaderboard.title}, {name}",
                        join_as_given=kind == "time",
                    ),
                )
        for entry in [leaderboard.baseline, *leaderboard.entries]:
            if cells := needle_cells(entry.cells.get(column)):
                title = f"{name}: {entry.method} at {entry.budget}"
                place = _file_name(leaderboard.title, name, "needle", entry.method, entry.budget)
                yield (
                    place,
                    heat_map(cells, x_label="frames", y_label="position in the clip, 0 to 1", title=title),
                )
    if len(leaderboard.columns) > 1 and (figure := _averages(leaderboard)) is not None:
        yield _file_name(leaderboard.title, "average"), figure


def _methods(leaderboard: Leaderboard) -> dict[str, list[LeaderboardEntry]]:
    methods: dict[str, list[LeaderboardEntry]] = {}
    for entry in leaderboard.entries:
        methods.setdefault(entry.method, []).append(entry)
    return methods


def _point(entry: LeaderboardEntry, column: Column, kind: str) -> Point | None:
    row = entry.cells.get(column)
    x = None if row is None else row.first_token_ms if kind == "time" else row.tokens.get("kept")
    if row is None or row.value is None or not x:
        return None
    scale = 100 if in_per_cent(row) else 1
    if row.limits is None:
        return Point(x, scale * row.value)
    low, high = row.limits
    return Point(x, scale * row.value, scale * low, scale * high)


def _unit(leaderboard: Leaderboard, column: Column) -> str:
    row = next(
        entry.cells[column] for entry in [leaderboard.baseline, *leaderboard.entries] if column in entry.cells
    )
    return f"{row.main}, %" if in_per_cent(row) else row.main


def _averages(leaderboard: Leaderboard) -> Figure | None:
    """Average share of the uncompressed model against the share of tokens kept; only averages over all tasks."""
    series: dict[str, list[Point]] = {}
    for entry in leaderboard.entries:
        mean = leaderboard.average(entry)
        kept = [r.tokens["kept"] / r.tokens["total"] for r in entry.cells.values() if r.tokens.get("total")]
        if mean is not None and mean[1] == len(leaderboard.columns) and kept:
            series.setdefault(entry.method, []).append(Point(100 * sum(kept) / len(kept), mean[0]))
    if not series:
        return None
    return accuracy_plot(
        series,
        baseline=Point(100.0, 100.0),
        x_label="visual tokens kept, %",
        y_label="share of the uncompressed model's score, %",
        title=f"{leaderboard.title}, average of {len(leaderboard.columns)} tasks",
    )


def needle_cells(row: ResultRow | None) -> dict[tuple[float, float], tuple[float, int]]:
    """Mean score and number of questions by (frames, position), over questions that state both."""
    if row is None or row.unreachable is not None or not row.is_share:
        return {}
    stated = [
        (float(fact["frames"]), float(fact["position"]), score)
        for key, fact in row.facts.items()
        if (score := row.question_scores[key]) is not None
        and all(is_number(fact.get(name)) for name in _FACTS)
    ]
    few = len({position for _, position, _ in stated}) <= _BINS
    cells: dict[tuple[float, float], list[float]] = {}
    for frames, position, score in stated:
        cells.setdefault((frames, position if few else round(position, 1)), []).append(score)
    return {place: (sum(scores) / len(scores), len(scores)) for place, scores in cells.items()}


def _file_name(*parts: str) -> str:
    """File name of a plot, without special characters; a checksum keeps similar names apart."""
    plain = "--".join(re.sub(r"[^A-Za-z0-9.+=_-]+", "_", part).strip("_.") for part in parts)
    return f"{plain[:120]}-{zlib.crc32(chr(0).join(parts).encode()):08x}"

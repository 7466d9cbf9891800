"""Plots of whole runs: every task against tokens and against time, averages, and heat maps of needle tasks."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vidcompress.errors import ArgumentError, one_line, shown
from vidcompress.tools.evaluation.report.differences import interval
from vidcompress.tools.evaluation.report.leaderboard import Board, Column, Line, boards_of
from vidcompress.tools.evaluation.report.load import Row
from vidcompress.tools.evaluation.report.plot_style import Point
from vidcompress.tools.evaluation.report.plots import accuracy_plot, heat_map, save
from vidcompress.tools.evaluation.report.tables import in_per_cent, names_of
from vidcompress.tools.runs.validation import is_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIX = ".svg"
_FACTS = ("frames", "position")
_BINS = 10
"""Positions that are no more than this many are drawn as they are; more are put together by tenths."""


def plot_rows(rows: Iterable[Row], folder: Path) -> list[Path]:
    """Draw everything that rows hold.

    Args:
        rows: from `read_rows`.
        folder: where the files go; made where it is missing.

    Returns:
        The files: per model and task scores against visual tokens and against the time to the first token; per model
        the average against the share of tokens kept; per row whose questions state frames and a position a heat map.

    Raises:
        ArgumentError: the folder cannot be made or written to; nothing can be drawn.
        UnsupportedInputError: matplotlib is not installed.
    """
    figures = [(name, figure) for board in boards_of(rows) for name, figure in _of_board(board)]
    if not figures:
        raise ArgumentError("plot: no row has a score to draw; pass runs that have finished")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"plot={shown(str(folder))}: cannot be made ({one_line(error)}); name another folder"
        ) from error
    return [save(figure, folder / f"{name}{SUFFIX}") for name, figure in figures]


def _of_board(board: Board) -> Iterator[tuple[str, Figure]]:
    names = names_of(board.columns)
    for column, name in names.items():
        for kind, label in (("tokens", "visual tokens per question"), ("time", "time to first token, ms")):
            series = {
                method: [point for line in lines if (point := _point(line, column, kind))]
                for method, lines in _methods(board).items()
            }
            if any(series.values()):
                yield (
                    _file_name(board.title, name, kind),
                    accuracy_plot(
                        series,
                        baseline=_point(board.baseline, column, kind),
                        x_label=label,
                        y_label=_unit(board, column),
                        title=f"{board.title}, {name}",
                        join_as_given=kind == "time",
                    ),
                )
        for line in [board.baseline, *board.lines]:
            if cells := needle_cells(line.cells.get(column)):
                title = f"{name}: {line.method} at {line.budget}"
                place = _file_name(board.title, name, "needle", line.method, line.budget)
                yield place, heat_map(cells, x_label="frames", y_label="position in the clip", title=title)
    if len(board.columns) > 1 and (figure := _averages(board)) is not None:
        yield _file_name(board.title, "average"), figure


def _methods(board: Board) -> dict[str, list[Line]]:
    methods: dict[str, list[Line]] = {}
    for line in board.lines:
        methods.setdefault(line.method, []).append(line)
    return methods


def _point(line: Line, column: Column, kind: str) -> Point | None:
    row = line.cells.get(column)
    x = None if row is None else row.first_token_ms if kind == "time" else row.tokens.get("kept")
    if row is None or row.value is None or not x:
        return None
    scale = 100 if in_per_cent(row) else 1
    marks = [mark for mark in row.marks.values() if mark is not None]
    if (
        not marks or abs(sum(marks) / len(marks) - row.value) > 1e-3
    ):  # a score of another kind has no interval here
        return Point(x, scale * row.value)
    low, high = interval(marks)
    return Point(x, scale * row.value, scale * low, scale * high)


def _unit(board: Board, column: Column) -> str:
    row = next(line.cells[column] for line in [board.baseline, *board.lines] if column in line.cells)
    return f"{row.main}, %" if in_per_cent(row) else row.main


def _averages(board: Board) -> Figure | None:
    """Average share of the uncompressed model against the share of tokens kept; only averages over all tasks."""
    series: dict[str, list[Point]] = {}
    for line in board.lines:
        mean = board.average(line)
        kept = [r.tokens["kept"] / r.tokens["total"] for r in line.cells.values() if r.tokens.get("total")]
        if mean is not None and mean[1] == len(board.columns) and kept:
            series.setdefault(line.method, []).append(Point(100 * sum(kept) / len(kept), mean[0]))
    if not series:
        return None
    return accuracy_plot(
        series,
        baseline=Point(100.0, 100.0),
        x_label="visual tokens kept, %",
        y_label="average of the uncompressed model, %",
        title=f"{board.title}, average of {len(board.columns)} tasks",
    )


def needle_cells(row: Row | None) -> dict[tuple[float, float], tuple[float, int]]:
    """Mean mark and number of questions by (frames, position), of the questions that state both; empty without any."""
    if row is None or row.unreachable is not None or not row.is_share:
        return {}
    stated = [
        (float(fact["frames"]), float(fact["position"]), mark)
        for key, fact in row.facts.items()
        if (mark := row.marks[key]) is not None and all(is_number(fact.get(name)) for name in _FACTS)
    ]
    few = len({position for _, position, _ in stated}) <= _BINS
    cells: dict[tuple[float, float], list[float]] = {}
    for frames, position, mark in stated:
        cells.setdefault((frames, position if few else round(position, 1)), []).append(mark)
    return {place: (sum(marks) / len(marks), len(marks)) for place, marks in cells.items()}


def _file_name(*parts: str) -> str:
    """A readable name without characters that a file system minds; a checksum keeps different ones apart."""
    plain = "--".join(re.sub(r"[^A-Za-z0-9.+=_-]+", "_", part).strip("_.") for part in parts)
    return f"{plain[:120]}-{zlib.crc32(chr(0).join(parts).encode()):08x}"

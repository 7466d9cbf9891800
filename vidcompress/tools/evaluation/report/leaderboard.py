"""Rows put into boards: one per model, lines of one budget together, one column per task, shares of the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vidcompress.errors import shown
from vidcompress.tools.evaluation.report.differences import Difference, difference
from vidcompress.tools.evaluation.report.load import Row
from vidcompress.tools.evaluation.report.plot_style import CONTROLS

_APART = (
    "preset",
    "num_frames",
    "fps",
    "dtype",
    "attention",
    "batch_size",
    "seed",
    "device",
    "max_new_tokens",
)
"""Settings that make a board of their own where one cell would otherwise hold two rows."""


class Column(NamedTuple):
    """A task as it was asked: other data, other column."""

    task: str
    split: str
    data: str


@dataclass
class Line:
    """One method at one budget.

    Attributes:
        method: label. budget: as shown.
        cells: column -> row.
    """

    method: str
    budget: str
    cells: dict[Column, Row] = field(default_factory=dict)

    @property
    def is_fitted(self) -> bool:
        """Whether a schedule was moved to reach the budget."""
        return "schedule=fit" in self.method

    @property
    def is_control(self) -> bool:
        """Whether it is one of the controls."""
        return self.method.partition(":")[0] in CONTROLS


@dataclass
class Board:
    """One model.

    Attributes:
        title: the model, and what sets this board apart from others of it.
        columns: tasks in order. baseline: the uncompressed model. lines: by falling budget, controls last.
        notes: what the cells leave unsaid.
    """

    title: str
    columns: list[Column]
    baseline: Line
    lines: list[Line]
    notes: list[str] = field(default_factory=list)

    def groups(self) -> Iterator[tuple[str, list[Line]]]:
        """Lines of one budget together."""
        for budget in dict.fromkeys(line.budget for line in self.lines):
            yield budget, [line for line in self.lines if line.budget == budget]

    def share(self, line: Line, column: Column) -> float | None:
        """Score in per cent of the uncompressed model's; None where either is missing, or that is not above 0."""
        row, base = line.cells.get(column), self.baseline.cells.get(column)
        if row is None or base is None or row.value is None or not base.value or base.value < 0:
            return None
        return 100 * row.value / base.value

    def average(self, line: Line) -> tuple[float, int] | None:
        """Mean of the shares, and over how many tasks; None where there is none."""
        shares = [share for column in self.columns if (share := self.share(line, column)) is not None]
        return (sum(shares) / len(shares), len(shares)) if shares else None

    def best(self, lines: Sequence[Line], column: Column | None) -> float | None:
        """Highest score of a group in a column; of its averages over all tasks where the column is None."""
        found: list[float] = []
        for line in lines:
            if column is None:
                mean = self.average(line)
                found += [mean[0]] if mean is not None and mean[1] == len(self.columns) else []
            elif (row := line.cells.get(column)) is not None and row.value is not None:
                found.append(row.value)
        return max(found, default=None)

    def gap(self, line: Line, column: Column, other: Line | None = None) -> Difference | None:
        """Paired difference to another line, the baseline by default."""
        row, base = line.cells.get(column), (other or self.baseline).cells.get(column)
        if row is None or base is None or row.value is None or base.value is None:
            return None
        return difference(row.marks, base.marks)


def boards_of(rows: Iterable[Row]) -> list[Board]:
    """Put rows into boards, one per model and revision; more where settings would put two rows into one cell."""
    by_model: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_model.setdefault((row.model, row.revision), []).append(row)
    twice = {name for name, _ in by_model if sum(other == name for other, _ in by_model) > 1}
    boards = []
    for (model, revision), mine in by_model.items():
        title = f"{model} @ {revision}" if model in twice and revision else model
        apart = _apart(mine)
        parts: dict[tuple[str, ...], list[Row]] = {}
        for row in mine:
            parts.setdefault(tuple(shown(row.settings.get(name)) for name in apart), []).append(row)
        for values, part in parts.items():
            said = ", ".join(f"{name} {value}" for name, value in zip(apart, values, strict=True))
            boards.append(_board(f"{title}, {said}" if said else title, part))
    return boards


def _apart(rows: Sequence[Row]) -> list[str]:
    """Settings that differ between rows of one cell."""
    cells: dict[tuple[Column, str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((column_of(row), row.method, row.budget), []).append(row)
    shared = [found for found in cells.values() if len(found) > 1]
    return [
        name
        for name in _APART
        if any(len({shown(row.settings.get(name)) for row in found}) > 1 for found in shared)
    ]


def column_of(row: Row) -> Column:
    """The column a row belongs to."""
    return Column(row.task, row.split, row.data)


def _board(title: str, rows: Sequence[Row]) -> Board:
    columns = list(dict.fromkeys(map(column_of, rows)))
    lines: dict[tuple[str, str], Line] = {}
    notes = []
    for row in rows:
        method = "none" if row.is_baseline else row.method
        line = lines.setdefault((method, row.budget), Line(method, row.budget))
        if column_of(row) in line.cells:
            notes.append(f"{row.method} at {row.budget} on {row.task} was run twice; {row.path} is left out")
            continue
        line.cells[column_of(row)] = row
    whole = [line for line in lines.values() if all(row.is_baseline for row in line.cells.values())]
    others = [line for line in lines.values() if line not in whole]
    baseline = whole[0] if whole else Line("none", "100 %")
    for line in whole[1:]:
        baseline.cells |= line.cells
    others.sort(key=lambda line: (-_size(line), line.is_control))
    board = Board(title, columns, baseline, others, notes)
    notes += _notes(board)
    return board


def _size(line: Line) -> float:
    """Ratios before numbers of tokens, large before small."""
    row = next(iter(line.cells.values()))
    return 2.0**40 + row.retention_ratio if row.retention_ratio is not None else float(row.max_tokens or 0)


def _notes(board: Board) -> Iterator[str]:
    missing = [column.task for column in board.columns if column not in board.baseline.cells]
    if missing:
        yield f"no row of the uncompressed model: {', '.join(missing)}; nothing is compared with it there"
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for line in board.lines:
        for column, row in line.cells.items():
            if row.unreachable is not None:
                reasons.setdefault((line.method, line.budget, row.unreachable), []).append(column.task)
    for (method, budget, reason), tasks in reasons.items():
        where = "" if len(tasks) == len(board.columns) else f" on {', '.join(tasks)}"
        yield f"{method} at {budget}{where} is empty: {reason}"
    yield from _failures(board)
    if any(line.is_fitted for line in board.lines):
        yield "†: schedule=fit, pruned in earlier layers than published, to reach the budget"


def _failures(board: Board) -> Iterator[str]:
    """Questions that failed, and what they are in the scores."""
    ways = {True: "are in no score", False: "count as wrong"}
    cells = [
        (line, column, row)
        for line in [board.baseline, *board.lines]
        for column, row in line.cells.items()
        if row.failed and row.unreachable is None
    ]
    for left_out, words in ways.items():
        of_lines: dict[str, list[str]] = {}
        for line, column, row in cells:
            if row.leaves_out_failed == left_out:
                of_lines.setdefault(f"{line.method} at {line.budget}", []).append(
                    f"{row.failed} on {column.task}"
                )
        for line_name, counts in of_lines.items():
            yield f"{line_name}: questions that failed and {words}: {', '.join(counts)}"
    mixed = {c.task for _, c, row in cells if row.leaves_out_failed} & {
        c.task for _, c, row in cells if not row.leaves_out_failed
    }
    if mixed:
        yield (
            f"questions that failed count in some rows of {', '.join(sorted(mixed))} and not in others, which cannot "
            "be compared; run `vidcompress eval` again, which then only counts anew"
        )

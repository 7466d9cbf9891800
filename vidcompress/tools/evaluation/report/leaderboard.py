"""Leaderboards: one per model, an entry per method and budget, a column per task, shares of the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vidcompress.errors import shown
from vidcompress.tools.evaluation.report.differences import Difference, difference
from vidcompress.tools.evaluation.report.load import ResultRow
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
"""Settings that split a leaderboard where one cell would otherwise hold two rows."""


class Column(NamedTuple):
    """A task with its split and data; other data are another column."""

    task: str
    split: str
    data: str


@dataclass
class LeaderboardEntry:
    """One method at one budget.

    Attributes:
        method: label. budget: as text.
        cells: column -> row.
    """

    method: str
    budget: str
    cells: dict[Column, ResultRow] = field(default_factory=dict)

    @property
    def is_fitted(self) -> bool:
        """Whether its pruning schedule was fitted to the budget."""
        return "schedule=fit" in self.method

    @property
    def is_control(self) -> bool:
        """Whether it is one of the controls."""
        return self.method.partition(":")[0] in CONTROLS


@dataclass
class Leaderboard:
    """Results of one model.

    Attributes:
        title: the model, and the settings that differ from its other leaderboards.
        columns: tasks in order. baseline: the uncompressed model. entries: by falling budget, controls last.
        notes: remarks below the table.
    """

    title: str
    columns: list[Column]
    baseline: LeaderboardEntry
    entries: list[LeaderboardEntry]
    notes: list[str] = field(default_factory=list)

    def groups(self) -> Iterator[tuple[str, list[LeaderboardEntry]]]:
        """Entries by budget."""
        for budget in dict.fromkeys(entry.budget for entry in self.entries):
            yield budget, [entry for entry in self.entries if entry.budget == budget]

    def share(self, entry: LeaderboardEntry, column: Column) -> float | None:
        """Return the score in per cent of the uncompressed model's; None where one is missing, or that is 0 or less."""
        row, base = entry.cells.get(column), self.baseline.cells.get(column)
        if row is None or base is None or row.value is None or not base.value or base.value < 0:
            return None
        return 100 * row.value / base.value

    def average(self, entry: LeaderboardEntry) -> tuple[float, int] | None:
        """Return the mean of the shares and the number of tasks; None without any."""
        shares = [share for column in self.columns if (share := self.share(entry, column)) is not None]
        return (sum(shares) / len(shares), len(shares)) if shares else None

    def best(self, entries: Sequence[LeaderboardEntry], column: Column | None) -> float | None:
        """Return the highest score of a group in a column; for None that of its averages over all tasks."""
        values: list[float] = []
        for entry in entries:
            if column is None:
                mean = self.average(entry)
                values += [mean[0]] if mean is not None and mean[1] == len(self.columns) else []
            elif (row := entry.cells.get(column)) is not None and row.value is not None:
                values.append(row.value)
        return max(values, default=None)

    def gap(
        self, entry: LeaderboardEntry, column: Column, other: LeaderboardEntry | None = None
    ) -> Difference | None:
        """Paired difference to another entry, the baseline by default."""
        row, base = entry.cells.get(column), (other or self.baseline).cells.get(column)
        if row is None or base is None or row.value is None or base.value is None:
            return None
        return difference(row.question_scores, base.question_scores)


def leaderboards_of(rows: Iterable[ResultRow]) -> list[Leaderboard]:
    """Leaderboards of rows, one per model and revision; more where two rows of different settings share a cell."""
    by_model: dict[tuple[str, str], list[ResultRow]] = {}
    for row in rows:
        by_model.setdefault((row.model, row.revision), []).append(row)
    twice = {name for name, _ in by_model if sum(other == name for other, _ in by_model) > 1}
    leaderboards = []
    for (model, revision), mine in by_model.items():
        title = f"{model} @ {revision}" if model in twice and revision else model
        apart = _apart(mine)
        parts: dict[tuple[str, ...], list[ResultRow]] = {}
        for row in mine:
            parts.setdefault(tuple(shown(row.settings.get(name)) for name in apart), []).append(row)
        for values, part in parts.items():
            said = ", ".join(f"{name} {value}" for name, value in zip(apart, values, strict=True))
            leaderboards.append(_leaderboard(f"{title}, {said}" if said else title, part))
    return leaderboards


def _apart(rows: Sequence[ResultRow]) -> list[str]:
    """Settings that differ between rows of one cell."""
    cells: dict[tuple[Column, str, str], list[ResultRow]] = {}
    for row in rows:
        cells.setdefault((column_of(row), row.method, row.budget), []).append(row)
    shared = [in_cell for in_cell in cells.values() if len(in_cell) > 1]
    return [
        name
        for name in _APART
        if any(len({shown(row.settings.get(name)) for row in in_cell}) > 1 for in_cell in shared)
    ]


def column_of(row: ResultRow) -> Column:
    """Return the column of a row."""
    return Column(row.task, row.split, row.data)


def _leaderboard(title: str, rows: Sequence[ResultRow]) -> Leaderboard:
    columns = list(dict.fromkeys(map(column_of, rows)))
    entries: dict[tuple[str, str], LeaderboardEntry] = {}
    notes = []
    for row in rows:
        method = "none" if row.is_baseline else row.method
        entry = entries.setdefault((method, row.budget), LeaderboardEntry(method, row.budget))
        if column_of(row) in entry.cells:
            notes.append(f"{row.method} at {row.budget} on {row.task} was run twice; {row.path} is left out")
            continue
        entry.cells[column_of(row)] = row
    whole = [entry for entry in entries.values() if all(row.is_baseline for row in entry.cells.values())]
    others = [entry for entry in entries.values() if entry not in whole]
    baseline = whole[0] if whole else LeaderboardEntry("none", "100 %")
    for entry in whole[1:]:
        baseline.cells |= entry.cells
    others.sort(key=lambda entry: (-_size(entry), entry.is_control))
    leaderboard = Leaderboard(title, columns, baseline, others, notes)
    notes += _notes(leaderboard)
    return leaderboard


def _size(entry: LeaderboardEntry) -> float:
    """Sort key of an entry: ratios before numbers of tokens, large before small."""
    row = next(iter(entry.cells.values()))
    return 2.0**40 + row.retention_ratio if row.retention_ratio is not None else float(row.max_tokens or 0)


def _notes(leaderboard: Leaderboard) -> Iterator[str]:
    missing = [column.task for column in leaderboard.columns if column not in leaderboard.baseline.cells]
    if missing:
        yield f"no row of the uncompressed model: {', '.join(missing)}; nothing is compared with it there"
    yield from _empty(leaderboard)
    yield from _failures(leaderboard)
    if any(entry.is_fitted for entry in leaderboard.entries):
        yield "†: schedule=fit, pruned in earlier layers than published, to reach the budget"


def _empty(leaderboard: Leaderboard) -> Iterator[str]:
    """One note for all entries that are empty on the same tasks for the same reason."""
    tasks: dict[tuple[str, str, str], list[str]] = {}
    for entry in leaderboard.entries:
        for column, row in entry.cells.items():
            if row.unreachable is not None:
                tasks.setdefault((entry.method, entry.budget, row.unreachable), []).append(column.task)
    budgets: dict[tuple[str, str, str], list[str]] = {}
    for (method, budget, reason), where in tasks.items():
        places = "" if len(where) == len(leaderboard.columns) else f" on {', '.join(where)}"
        budgets.setdefault((method, places, reason), []).append(budget)
    alike: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for (method, places, reason), its in budgets.items():
        shared = reason.removeprefix(f"method {method!r} ")  # a reason may begin with the name
        alike.setdefault((", ".join(its), places, shared), []).append((method, reason))
    for (at, places, shared), entries in alike.items():
        if len(entries) == 1:
            yield f"{entries[0][0]} at {at}{places} is empty: {entries[0][1]}"
        else:
            yield f"{', '.join(method for method, _ in entries)} at {at}{places} are empty: {shared}"


def _failures(leaderboard: Leaderboard) -> Iterator[str]:
    """Notes on questions that failed, and whether they count as wrong."""
    ways = {True: "are in no score", False: "count as wrong"}
    cells = [
        (entry, column, row)
        for entry in [leaderboard.baseline, *leaderboard.entries]
        for column, row in entry.cells.items()
        if row.failed and row.unreachable is None
    ]
    for left_out, words in ways.items():
        of_entries: dict[str, list[str]] = {}
        for entry, column, row in cells:
            if row.leaves_out_failed == left_out:
                of_entries.setdefault(f"{entry.method} at {entry.budget}", []).append(
                    f"{row.failed} on {column.task}"
                )
        for entry_name, counts in of_entries.items():
            yield f"{entry_name}: questions that failed and {words}: {', '.join(counts)}"
    mixed = {c.task for _, c, row in cells if row.leaves_out_failed} & {
        c.task for _, c, row in cells if not row.leaves_out_failed
    }
    if mixed:
        yield (
            f"questions that failed count in some rows of {', '.join(sorted(mixed))} and not in others, which cannot "
            "be compared; run `vidcompress eval` again, which then only counts anew"
        )

"""Comparison with published results: our score, theirs, and the reason where a published score has no match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vidcompress.core.method_spec import parse_method_spec
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.evaluation.report.published import PublishedRow, PublishedTable, PublishedTask


@dataclass(frozen=True)
class Match:
    """One published score and ours.

    Attributes:
        task, row: of the published table.
        ours: our row, or None. value: our score in the paper's unit, or None.
        why: reason where our row is None.
    """

    task: PublishedTask
    row: PublishedRow
    ours: ResultRow | None = None
    value: float | None = None
    why: str = ""

    @property
    def theirs(self) -> float:
        """The published score."""
        return self.row.scores[self.task.key]


@dataclass(frozen=True)
class PublishedComparison:
    """A published table beside our rows.

    Attributes:
        table: the published one.
        matches: one per published row and score, in the paper's order.
        averages: per published row our mean share of the uncompressed model, theirs over the same tasks, their number.
    """

    table: PublishedTable
    matches: tuple[Match, ...]
    averages: tuple[tuple[PublishedRow, float | None, float | None, int], ...]


def compare_with_published(table: PublishedTable, rows: Sequence[ResultRow]) -> PublishedComparison:
    """Match every published score with our row of the same method, task, budget and frames."""
    mine = [row for row in rows if is_about(table, row.model)]
    matches = [
        _match(table, row, task, mine) for row in table.rows for task in table.tasks if task.key in row.scores
    ]
    averages = []
    for row in table.rows:
        ours = {m.task.key: m for m in matches if m.row is row and m.ours is not None}
        shares = {key: share for key, m in ours.items() if (share := _share(m, mine)) is not None}
        mean = sum(shares.values()) / len(shares) if shares else None
        whole = len(shares) == len(row.scores)
        theirs = row.average if whole and row.average is not None else table.mean_share(row, list(shares))
        averages.append((row, mean, theirs if shares or not row.scores else row.average, len(shares)))
    return PublishedComparison(table, tuple(matches), tuple(averages))


def is_about(table: PublishedTable, model: str) -> bool:
    """Whether a table is about a model, by its hub id or by the name of its folder."""
    return any(
        model == name or model.rstrip("/").rpartition("/")[2] == name.rpartition("/")[2]
        for name in table.models
    )


def _match(table: PublishedTable, row: PublishedRow, task: PublishedTask, rows: Sequence[ResultRow]) -> Match:
    """Filter our rows by one condition after another; the first that leaves none is the reason."""
    labels = table.method_of(row).ours
    if not labels:
        return Match(task, row, why="no such method here")
    left: list[ResultRow] = list(rows)
    for keep, said in _conditions(row, task, labels, row.num_frames or table.num_frames):
        kept = [r for r in left if keep(r)]
        if not kept:
            return Match(task, row, why=said(left))
        left = kept
    best = min(left, key=lambda r: (_rank(r.method, labels), task.tasks.index(r.task)))
    score = _score(best, task)
    return Match(task, row, best, None if score is None else score * task.scale)


def _conditions(
    row: PublishedRow, task: PublishedTask, labels: Sequence[str], frames: int | None
) -> list[tuple[Callable[[ResultRow], bool], Callable[[list[ResultRow]], str]]]:
    """Conditions on our rows, in order, each with the reason that is stated when no row meets it."""
    return [
        (lambda r: True, lambda rows: "no row of this model"),
        (
            lambda r: any(_same_method(r.method, label) for label in labels),
            lambda rows: _other_method(rows, labels),
        ),
        (lambda r: r.task in task.tasks, lambda rows: _other_task(rows, task)),
        (
            lambda r: not task.split or r.split == task.split,
            lambda rows: f"another split: {_all(r.split for r in rows)}, theirs {task.split}",
        ),
        (
            lambda r: r.retention_ratio == row.retention_ratio,
            lambda rows: f"another budget: {_all(r.budget for r in rows)}",
        ),
        (
            lambda r: frames is None or r.settings.get("num_frames") in (None, frames),
            lambda rows: (
                f"another number of frames: {_all(r.settings.get('num_frames') for r in rows)}, theirs {frames}"
            ),
        ),
        (lambda r: r.unreachable is None, lambda rows: f"out of reach: {rows[0].unreachable}"),
        (lambda r: _score(r, task) is not None, lambda rows: f"no score {' or '.join(task.scores)}"),
    ]


def _same_method(method: str, label: str) -> bool:
    return parse_method_spec(method) == parse_method_spec(label)


def _rank(method: str, labels: Sequence[str]) -> int:
    return next(i for i, label in enumerate(labels) if _same_method(method, label))


def _other_method(rows: Sequence[ResultRow], labels: Sequence[str]) -> str:
    names = {parse_method_spec(label)[0] for label in labels}
    near = [row.method for row in rows if parse_method_spec(row.method)[0] in names]
    return f"other options: {_all(near)}" if near else f"not run: {' or '.join(labels)}"


def _other_task(rows: Sequence[ResultRow], task: PublishedTask) -> str:
    stems = {name.removeprefix("lmms:").partition("_")[0] for name in task.tasks}
    near = [row.task for row in rows if row.task.removeprefix("lmms:").partition("_")[0] in stems]
    return f"another split or variant: {_all(near)}" if near else f"task not run: {' or '.join(task.tasks)}"


def _all(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))


def _score(row: ResultRow, task: PublishedTask) -> float | None:
    """The compared score; harnesses may put a filter's name behind a comma."""
    for name in task.scores:
        for mine, value in row.scores.items():
            if mine.partition(",")[0] == name:
                return value
    return None


def _share(match: Match, rows: Sequence[ResultRow]) -> float | None:
    """Our score in per cent of our uncompressed model's on the same task."""
    if match.ours is None:
        return None
    base_id = match.ours.baseline or match.ours.id
    base = next((row for row in rows if row.id == base_id), None)
    score = None if base is None else _score(base, match.task)
    if not score or score < 0 or match.value is None:
        return None
    return 100 * match.value / (score * match.task.scale)

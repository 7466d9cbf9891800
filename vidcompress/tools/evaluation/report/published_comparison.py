"""Our rows beside published ones: ours, theirs, the difference; and why a published figure has no counterpart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vidcompress.core.method_spec import parse_method_spec
from vidcompress.tools.evaluation.report.load import Row
from vidcompress.tools.evaluation.report.published import PublishedRow, PublishedTable, PublishedTask


@dataclass(frozen=True)
class Match:
    """One published score and ours.

    Attributes:
        task, row: of the published table.
        ours: our row, or None. value: our score in the paper's unit, or None.
        why: why there is none.
    """

    task: PublishedTask
    row: PublishedRow
    ours: Row | None = None
    value: float | None = None
    why: str = ""

    @property
    def theirs(self) -> float:
        """The published score."""
        return self.row.scores[self.task.key]


@dataclass(frozen=True)
class Comparison:
    """A published table beside our rows.

    Attributes:
        table: the published one.
        matches: one per published row and score, in the paper's order.
        averages: per published row our mean share of the uncompressed model, theirs over the same tasks, and how many.
    """

    table: PublishedTable
    matches: tuple[Match, ...]
    averages: tuple[tuple[PublishedRow, float | None, float | None, int], ...]


def compare_with(table: PublishedTable, rows: Sequence[Row]) -> Comparison:
    """Find to every published score the row of ours that measured the same."""
    mine = [row for row in rows if is_of(table, row.model)]
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
    return Comparison(table, tuple(matches), tuple(averages))


def is_of(table: PublishedTable, model: str) -> bool:
    """Whether a table is about a model: its hub id, or a folder that is called like it."""
    return any(
        model == name or model.rstrip("/").rpartition("/")[2] == name.rpartition("/")[2]
        for name in table.models
    )


def _match(table: PublishedTable, row: PublishedRow, task: PublishedTask, rows: Sequence[Row]) -> Match:
    """Narrow our rows down, condition by condition; the first that leaves none is the reason."""
    labels = table.methods[row.method]
    if not labels:
        return Match(task, row, why="no such method here")
    left: list[Row] = list(rows)
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
) -> list[tuple[Callable[[Row], bool], Callable[[list[Row]], str]]]:
    """What a row of ours must fulfil, in order, and what to say of the rows that do not."""
    return [
        (lambda r: True, lambda found: "no row of this model"),
        (
            lambda r: any(_same_method(r.method, label) for label in labels),
            lambda found: _other_method(found, labels),
        ),
        (lambda r: r.task in task.tasks, lambda found: _other_task(found, task)),
        (
            lambda r: not task.split or r.split == task.split,
            lambda found: f"another split: {_all(r.split for r in found)}, theirs {task.split}",
        ),
        (
            lambda r: r.retention_ratio == row.retention_ratio,
            lambda found: f"another budget: {_all(r.budget for r in found)}",
        ),
        (
            lambda r: frames is None or r.settings.get("num_frames") in (None, frames),
            lambda found: (
                f"another number of frames: {_all(r.settings.get('num_frames') for r in found)}, theirs {frames}"
            ),
        ),
        (lambda r: r.unreachable is None, lambda found: f"out of reach: {found[0].unreachable}"),
        (lambda r: _score(r, task) is not None, lambda found: f"no score {' or '.join(task.scores)}"),
    ]


def _same_method(method: str, label: str) -> bool:
    return parse_method_spec(method) == parse_method_spec(label)


def _rank(method: str, labels: Sequence[str]) -> int:
    return next(i for i, label in enumerate(labels) if _same_method(method, label))


def _other_method(found: Sequence[Row], labels: Sequence[str]) -> str:
    names = {parse_method_spec(label)[0] for label in labels}
    near = [row.method for row in found if parse_method_spec(row.method)[0] in names]
    return f"other options: {_all(near)}" if near else f"not run: {' or '.join(labels)}"


def _other_task(found: Sequence[Row], task: PublishedTask) -> str:
    stems = {name.removeprefix("lmms:").partition("_")[0] for name in task.tasks}
    near = [row.task for row in found if row.task.removeprefix("lmms:").partition("_")[0] in stems]
    return f"another split or variant: {_all(near)}" if near else f"task not run: {' or '.join(task.tasks)}"


def _all(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))


def _score(row: Row, task: PublishedTask) -> float | None:
    """The compared score; harnesses may put a filter's name behind a comma."""
    for name in task.scores:
        for mine, value in row.scores.items():
            if mine.partition(",")[0] == name:
                return value
    return None


def _share(match: Match, rows: Sequence[Row]) -> float | None:
    """Our score in per cent of our uncompressed model's on the same task."""
    if match.ours is None:
        return None
    wanted = match.ours.baseline or match.ours.id
    base = next((row for row in rows if row.id == wanted), None)
    score = None if base is None else _score(base, match.task)
    if not score or score < 0 or match.value is None:
        return None
    return 100 * match.value / (score * match.task.scale)

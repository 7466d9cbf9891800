"""Report tables as in papers: scores per task, average share of the uncompressed model, paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vidcompress.errors import ArgumentError, nearest, shown
from vidcompress.table import Table
from vidcompress.tools.evaluation.report.breakdown import breakdown_dict, breakdown_tables
from vidcompress.tools.evaluation.report.leaderboard import (
    Column,
    Leaderboard,
    LeaderboardEntry,
    leaderboards_of,
)
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.evaluation.report.render import to_markdown


def markdown(rows: Iterable[ResultRow], pairs: Sequence[tuple[str, str]] = ()) -> str:
    """Return tables in Markdown: scores, then paired differences.

    Args:
        rows: from `read_rows`.
        pairs: (first, second) labels that are compared with each other too.

    Raises:
        ArgumentError: a pair names a method that no row has.
    """
    return "\n".join(to_markdown(table) for table in report_tables(rows, pairs))


def text(rows: Iterable[ResultRow], pairs: Sequence[tuple[str, str]] = (), width: int | None = None) -> str:
    """Return the tables of `markdown` as text.

    Args:
        rows: from `read_rows`. pairs: as in `markdown`.
        width: most columns of a line; None breaks no line.

    Raises:
        ArgumentError: a pair names a method that no row has.
    """
    return "\n".join(f"{table.text(width)}\n" for table in report_tables(rows, pairs))


def report_tables(
    rows: Iterable[ResultRow], pairs: Sequence[tuple[str, str]] = (), breakdown: bool = False
) -> list[Table]:
    """Return all tables of some rows: per model the scores, the differences to the baseline, and those of the pairs.

    Args:
        rows: from `read_rows`. pairs: as in `markdown`.
        breakdown: also every other score of a task, and the main one by question type.

    Raises:
        ArgumentError: a pair names a method that no row has.
    """
    tables: list[Table] = []
    leaderboards = leaderboards_of(rows)
    check_pairs(pairs, leaderboards)
    for leaderboard in leaderboards:
        tables.append(_scores(leaderboard))
        tables += breakdown_tables(leaderboard, column_names(leaderboard.columns)) if breakdown else ()
        if leaderboard.entries and leaderboard.baseline.cells:
            tables.append(
                _differences(leaderboard, "difference to the uncompressed model", leaderboard.entries, None)
            )
        for first, second in pairs:
            entries = [entry for entry in leaderboard.entries if entry.method == first]
            if entries:
                tables.append(_differences(leaderboard, f"{first} minus {second}", entries, second))
    return tables


def check_pairs(pairs: Sequence[tuple[str, str]], leaderboards: Sequence[Leaderboard]) -> None:
    """Refuse a label that no entry has.

    Raises:
        ArgumentError: the message lists the labels.
    """
    methods = {entry.method for leaderboard in leaderboards for entry in leaderboard.entries}
    for label in (label for pair in pairs for label in pair):
        if label not in methods:
            raise ArgumentError(f"pairs: no row is of method {shown(label)}; {nearest(label, methods)}")


def column_names(columns: Sequence[Column]) -> dict[Column, str]:
    """Return headings of columns: the task, with split and data where two columns would have one name."""
    names = {}
    for column in columns:
        alike = [other for other in columns if other.task == column.task]
        more = [column.split] if len({other.split for other in alike}) > 1 else []
        more += [column.data[:8]] if len(alike) > len({(o.task, o.split) for o in alike}) else []
        names[column] = " ".join(filter(None, [column.task.removeprefix("lmms:"), *more]))
    return names


def score_text(row: ResultRow) -> str:
    """Return a score in per cent where it and all its questions are from 0 to 1, else in the task's own unit."""
    value = row.value
    if value is None:
        return ""
    return f"{100 * value:.1f}" if in_per_cent(row) else f"{value:.1f}"


def in_per_cent(row: ResultRow) -> bool:
    """Whether a row's score is a share."""
    return row.is_share and 0 <= (row.value or 0.0) <= 1


def _scores(leaderboard: Leaderboard) -> Table:
    names = column_names(leaderboard.columns)
    head = ["retention", "method", "kept %", *names.values(), "average %"]
    groups = [[[(text, False) for text in _score_cells(leaderboard, leaderboard.baseline, "all tokens")]]]
    for budget, entries in leaderboard.groups():
        best = {column: leaderboard.best(entries, column) for column in (*leaderboard.columns, None)}
        groups.append(
            [_bold(leaderboard, entry, _score_cells(leaderboard, entry, budget), best) for entry in entries]
        )
    notes = [
        "Scores, in brackets their share of the uncompressed model in per cent; average %: mean of the shares. "
        "Bold: best of its group.",
        *leaderboard.notes,
    ]
    return Table(head, groups, leaderboard.title, notes, keys=2)


def _score_cells(leaderboard: Leaderboard, entry: LeaderboardEntry, budget: str) -> list[str]:
    cells = [budget, entry.method.replace(":schedule=fit", "") + " †" * entry.is_fitted, _kept(entry)]
    for column in leaderboard.columns:
        row, share = entry.cells.get(column), leaderboard.share(entry, column)
        score = "" if row is None else score_text(row)
        score += f" ({share:.1f})" if share is not None and entry is not leaderboard.baseline else ""
        cells.append(f"{score}, {row.failed} failed" if row is not None and row.failed and score else score)
    mean = leaderboard.average(entry)
    partial = "" if mean is None or mean[1] == len(leaderboard.columns) else f" (of {mean[1]})"
    return [*cells, "" if mean is None else f"{mean[0]:.1f}{partial}"]


def _kept(entry: LeaderboardEntry) -> str:
    """Mean share of tokens kept over the tasks, in per cent."""
    shares = [
        100 * row.tokens["kept"] / row.tokens["total"]
        for row in entry.cells.values()
        if row.value is not None and row.tokens.get("total") and "kept" in row.tokens
    ]
    return f"{sum(shares) / len(shares):.1f}" if shares else ""


def _bold(
    leaderboard: Leaderboard,
    entry: LeaderboardEntry,
    texts: Sequence[str],
    best: dict[Column | None, float | None],
) -> list[tuple[str, bool]]:
    values: list[float | None] = [None, None, None]
    values += [row.value if (row := entry.cells.get(column)) else None for column in leaderboard.columns]
    mean = leaderboard.average(entry)
    values.append(mean[0] if mean is not None and mean[1] == len(leaderboard.columns) else None)
    bests = [None, None, None, *best.values()]
    return [(t, v is not None and v == b) for t, v, b in zip(texts, values, bests, strict=True)]


def _differences(
    leaderboard: Leaderboard, title: str, entries: Sequence[LeaderboardEntry], second: str | None
) -> Table:
    names = column_names(leaderboard.columns)
    groups = []
    for budget in dict.fromkeys(entry.budget for entry in entries):
        group = []
        for entry in (entry for entry in entries if entry.budget == budget):
            other = next((o for o in leaderboard.entries if (o.method, o.budget) == (second, budget)), None)
            if second is None or other is not None:
                gaps = [_gap_text(leaderboard, entry, column, other) for column in leaderboard.columns]
                if any(text for text, _ in gaps):
                    group.append([(budget, False), (entry.method, False), *gaps])
        if group:
            groups.append(group)
    notes = [
        "Means over the questions that count in both, with 95 % intervals; in points of a hundred where questions "
        "count from 0 to 1. Bold: 0 is outside."
    ]
    odd = [names[column] for column in leaderboard.columns if _is_odd(leaderboard, column)]
    if odd:
        notes.append(
            f"the main score is not the mean over questions, which is what is compared: {', '.join(odd)}"
        )
    head = ["retention", "method", *names.values()]
    return Table(head, groups, f"{leaderboard.title}: {title}", notes, keys=2)


def _gap_text(
    leaderboard: Leaderboard, entry: LeaderboardEntry, column: Column, other: LeaderboardEntry | None
) -> tuple[str, bool]:
    gap = leaderboard.gap(entry, column, other)
    if gap is None:
        return "", False
    scale = 100 if entry.cells[column].is_share else 1
    low, mean, high = (scale * value for value in (gap.low, gap.mean, gap.high))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]", gap.is_clear


def _is_odd(leaderboard: Leaderboard, column: Column) -> bool:
    """Whether a task's main score is not the mean over its questions."""
    for entry in [leaderboard.baseline, *leaderboard.entries]:
        row = entry.cells.get(column)
        scores = (
            [score for score in row.question_scores.values() if score is not None] if row is not None else []
        )
        if row is not None and row.value is not None and scores:
            mean = sum(scores) / len(scores)
            return min(abs(row.value - mean), abs(row.value - 100 * mean) / 100) > 1e-3
    return False


def to_dict(leaderboard: Leaderboard) -> dict[str, Any]:
    """A leaderboard as JSON types."""
    names = column_names(leaderboard.columns)
    entries = []
    for entry in [leaderboard.baseline, *leaderboard.entries]:
        mean = leaderboard.average(entry)
        entries.append(
            {
                "method": entry.method,
                "budget": entry.budget,
                "scores": {names[c]: row.value for c, row in entry.cells.items()},
                "per_cent": {names[c]: leaderboard.share(entry, c) for c in entry.cells},
                "average_per_cent": None if mean is None else mean[0],
                "tasks_in_average": 0 if mean is None else mean[1],
                "parts": {
                    names[c]: breakdown_dict(row) for c, row in entry.cells.items() if row.value is not None
                },
                "differences": {
                    names[c]: vars(gap)
                    for c in entry.cells
                    if entry is not leaderboard.baseline and (gap := leaderboard.gap(entry, c)) is not None
                },
                "failed": {
                    names[c]: {"questions": row.failed, "left_out": row.leaves_out_failed}
                    for c, row in entry.cells.items()
                    if row.failed
                },
                "unreachable": {
                    names[c]: row.unreachable for c, row in entry.cells.items() if row.unreachable
                },
            }
        )
    return {
        "title": leaderboard.title,
        "tasks": list(names.values()),
        "rows": entries,
        "notes": leaderboard.notes,
    }


def pairs_to_dict(
    leaderboards: Sequence[Leaderboard], pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Differences between two methods, by leaderboard, budget and task.

    Raises:
        ArgumentError: a pair names a method that no row has.
    """
    check_pairs(pairs, leaderboards)
    differences = []
    for leaderboard in leaderboards:
        names = column_names(leaderboard.columns)
        for first, second in pairs:
            for entry in (entry for entry in leaderboard.entries if entry.method == first):
                other = next(
                    (o for o in leaderboard.entries if (o.method, o.budget) == (second, entry.budget)), None
                )
                if other is None:
                    continue
                gaps = {
                    names[c]: vars(gap)
                    for c in entry.cells
                    if (gap := leaderboard.gap(entry, c, other)) is not None
                }
                differences.append(
                    {
                        "title": leaderboard.title,
                        "first": first,
                        "second": second,
                        "budget": entry.budget,
                        "differences": gaps,
                    }
                )
    return differences

"""Breakdown of tasks: the scores beside the main one (precision, recall, ...), and the main one by question type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidcompress.table import Table
from vidcompress.tools.evaluation.report.leaderboard import Column, Leaderboard
from vidcompress.tools.evaluation.report.load import ResultRow


def breakdown_tables(leaderboard: Leaderboard, names: dict[Column, str]) -> Iterator[Table]:
    """Breakdown tables, one per task that has further scores or question types.

    Args:
        leaderboard: of one model.
        names: headings of its columns.
    """
    for column, name in names.items():
        rows = [
            (entry.budget if entry is not leaderboard.baseline else "all tokens", entry.method, row)
            for entry in [leaderboard.baseline, *leaderboard.entries]
            if (row := entry.cells.get(column)) is not None and row.value is not None
        ]
        scores = list(dict.fromkeys(key for *_, row in rows for key in row.scores if key != row.main))
        kinds = {kind: count for *_, row in rows for kind, (count, _) in row.kinds.items()}
        if not scores and not kinds:
            continue
        groups: dict[str, list[list[tuple[str, bool]]]] = {}
        for budget, method, row in rows:
            cells = [
                budget,
                method,
                *(_score(row, key) for key in scores),
                *(_kind(row, key) for key in kinds),
            ]
            groups.setdefault(budget, []).append([(cell, False) for cell in cells])
        head = ["retention", "method", *scores, *(f"{kind} ({count})" for kind, count in kinds.items())]
        said = "Kinds of question have their number of questions in brackets. " * bool(kinds)
        unit = "Shares are in per cent."
        yield Table(
            head, list(groups.values()), f"{leaderboard.title}: {name} in parts", [said + unit], keys=2
        )


def breakdown_dict(row: ResultRow) -> dict[str, Any]:
    """Breakdown of one row as JSON types."""
    kinds = {kind: {"questions": count, "value": value} for kind, (count, value) in row.kinds.items()}
    return {"scores": dict(row.scores), "kinds": kinds}


def _score(row: ResultRow, key: str) -> str:
    value = row.scores.get(key)
    if value is None:
        return ""
    return f"{100 * value:.1f}" if row.is_share and 0 <= value <= 1 else f"{value:.1f}"


def _kind(row: ResultRow, kind: str) -> str:
    if kind not in row.kinds:
        return ""
    value = row.kinds[kind][1]
    return f"{100 * value:.1f}" if row.is_share else f"{value:.1f}"

"""Long form of results: one line per row, task and score, for spreadsheets and data frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidcompress.table import Table
from vidcompress.tools.evaluation.report.leaderboard import Column, Leaderboard, LeaderboardEntry
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.evaluation.report.origins import ORIGIN, origin_of

KEYS = ("model", "revision", "task", "split", "harness", "method", "retention_ratio", "max_tokens")
SCORES = (
    "kind", "score", "is_main", "value", "low", "high", "per_cent_of_all_tokens", "difference", "difference_low",
    "difference_high", "questions", "failed",
)  # fmt: skip
AMOUNTS = (
    "tokens_total",
    "tokens_budget",
    "tokens_kept",
    "first_token_ms",
    "questions_per_second",
    "peak_memory_bytes",
)
LAST = ("data", "unreachable", "path")


def score_records(leaderboards: Sequence[Leaderboard], *, kinds: bool = False) -> list[dict[str, Any]]:
    """Records of all scores of some leaderboards.

    Args:
        leaderboards: of the rows.
        kinds: also the main score of every kind of question, with its name under `kind`.

    Returns:
        One record per row and score, all with the same keys. Scores, ends of the 95 % interval and paired differences
        to the uncompressed model are in the task's own unit, tokens are means per question, times are medians in
        milliseconds. None stands for what a score does not have: only the main score has an interval and a
        difference. A row that is empty has one record, with the reason under `unreachable`.
    """
    records = []
    for leaderboard in leaderboards:
        for entry in [leaderboard.baseline, *leaderboard.entries]:
            for column, row in entry.cells.items():
                common = _of_row(entry, row)
                for score in _scores(leaderboard, entry, column, kinds):
                    records.append({**common, **score})
    phases = dict.fromkeys(f"{phase}_ms" for b in leaderboards for row in _rows(b) for phase in row.phases_ms)
    keys = dict.fromkeys((*KEYS, *SCORES, *AMOUNTS, *phases, *ORIGIN, *LAST))
    return [{key: record.get(key) for key in keys} for record in records]


def score_table(leaderboards: Sequence[Leaderboard], *, kinds: bool = False) -> Table:
    """`score_records` as a table: numbers in full, nothing for None."""
    return record_table(score_records(leaderboards, kinds=kinds), (*KEYS, *SCORES))


def record_table(records: Sequence[dict[str, Any]], head: Sequence[str] = ()) -> Table:
    """Records as a table.

    Args:
        records: all with the same keys, which are the headings.
        head: headings where there are no records.
    """
    names = list(records[0]) if records else list(head)
    lines = [["" if value is None else str(value) for value in record.values()] for record in records]
    return Table.of_lines(names, lines)


def _rows(leaderboard: Leaderboard) -> list[ResultRow]:
    return [row for entry in [leaderboard.baseline, *leaderboard.entries] for row in entry.cells.values()]


def _of_row(entry: LeaderboardEntry, row: ResultRow) -> dict[str, Any]:
    return {
        **{key: getattr(row, key) for key in KEYS if key != "method"},
        "revision": row.revision or None,
        "split": row.split or None,
        "method": entry.method,
        **{f"tokens_{name}": row.tokens.get(name) for name in ("total", "budget", "kept")},
        "first_token_ms": row.first_token_ms,
        **{f"{phase}_ms": median for phase, median in row.phases_ms.items()},
        "questions_per_second": row.questions_per_second,
        "peak_memory_bytes": None if row.peak_memory_bytes is None else int(row.peak_memory_bytes),
        **origin_of(row),
        "data": row.data or None,
        "unreachable": row.unreachable,
        "path": str(row.path),
    }


def _scores(
    leaderboard: Leaderboard, entry: LeaderboardEntry, column: Column, kinds: bool
) -> list[dict[str, Any]]:
    row = entry.cells[column]
    counts = {"questions": row.questions, "failed": row.failed}
    main: dict[str, Any] = {"score": row.main, "is_main": True, "value": row.value, **counts}
    main["low"], main["high"] = row.limits or (None, None)
    main["per_cent_of_all_tokens"] = leaderboard.share(entry, column)
    gap = None if entry is leaderboard.baseline else leaderboard.gap(entry, column)
    if gap is not None:
        main |= {"difference": gap.mean, "difference_low": gap.low, "difference_high": gap.high}
    if row.value is None:
        return [main]
    others = [
        {"score": name, "is_main": False, "value": value, **counts}
        for name, value in row.scores.items()
        if name != row.main
    ]
    of_kinds = [
        {"kind": kind, "score": row.main, "is_main": True, "value": value, "questions": count}
        for kind, (count, value) in row.kinds.items()
    ]
    return [main, *others, *(of_kinds if kinds else ())]

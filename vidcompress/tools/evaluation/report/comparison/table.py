"""Tables of runs against a baseline, their long form and their JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidcompress.table import Table
from vidcompress.tools.evaluation.report.comparison.pairing import RowPair
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.evaluation.report.tables import in_per_cent, score_text

HEAD = (
    "retention", "method", "score", "baseline's score", "difference", "answers alike", "tokens", "baseline's tokens",
    "first token, ms", "baseline's, ms", "speed-up",
)  # fmt: skip


def comparison_tables(pairs: Sequence[RowPair]) -> list[Table]:
    """Tables of pairs, one per model and task."""
    places: dict[tuple[str, str, str], list[RowPair]] = {}
    for pair in pairs:
        places.setdefault((pair.row.model, pair.base.model, pair.row.task), []).append(pair)
    return [_table(*place, of_task) for place, of_task in places.items()]


def comparison_records(pairs: Sequence[RowPair]) -> list[dict[str, Any]]:
    """Records of pairs, all with the same keys.

    Returns:
        Scores, ends of intervals and differences are in the task's own unit, tokens are means per question, times are
        medians in milliseconds; None stands for what is not there.
    """
    return [_record(pair) for pair in pairs]


def _table(model: str, base_model: str, task: str, pairs: Sequence[RowPair]) -> Table:
    groups: dict[str, list[list[tuple[str, bool]]]] = {}
    for pair in pairs:
        groups.setdefault("all tokens" if pair.row.is_baseline else pair.row.budget, []).append(_cells(pair))
    of = model if model == base_model else f"{model} against {base_model}"
    counts = sorted({pair.difference.questions for pair in pairs if pair.difference is not None})
    asked = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0] if counts else 0)
    notes = [
        f"Against the baseline on the same questions, {asked} of which count in both. difference: paired mean with its "
        "95 % interval, in points of a hundred where questions count from 0 to 1. Bold: 0 is outside.",
        "answers alike: letter for letter, of the questions answered in both; tokens: visual tokens per question; "
        "first token: median; speed-up: of the first token.",
    ]
    if any(pair.answers is None for pair in pairs):
        notes.append("answers alike is empty where answers.jsonl is not beside both result files")
    return Table(HEAD, list(groups.values()), f"{of}: {task}", notes, keys=2)


def _cells(pair: RowPair) -> list[tuple[str, bool]]:
    row, base, gap = pair.row, pair.base, pair.difference
    method = "none" if row.is_baseline else row.method
    other = "none" if base.is_baseline else base.method
    difference = ""
    if gap is not None:
        scale = 100 if row.is_share and base.is_share else 1
        low, mean, high = (scale * value for value in (gap.low, gap.mean, gap.high))
        difference = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
    return [
        ("all tokens" if row.is_baseline else row.budget, False),
        (method if method == other else f"{method} / {other}", False),
        (_score(row), False),
        (_score(base), False),
        (difference, gap is not None and gap.is_clear),
        ("" if pair.answers is None else f"{100 * pair.answers[0] / pair.answers[1]:.1f} %", False),
        *((f"{side.tokens['kept']:.1f}" if "kept" in side.tokens else "", False) for side in (row, base)),
        *(
            ("" if side.first_token_ms is None else f"{side.first_token_ms:.1f}", False)
            for side in (row, base)
        ),
        ("" if pair.speed_up is None else f"{pair.speed_up:.2f} x", False),
    ]


def _score(row: ResultRow) -> str:
    unit = " %" if in_per_cent(row) else ""
    failed = f", {row.failed} failed" if row.failed else ""
    return f"{score_text(row)}{unit}{failed}"


def _record(pair: RowPair) -> dict[str, Any]:
    row, base, gap = pair.row, pair.base, pair.difference
    alike, answered = pair.answers or (None, None)
    return {
        "task": row.task,
        "split": row.split or None,
        "score": row.main,
        "retention_ratio": row.retention_ratio,
        "max_tokens": row.max_tokens,
        **_side("", row),
        **_side("baseline_", base),
        "difference": None if gap is None else gap.mean,
        "difference_low": None if gap is None else gap.low,
        "difference_high": None if gap is None else gap.high,
        "questions": 0 if gap is None else gap.questions,
        "better": None if gap is None else gap.better,
        "worse": None if gap is None else gap.worse,
        "answers_alike": alike,
        "answers_in_both": answered,
        "speed_up": pair.speed_up,
        "data": row.data or None,
        "path": str(row.path),
        "baseline_path": str(base.path),
    }


def _side(prefix: str, row: ResultRow) -> dict[str, Any]:
    low, high = row.limits or (None, None)
    values = {
        "model": row.model,
        "method": "none" if row.is_baseline else row.method,
        "value": row.value,
        "low": low,
        "high": high,
        "failed": row.failed,
        "tokens_kept": row.tokens.get("kept"),
        "tokens_total": row.tokens.get("total"),
        "first_token_ms": row.first_token_ms,
    }
    return {f"{prefix}{name}": value for name, value in values.items()}

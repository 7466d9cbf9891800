"""Table of a comparison with published results: `ours / theirs (difference)`, and the reasons of missing matches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidcompress.table import Table
from vidcompress.tools.evaluation.report.published import PublishedRow
from vidcompress.tools.evaluation.report.published_comparison import PublishedComparison

SAME_TOKENS = 0.02
"""Relative difference of the mean number of tokens above which a note is written."""


def comparison_notes(comparison: PublishedComparison) -> Iterator[str]:
    """Notes on a comparison: conventions, token counts, frames, failures, and scores without a match."""
    table, matches = comparison.table, comparison.matches
    matched = [match for match in matches if match.ours is not None]
    yield f"their convention: {table.convention}"
    if table.visual_tokens is not None:
        means = {
            match.task.name: match.ours.tokens["total"]
            for match in matched
            if match.ours is not None and match.ours.tokens.get("total")
        }
        off = [
            f"{name} {mean:.0f}"
            for name, mean in means.items()
            if abs(mean / table.visual_tokens - 1) > SAME_TOKENS
        ]
        if off:
            advice = '; preset = "2880" on the model makes them alike' if table.visual_tokens == 2880 else ""
            yield f"visual tokens before compression: theirs {table.visual_tokens}, ours {', '.join(off)}{advice}"
    if table.num_frames is not None and any(
        match.ours is not None and match.ours.settings.get("num_frames") is None for match in matched
    ):
        yield f"theirs has {table.num_frames} frames; our rows do not say how many"
    few = {
        f"{m.task.name} {m.ours.questions}"
        for m in matched
        if m.ours is not None and m.ours.limit is not None
    }
    if few:
        yield f"not all questions were asked: {', '.join(sorted(few))}"
    failed = [
        f"{m.row.method} {m.task.name} {m.ours.failed}"
        for m in matched
        if m.ours is not None and m.ours.failed
    ]
    if failed:
        yield f"questions of ours that failed: {', '.join(failed)}"
    for task in dict.fromkeys(match.task for match in matched):
        if task.remark:
            yield f"{task.name}: {task.remark}"
    for method in dict.fromkeys(table.method_of(match.row) for match in matched):
        if method.remark:
            yield f"{method.name}: {method.remark}"
    yield from _missing(comparison)
    yield from (f"not held here: {what}" for what in table.absent)


def _missing(comparison: PublishedComparison) -> Iterator[str]:
    """Published scores without a match, by reason."""
    matched = [
        row for row, *_ in comparison.averages if any(m.row is row and m.ours for m in comparison.matches)
    ]
    reasons: dict[str, list[str]] = {}
    for task in comparison.table.tasks:  # a task missing from every row with a match gets one note
        mine = [match for match in comparison.matches if match.task is task and match.row in matched]
        whys = {match.why for match in mine}
        if mine and len(whys) == 1 and mine[0].ours is None:
            reasons.setdefault(mine[0].why, []).append(task.name)
    said = {
        (match.task.name, match.why)
        for match in comparison.matches
        if match.task.name in sum(reasons.values(), [])
    }
    for row, *_ in comparison.averages:
        mine = [match for match in comparison.matches if match.row is row]
        what = f"{row.method} at {100 * row.retention_ratio:g} %"
        for why in dict.fromkeys(match.why for match in mine if match.ours is None):
            names = [match.task.name for match in mine if match.why == why]
            left = [name for name in names if row not in matched or (name, why) not in said]
            if left:
                part = "" if len(names) == len(mine) else f" ({', '.join(left)})"
                reasons.setdefault(why, []).append(what + part)
        if not mine:
            reasons.setdefault("only its average is held here", []).append(what)
    for why, rows in reasons.items():
        yield f"not matched, {why}: {'; '.join(rows)}"


def has_matches(comparison: PublishedComparison) -> bool:
    """Whether a score of a compressed model has a match."""
    return any(match.ours is not None and match.row.retention_ratio < 1 for match in comparison.matches)


def reason_without_match(comparison: PublishedComparison) -> str:
    """Reason why no score of a table was matched, in one line."""
    whys = dict.fromkeys(m.why for m in comparison.matches if m.ours is None and m.row.retention_ratio < 1)
    said = "; ".join(whys) or "; ".join(comparison.table.absent) or "only averages are held here"
    return f"nothing to compare with {comparison.table.title} ({comparison.table.name}): {said}"


def comparison_table(comparison: PublishedComparison) -> Table:
    """A comparison as a table: `ours / theirs (difference)` per task, and the averages."""
    table = comparison.table
    head = ["retention", "method", *(task.name for task in table.tasks), "average %"]
    groups: dict[float, list[list[tuple[str, bool]]]] = {}
    for row, ours, theirs, count in comparison.averages:
        cells = [f"{100 * row.retention_ratio:g} %", _named(comparison, row)]
        for task in table.tasks:
            match = next((m for m in comparison.matches if m.row is row and m.task is task), None)
            cells.append("" if match is None else _pair(match.value, match.theirs))
        partial = f" of {count}" if count and count < len(row.scores) else ""
        cells.append(_pair(ours, theirs) + partial)
        groups.setdefault(row.retention_ratio, []).append([(text, False) for text in cells])
    notes = ["ours / theirs (difference); average %: mean share of the uncompressed model, theirs of theirs."]
    source = f"{table.paper}, {table.table}" + (f", arXiv {table.arxiv}" if table.arxiv else "")
    return Table(
        head,
        list(groups.values()),
        f"against {table.title}",
        [*notes, f"theirs: {source}", *comparison_notes(comparison)],
        keys=2,
    )


def _named(comparison: PublishedComparison, row: PublishedRow) -> str:
    """Return the paper's name, and ours where it is another word."""
    used = dict.fromkeys(m.ours.method for m in comparison.matches if m.row is row and m.ours is not None)
    plain = [label for label in used if label != row.method.lower() and label != "none"]
    return f"{row.method} ({', '.join(plain)})" if plain else row.method


def _pair(ours: float | None, theirs: float | None) -> str:
    if theirs is None:
        return "" if ours is None else f"{ours:.1f} / –"
    return f"– / {theirs:.1f}" if ours is None else f"{ours:.1f} / {theirs:.1f} ({ours - theirs:+.1f})"


def to_dict(comparison: PublishedComparison) -> dict[str, Any]:
    """A comparison as JSON types."""
    return {
        "table": comparison.table.name,
        "title": comparison.table.title,
        "arxiv": comparison.table.arxiv,
        "scores": [
            {
                "method": m.row.method,
                "retention_ratio": m.row.retention_ratio,
                "task": m.task.name,
                "row": None if m.ours is None else m.ours.id,
                "ours": m.value,
                "theirs": m.theirs,
                "difference": None if m.value is None else m.value - m.theirs,
                "why": m.why or None,
            }
            for m in comparison.matches
        ],
        "averages": [
            {
                "method": row.method,
                "retention_ratio": row.retention_ratio,
                "ours": ours,
                "theirs": theirs,
                "difference": None if ours is None or theirs is None else ours - theirs,
                "tasks": count,
            }
            for row, ours, theirs, count in comparison.averages
        ],
        "notes": list(comparison_notes(comparison)),
    }

"""Rows of a result file from the per-question scores of a sweep."""

from __future__ import annotations

from typing import Any

from vidcompress.tools.evaluation.report.statistics import paired, wilson

from .accuracy import Progress


def summary(progress: Progress) -> list[dict[str, Any]]:
    """One entry per cell: accuracy with interval, per type, difference from `none` with a paired interval."""
    rows = []
    base = progress.cells["none@1"].correct
    for key, cell in progress.cells.items():
        name, _, ratio = key.partition("@")
        entry: dict[str, Any] = {"method": name, "retention_ratio": float(ratio)}
        if cell.unreachable is not None:
            rows.append(entry | {"unreachable": cell.unreachable})
            continue
        count = len(cell.correct)
        right = cell.correct.count("1")
        low, high = wilson(right, count)
        difference, half = paired(cell.correct, base)
        per_type = {
            kind: round(
                sum(m == "1" for m, t in zip(cell.correct, progress.types, strict=True) if t == kind)
                / progress.types.count(kind),
                4,
            )
            for kind in dict.fromkeys(progress.types)
        }
        rows.append(
            entry
            | {
                "questions": count,
                "accuracy": round(right / count, 4),
                "interval": [round(low, 4), round(high, 4)],
                "difference": [round(difference, 4), round(half, 4)],
                "per_type": per_type,
                "tokens": {k: round(getattr(cell, k) / count, 2) for k in ("total", "budget", "kept")},
                "correct": cell.correct,
            }
            | (
                {"views": {k: round(getattr(cell, k) / count, 2) for k in ("views", "encoded")}}
                if cell.views
                else {}
            )
        )
    return rows

"""Interface of trackers, and what a row of a sweep is to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from vidcompress.tools.evaluation.run.outcome import RowOutcome


@dataclass(frozen=True)
class RowRecord:
    """Record of a row for trackers.

    Attributes:
        project: name of the sweep.
        name: of the row, the same in every run.
        group: name of the task; rows of one group are compared.
        settings: what was run, as JSON types: model, task, method, budget, settings, versions.
        measures: what was measured: `score/<name>` in the task's unit, `tokens/<name>` per question, `time/<name>` in
            milliseconds, `time/questions_per_second`, `memory/peak_bytes`, `questions`, `failed`.
    """

    project: str
    name: str
    group: str
    settings: Mapping[str, Any]
    measures: Mapping[str, float]


@runtime_checkable
class Tracker(Protocol):
    """Tracker of experiments: takes the record of each row when the row has ended."""

    def track(self, record: RowRecord) -> None:
        """Send one record; any exception is a remark, and the sweep goes on."""
        ...


def record_of(outcome: RowOutcome, project: str) -> RowRecord | None:
    """Record of a row that has ended; None where it has no result.

    Args:
        outcome: of the row.
        project: name of the sweep.
    """
    result, row = outcome.result, outcome.row
    if result is None or outcome.error is not None:
        return None
    task, provenance = result["task"], result["provenance"]
    settings = {
        "model": result["model"].get("name"),
        "model_revision": result["model"].get("revision"),
        "task": task["name"],
        "split": task.get("split"),
        "data": task.get("revision"),
        "harness": task.get("harness"),
        "method": row.method,
        "retention_ratio": result.get("retention_ratio"),
        "max_tokens": result.get("max_tokens"),
        "unreachable": result["unreachable"],
        **result.get("settings", {}),
        **{name: provenance.get(name) for name in ("vidcompress", "commit", "machine", "versions")},
    }
    phases = {f"{name}_ms": entry.get("median") for name, entry in (result.get("times_ms") or {}).items()}
    measures = {
        **{f"score/{name}": value for name, value in result["scores"].items()},
        **{f"tokens/{name}": value for name, value in result["tokens"].items()},
        **{f"time/{name}": value for name, value in phases.items()},
        "time/first_token_ms": (result.get("time_to_first_token_ms") or {}).get("median"),
        "time/questions_per_second": result.get("questions_per_second"),
        "memory/peak_bytes": result.get("peak_memory_bytes"),
        "questions": task.get("questions"),
        "failed": outcome.failed,
    }
    there = {name: value for name, value in measures.items() if value is not None}
    return RowRecord(project, row.id, str(task["name"]), settings, there)

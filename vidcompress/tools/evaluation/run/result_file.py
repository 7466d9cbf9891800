"""Result file of a row, `result.json`, built from its journal and its run log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from vidcompress.checks import is_whole
from vidcompress.core.timing import PHASES
from vidcompress.tools.evaluation.metrics import judge, main_score, summarise
from vidcompress.tools.evaluation.run.sweep import SweepRow
from vidcompress.tools.evaluation.tasks.base import Item, Task
from vidcompress.tools.evaluation.tasks.registry import task_name
from vidcompress.tools.runs.journal import write_whole
from vidcompress.tools.runs.run_log import read_log
from vidcompress.tools.runs.validation import is_number

NAME = "result.json"
LOG = "run.jsonl"
SCHEMA = 1
_REQUIRED_KEYS = {"model", "task", "scores", "tokens"}
_MOST = 1_000_000  # questions of a batch, processes of a run
_DICTS = ("provenance", "model", "settings")


def read_result(folder: Path) -> dict[str, Any] | None:
    """Read the result of a row; None where it is missing or not valid."""
    try:
        result = json.loads((folder / NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        return None
    failed, reason = result.get("failed"), result.get("unreachable")
    listed = isinstance(failed, list) and all(
        isinstance(one, dict) and {"id", "error"} <= one.keys() for one in failed
    )
    fine = listed and isinstance(result.get("provenance"), dict) and isinstance(reason, (str, type(None)))
    return result if fine and _REQUIRED_KEYS <= result.keys() else None


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the result of a row, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / NAME, [json.dumps(result, indent=1, allow_nan=False).encode() + b"\n"])


def read_events(path: Path) -> list[dict[str, Any]]:
    """Events of the run log of a row, of all processes, without those that are damaged."""
    return [event for event in read_log(path) if _is_usable(event)]


def starts(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Start events: one per start or resumption of the row."""
    return [event for event in events if event["event"] == "start"]


def _is_usable(event: Mapping[str, Any]) -> bool:
    """Whether an event has the fields of its kind, with valid values."""
    if event["event"] == "start":
        return all(isinstance(event.get(name, {}), dict) for name in _DICTS)
    if event["event"] != "batch":
        return True
    times, first = event.get("ms"), event.get("first_token_ms")
    if not isinstance(times, dict) or not isinstance(first, list):
        return False
    counts, peak = (event.get("questions"), event.get("processes")), event.get("peak_memory_bytes")
    numbers = (event.get("seconds"), *(times.get(phase) for phase in PHASES), *first, peak or 0)
    return all(is_whole(count) and 1 <= (count or 0) <= _MOST for count in counts) and all(
        map(is_number, numbers)
    )


def common_fields(row: SweepRow, head: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that the results of all harnesses share."""
    ratio, chosen = row.budget.get("retention_ratio"), row.settings
    return {
        "schema": SCHEMA,
        "row": row.id,
        "baseline": row.baseline,
        "method": row.method,
        "retention_ratio": None if ratio is None else float(ratio),
        "max_tokens": row.budget.get("max_tokens"),
        "settings": {
            "policy": chosen.policy,
            "separators": chosen.resolved_separators,
            "positions": chosen.resolved_positions,
            "view_text": chosen.view_text,
            "mass": chosen.resolved_mass,
            "mass_strength": chosen.mass_strength,
            "mass_cap": chosen.mass_cap,
            "seed": row.seed,
            "batch_size": row.batch_size,
            "num_frames": row.model.num_frames,
            "fps": row.model.fps,
            "max_frames": row.model.max_frames,
            "preset": row.model.preset,
            "dtype": row.model.dtype,
            "attention": row.model.attn_implementation,
            "device": row.model.device,
            "max_new_tokens": head["max_new_tokens"],
            "failed": row.failed,
        },
        "unreachable": None,
        "provenance": {**provenance, "head": dict(head)},
    }


def build_result(
    row: SweepRow,
    task: Task,
    items: Sequence[Item],
    lines: Mapping[str, Mapping[str, Any]],
    events: list[dict[str, Any]],
    head: Mapping[str, Any],
    *,
    unwritten: Mapping[str, str] | None = None,
    unreachable: str | None = None,
    corrupt: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """Build the result of a row.

    Args:
        row, task, items: the questions and their settings.
        lines: answer lines by id.
        events: of the run log, of all processes and starts.
        head: of the journal.
        unwritten: id -> reason of answers that could not be written.
        unreachable: reason why the row is empty, or None.
        corrupt: number of journal lines that could not be read; their questions were answered again.
        out: folder of the run; paths of media in it are written from there.

    Returns:
        The result as JSON values; docs/guide-benchmarks.md describes it.
    """
    begun = starts(events)
    last_start: Mapping[str, Any] = begun[-1] if begun else {}
    result = common_fields(row, head, last_start.get("provenance", {}))
    result["settings"] |= last_start.get("settings", {})
    result["provenance"]["commits"] = list(dict.fromkeys(_commit(start) for start in begun))
    in_order = [None if unreachable else lines.get(item.id) for item in items]
    good = [line if line is not None and "error" not in line else None for line in in_order]
    left_out = row.failed == "left-out" or not any(good)
    scores = [
        line["score"] if line is not None else None if left_out else judge(item, None, task.metric)
        for item, line in zip(items, good, strict=True)
    ]
    failed = [
        {"id": item.id, "error": line["error"]}
        for item, line in zip(items, in_order, strict=True)
        if line is not None and "error" in line
    ]
    failed += [{"id": name, "error": error} for name, error in (unwritten or {}).items()]
    metric = task.metric
    return {
        **result,
        "model": last_start.get("model", {"name": row.model.shown, "revision": row.model.revision}),
        "task": {
            "name": task_name(row.task, task),
            "split": task.split,
            "revision": task.revision,
            "questions": len(items),
            "metric": metric,
            "harness": "vidcompress",
        },
        "main": main_score(metric),
        "scores": summarise(
            items,
            [None if line is None else line["answer"] for line in good],
            metric,
            leave_out_failed=left_out,
        ),
        "per_kind": _per_kind(items, scores),
        "samples": {
            "id": [item.id for item in items],
            "score": scores,
            "facts": [dict(item.facts) for item in items],
            "kept": [None if line is None else line["kept"] for line in good],
            "question": [item.question for item in items],
            "expected": [list(item.answers) for item in items],
            "kind": [item.kind for item in items],
            "media": [_media(item, out) for item in items],
        },
        "tokens": _tokens([line for line in good if line is not None]),
        "unreachable": unreachable,
        "failed": failed,
        "corrupt_lines": corrupt,
        **times([event for event in events if event["event"] == "batch"]),
        "restarts": max(0, len(begun) - 1),
    }


def _media(item: Item, out: Path | None) -> list[str]:
    """Paths of the pictures of an item, then of its clip: from the folder of the run where they are in it."""
    paths = [*item.images, *([] if item.video is None else [item.video])]
    return [
        path.relative_to(out).as_posix()
        if out is not None and path.is_relative_to(out)
        else str(path.absolute())
        for path in paths
    ]


def times(batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Times of a row as JSON values.

    Args:
        batches: events of the run log. The first batch after a start warms up; it counts only where there is no other.

    Returns:
        `times_ms`: mean and median per question of every phase (that of its batch, divided by its questions);
        `time_to_first_token_ms`: of a call of the model, from opening the media; `questions_per_second` of all
        processes together; `peak_memory_bytes` of the largest.
    """
    peaks = [batch["peak_memory_bytes"] for batch in batches if batch.get("peak_memory_bytes")]
    warm = [batch for batch in batches if not batch.get("first")] or list(batches)
    warm = [batch for batch in warm if batch["first_token_ms"]]
    shares = [
        {phase: batch["ms"][phase] / batch["questions"] for phase in PHASES}
        for batch in warm
        for _ in range(batch["questions"])
    ]
    seconds = sum(batch["seconds"] / batch["processes"] for batch in warm)
    questions = sum(batch["questions"] for batch in warm)
    first = [ms for batch in warm for ms in batch["first_token_ms"]]
    return {
        "times_ms": {phase: _middle([share[phase] for share in shares]) for phase in PHASES if shares},
        "time_to_first_token_ms": _middle(first) if first else {},
        "questions_per_second": round(questions / seconds, 3) if seconds else None,
        "peak_memory_bytes": max(peaks, default=None),
    }


def _middle(values: Sequence[float]) -> dict[str, float]:
    return {"mean": round(fmean(values), 3), "median": round(median(values), 3)}


def _per_kind(items: Sequence[Item], scores: Sequence[float | None]) -> dict[str, Any]:
    """Questions of each kind, and their mean score."""
    kinds: dict[str, list[float | None]] = {}
    for item, score in zip(items, scores, strict=True):
        if item.kind:
            kinds.setdefault(item.kind, []).append(score)
    scored = {kind: [score for score in of_kind if score is not None] for kind, of_kind in kinds.items()}
    return {
        kind: {"questions": len(of_kind), "value": fmean(scored[kind]) if scored[kind] else None}
        for kind, of_kind in kinds.items()
    }


def _tokens(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means per question."""
    if not lines:
        return {}
    return {name: round(fmean(line[name] for line in lines), 3) for name in ("total", "budget", "kept")}


def _commit(start: Mapping[str, Any]) -> str:
    provenance = start.get("provenance", {})
    return f"{provenance.get('commit')}{' (edited)' if provenance.get('dirty') else ''}"

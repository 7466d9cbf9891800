"""Reader of lmms-eval's result files, converted to the fields of `result.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from vidcompress.tools.evaluation.lmms_eval.record import read_answers, read_metadata

_RIGHT = ("score", "accuracy", "acc", "exact_match", "correct")
_ANSWERS = (("pred_answer", "answer"), ("pred", "answer"), ("pred", "ans"), ("parsed_pred", "answer"))


def read_results(folder: Path, task: str, journal: Path) -> dict[str, Any] | None:
    """Read the result files of one run.

    Args:
        folder: the `--output_path` of one run.
        task: its name; of a group the scores are the group's and the samples those of all its tasks.
        journal: of the run.

    Returns:
        See `run_lmms`; None where a file that should be there is missing.
    """
    aggregated = sorted(folder.rglob("*_results.json"))
    files = sorted(folder.rglob("*_samples_*.jsonl"))
    if not aggregated or not files:
        return None
    results = json.loads(aggregated[-1].read_text("utf-8"))
    scores = _scores(results, task)
    if not scores:
        return None
    subtasks = [name for name in results["configs"] if _samples_of(files, name) is not None]
    main = _main(results, task, subtasks, scores)
    samples: dict[str, list[Any]] = {"id": [], "score": [], "facts": []}
    usage: list[dict[str, Any]] = []
    for name in subtasks:
        for line in sorted(_samples_of(files, name) or [], key=lambda line: line["doc_id"]):
            own: dict[str, Any] = next((entry for entry in line["token_counts"] if entry), {})
            samples["id"].append(f"{name}/{line['doc_id']}")
            # A failed question has the score of the answer "", as in the harness's own score.
            samples["score"].append(_score(line.get(main), line.get("target")))
            samples["facts"].append(_facts(line.get(main)))
            usage.append(own)
    metadata = read_metadata(journal)
    data = [metadata["datasets"].get(name, {}) for name in subtasks]
    return {
        "main": main,
        "scores": scores,
        "samples": samples,
        "per_kind": _per_kind(results, task, subtasks, main),
        "tokens": {name: _mean(entry.get(name) for entry in usage) for name in ("total", "budget", "kept")},
        **_times(usage),
        "failed": [
            {"id": line["id"], "error": line["error"]} for line in read_answers(journal) if line.get("error")
        ],
        "version": results.get("versions", {}).get(task),
        "revision": ", ".join(sorted({str(entry["revision"]) for entry in data if entry})) or None,
        "split": ", ".join(sorted({str(entry["split"]) for entry in data if entry})) or None,
        **metadata["facts"],
        "peak_memory_bytes": metadata["peak_memory_bytes"],
        "starts": metadata["starts"],
    }


def _scores(results: Mapping[str, Any], task: str) -> dict[str, float]:
    """Return metric to value; metrics of several filters keep the filter's name unless it is lmms-eval's "none"."""
    scores = {}
    table = {**results.get("results", {}), **results.get("groups", {})}
    for key, value in table.get(task, {}).items():
        metric, _, filtered = key.partition(",")
        plain = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if plain and filtered and "stderr" not in metric:
            scores[metric if filtered == "none" else f"{metric},{filtered}"] = float(value)
    return scores


def _main(results: Mapping[str, Any], task: str, subtasks: Sequence[str], scores: Mapping[str, float]) -> str:
    """Return the first metric that the task lists and that has a number."""
    listed = [
        entry.get("metric")
        for name in (task, *subtasks)
        for entry in results["configs"].get(name, {}).get("metric_list") or ()
    ]
    return next((metric for metric in listed if metric in scores), next(iter(scores)))


def _per_kind(
    results: Mapping[str, Any], task: str, subtasks: Sequence[str], main: str
) -> dict[str, dict[str, Any]]:
    """Main score of each task of a group."""
    if list(subtasks) == [task]:
        return {}
    per_task = {}
    for name in subtasks:
        value = _scores(results, name).get(main)
        if value is not None:
            questions = results.get("n-samples", {}).get(name, {}).get("effective")
            per_task[name] = {"questions": questions, "value": value}
    return per_task


def _samples_of(files: Sequence[Path], task: str) -> list[dict[str, Any]] | None:
    for file in files:
        if file.name.endswith(f"_samples_{task}.jsonl"):
            return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line]
    return None


def _score(value: Any, target: Any) -> float | None:
    """Score of one sample in the main metric, from the forms that tasks use; None where it has none."""
    if isinstance(value, (bool, int, float)):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, Mapping):
        return None
    for name in _RIGHT:
        if isinstance(value.get(name), (bool, int, float)):
            return float(value[name])
    for predicted, right in _ANSWERS:
        if predicted in value and right in value:
            return float(str(value[predicted]).strip().lower() == str(value[right]).strip().lower())
    return None


def _facts(value: Any) -> dict[str, Any]:
    """Return facts that a task states about a sample beside its score, such as its category."""
    if not isinstance(value, Mapping):
        return {}
    return {name: entry for name, entry in value.items() if isinstance(entry, (str, int, float, bool))}


def _times(usage: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Times per phase, to the first token, and throughput, over the samples whose times are known."""
    timed = [entry for entry in usage if entry.get("timing_ms")]
    phases = list(timed[0]["timing_ms"]) if timed else []
    seconds = sum(entry["timing_ms"]["total"] / entry["batch_size"] for entry in timed) / 1e3
    return {
        "times_ms": {phase: _middle([entry["timing_ms"][phase] for entry in timed]) for phase in phases},
        "time_to_first_token_ms": _middle([entry["time_to_first_token_ms"] for entry in timed]),
        "questions_per_second": len(timed) / seconds if seconds else None,
    }


def _middle(values: Sequence[float]) -> dict[str, float] | None:
    return {"mean": fmean(values), "median": median(values)} if values else None


def _mean(values: Any) -> float | None:
    numbers = [float(value) for value in values if value is not None]
    return fmean(numbers) if numbers else None

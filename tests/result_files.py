"""Result files as `vidcompress eval` writes them, without a model: seeded marks of a given mean."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def marks(count: int, share: float, seed: int) -> list[float]:
    """Right-or-wrong marks: the first round(count share) of a shuffled order are right."""
    right = set(random.Random(seed).sample(range(count), round(count * share)))
    return [float(i in right) for i in range(count)]


def row(
    task: str = "lmms:gqa",
    method: str = "none",
    ratio: float | None = 1.0,
    *,
    score: Sequence[float | None] = (1.0, 0.0),
    model: str = "llava-hf/llava-v1.6-vicuna-7b-hf",
    main: str = "accuracy",
    scores: Mapping[str, float] | None = None,
    facts: Sequence[Mapping[str, Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    total: float = 2880.0,
    unreachable: str | None = None,
    **other: Any,
) -> dict[str, Any]:
    """One row; `other` goes over its top level."""
    answered = [mark for mark in score if mark is not None]
    share = 1.0 if ratio is None else ratio
    mean = sum(answered) / len(answered) if answered else 0.0
    base = None if method == "none" else f"{model}--{task}--none--1"
    return {
        "schema": 1,
        "row": f"{model}--{task}--{method}--{share:g}",
        "baseline": base,
        "model": {"name": model, "revision": None, "family": "llava_next", "parameters": 7},
        "task": {
            "name": task,
            "split": "test",
            "revision": "ab12",
            "questions": len(score),
            "metric": "exact",
            "harness": "vidcompress",
        },
        "method": method,
        "retention_ratio": ratio,
        "max_tokens": None,
        "settings": {"policy": "exact", "num_frames": None, "dtype": "float32", **(settings or {})},
        "main": main,
        "scores": {} if unreachable else (scores or {main: mean}),
        "per_kind": {},
        "samples": {
            "id": [] if unreachable else [str(i) for i in range(len(score))],
            "score": [] if unreachable else list(score),
            "facts": [] if unreachable else list(facts or [{}] * len(score)),
        },
        "tokens": {} if unreachable else {"total": total, "budget": total * share, "kept": total * share},
        "unreachable": unreachable,
        "failed": [{"id": str(i), "error": "broken file"} for i, mark in enumerate(score) if mark is None],
        "times_ms": {"prefill": {"mean": 10 * share, "median": 10 * share}},
        "time_to_first_token_ms": {"mean": 20 + 80 * share, "median": 20 + 80 * share},
        "questions_per_second": 2.0,
        "peak_memory_bytes": 10**9,
        "restarts": 0,
        "provenance": {},
        **other,
    }


def write(run: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as a run."""
    for number, entry in enumerate(rows):
        folder = run / f"{number:03d}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(entry))
    return run


def run_of(folder: Path, tasks: Sequence[str] = ("lmms:gqa", "lmms:pope"), questions: int = 200) -> Path:
    """A run of the uncompressed model, globalcom2 and the two controls at three budgets."""
    rows = []
    for n, task in enumerate(tasks):
        rows.append(row(task, score=marks(questions, 0.8, n)))
        for ratio in (0.5, 0.25, 0.1):
            for k, (method, loss) in enumerate((("globalcom2", 0.1), ("random", 0.3), ("uniform", 0.35))):
                rows.append(
                    row(task, method, ratio, score=marks(questions, 0.8 - loss * (1 - ratio), 9 * n + k))
                )
    return write(folder, rows)

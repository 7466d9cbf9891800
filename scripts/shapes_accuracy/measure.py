"""Result files of accuracy sweeps: one checkpoint, one sweep, one file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from vidcompress import load_processor
from vidcompress.adapters.base import adapter_for
from vidcompress.errors import ArgumentError
from vidcompress.progress import counting_bar
from vidcompress.tools.runs.provenance import provenance

from .accuracy import Sweep, run_sweep
from .summary import summary


def load(model: Path) -> tuple[Any, Any]:
    """A checkpoint of models/ in float32 and its processor."""
    loaded = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    return loaded.eval(), load_processor(str(model), resize_device="cpu")


def measure(
    model: Path,
    sweep: Sweep,
    journal: Path,
    out: Path | None = None,
    name: str | None = None,
    add: bool = False,
) -> Path:
    """Run a sweep, or go on with it, and write its result file.

    Args:
        model: folder of the checkpoint.
        sweep: what to measure.
        journal: the JSONL file of the run.
        out: the result file; None is docs/results/shapes/MODEL-MEDIUM.json, or docs/results/native for models whose
            positions have axes, whose tables are not compared with the others.
        name: of the run, on its bar; MODEL-MEDIUM by default.
        add: keep the rows that the result file has of other methods, and write the new ones beside them.

    Returns:
        The result file.

    Raises:
        ArgumentError: with `add`, a result file of other questions, or of a model that answers them otherwise.
    """
    where_from = provenance()  # before the run: what is edited meanwhile does not count
    loaded, processor = load(model)
    folder = "shapes" if adapter_for(loaded).traits.axes == 1 else "native"
    out = out or Path("docs/results") / folder / f"{model.name}-{sweep.medium}.json"
    start, busy = time.perf_counter(), time.process_time()
    with counting_bar() as bar:
        label = f"{name or f'{model.name}-{sweep.medium}'}, batches of {sweep.batch_size}"
        task = bar.add_task(label, total=None)
        done = run_sweep(
            loaded,
            processor,
            sweep,
            journal,
            lambda batches, of: bar.update(task, completed=batches, total=of),
        )
    result = {
        "model": model.name,
        "medium": sweep.medium,
        "sweep": {
            "questions": sweep.questions,
            "batch_size": sweep.batch_size,
            "frames": sweep.frames if sweep.medium == "clip" else None,
            "first_seed": sweep.first_seed,
        },
        "dtype": "float32",
        "attention": loaded.config._attn_implementation,
        "seconds_of_this_run": round(time.perf_counter() - start, 1),
        "cpu_seconds_of_this_run": round(time.process_time() - busy, 1),
        "types": done.types,
        "rows": summary(done),
        "provenance": where_from,
    }
    write_result(out, with_rows(json.loads(out.read_text()), result) if add else result)
    return out


def with_rows(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return an old result with the rows of a new one, which replace those of the same method and ratio.

    Where the new rows come from stands under `added`, with their methods; all else is the old result's.

    Raises:
        ArgumentError: other questions, or another answer of the uncompressed model, so that rows are not comparable.
    """
    for key in ("model", "medium", "sweep", "dtype", "types"):
        if old[key] != new[key] and not (key == "sweep" and {"first_seed": 0} | old[key] == new[key]):
            raise ArgumentError(
                f"add: the result file has another {key} than this run, so its rows cannot stand beside the new ones; "
                "run all methods, or choose another --out"
            )
    whole = [next(row["correct"] for row in one["rows"] if row["method"] == "none") for one in (old, new)]
    if whole[0] != whole[1]:
        raise ArgumentError(
            "add: the uncompressed model answers otherwise than in the result file, so its rows cannot stand beside "
            "new ones; run all methods, or choose another --out"
        )
    fresh = {(row["method"], row["retention_ratio"]): row for row in new["rows"] if row["method"] != "none"}
    kept = [row for row in old["rows"] if (row["method"], row["retention_ratio"]) not in fresh]
    rows = sorted([*kept, *fresh.values()], key=lambda row: -row["retention_ratio"])
    methods = list(dict.fromkeys(name for name, _ in fresh))
    added = [*old.get("added", []), {"methods": methods, "provenance": new["provenance"]}]
    return {**old, "rows": rows, "added": added}


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result file whole, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")

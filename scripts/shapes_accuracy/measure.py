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
from vidcompress.progress import counting_bar
from vidcompress.tools.runs.provenance import provenance

from .accuracy import Sweep, run_sweep
from .summary import summary


def load(model: Path) -> tuple[Any, Any]:
    """A checkpoint of models/ in float32 and its processor."""
    loaded = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    return loaded.eval(), load_processor(str(model), resize_device="cpu")


def measure(
    model: Path, sweep: Sweep, journal: Path, out: Path | None = None, name: str | None = None
) -> Path:
    """Run a sweep, or go on with it, and write its result file.

    Args:
        model: folder of the checkpoint.
        sweep: what to measure.
        journal: the JSONL file of the run.
        out: the result file; None is docs/results/shapes/MODEL-MEDIUM.json, or docs/results/native for models whose
            positions have axes, whose tables are not compared with the others.
        name: of the run, on its bar; MODEL-MEDIUM by default.

    Returns:
        The result file.
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
    write_result(out, result)
    return out


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result file whole, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")

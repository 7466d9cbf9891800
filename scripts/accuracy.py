"""Measure accuracy against retention on the shapes questions; one result file per model and medium.

    python scripts/accuracy.py --model models/tiny-onevision --medium clip

Killed runs resume from their journal under runs/. `scripts/accuracy_table.py` writes the tables from the results.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import AutoModelForImageTextToText

from shapes_accuracy.accuracy import Medium, Sweep, run_sweep
from shapes_accuracy.summary import summary
from vidcompress import load_processor
from vidcompress.adapters.base import adapter_for
from vidcompress.progress import counting_bar
from vidcompress.tools.runs.provenance import provenance


def main(
    model: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = Path("models/tiny-onevision"),
    medium: Annotated[Medium, typer.Option(help="Ask about still images or about clips.")] = "image",
    questions: Annotated[int, typer.Option(min=1, help="Held-out questions, one per scene.")] = 1000,
    ratios: Annotated[
        str, typer.Option(help="Retention ratios below 1, separated by commas.")
    ] = "0.5,0.25,0.1",
    methods: Annotated[
        str,
        typer.Option(
            help="Methods, separated by spaces, with options as in globalcom2:tau=5; `all` for all that serve the "
            "medium; all and eight compositions by default."
        ),
    ] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Questions per batch.")] = 20,
    frames: Annotated[int, typer.Option(min=1, help="Frames per clip.")] = 8,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Result file; docs/results/shapes/MODEL-MEDIUM.json, or docs/results/native for models whose "
            "positions have axes."
        ),
    ] = None,
    journal: Annotated[Path | None, typer.Option(help="Journal; runs/accuracy/MODEL-MEDIUM.jsonl.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 2,
) -> None:
    """Run the sweep, or go on with it."""
    torch.set_num_threads(threads)
    name = f"{model.name}-{medium}"
    journal = journal or Path("runs/accuracy") / f"{name}.jsonl"
    sweep = Sweep(
        medium,
        questions,
        tuple(float(r) for r in ratios.split(",") if r),
        tuple(m for m in methods.split() if m),
        batch_size,
        frames,
    )
    where_from = provenance()  # before the run: what is edited meanwhile does not count
    loaded = AutoModelForImageTextToText.from_pretrained(
        model, dtype=torch.float32, local_files_only=True
    ).eval()
    folder = "shapes" if adapter_for(loaded).traits.axes == 1 else "native"  # tables that are not compared
    out = out or Path("docs/results") / folder / f"{name}.json"
    start = time.perf_counter()
    with counting_bar() as bar:
        task = bar.add_task(f"{name}, batches of {batch_size}", total=None)
        done = run_sweep(
            loaded,
            load_processor(str(model), resize_device="cpu"),
            sweep,
            journal,
            lambda batches, of: bar.update(task, completed=batches, total=of),
        )
    result = {
        "model": model.name,
        "medium": medium,
        "sweep": {
            "questions": questions,
            "batch_size": batch_size,
            "frames": frames if medium == "clip" else None,
        },
        "dtype": "float32",
        "attention": loaded.config._attn_implementation,
        "seconds_of_this_run": round(time.perf_counter() - start, 1),
        "types": done.types,
        "rows": summary(done),
        "provenance": where_from,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    for row in result["rows"]:
        print(f"{row['method']:12} {row['retention_ratio']:<5} {row.get('accuracy', row.get('unreachable'))}")
    print(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)

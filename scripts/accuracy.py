"""Measure accuracy against retention on the shapes questions; one result file per model and medium.

    python scripts/accuracy.py --model models/tiny-onevision --medium clip
    python scripts/accuracy.py --model models/tiny-onevision --medium clip --methods "vcast flashvid" --add   # new rows

Killed runs resume from their journal under runs/. `scripts/accuracy_table.py` writes the tables from the results, and
`scripts/accuracy_mass.py` runs the sets of cells about mass and positions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from shapes_accuracy.accuracy import Medium, Sweep
from shapes_accuracy.measure import measure


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
    first_seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first question's scene; the others follow it.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Result file; docs/results/shapes/MODEL-MEDIUM.json, or docs/results/native for models whose "
            "positions have axes."
        ),
    ] = None,
    journal: Annotated[Path | None, typer.Option(help="Journal; runs/accuracy/MODEL-MEDIUM.jsonl.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 2,
    add: Annotated[
        bool, typer.Option(help="Keep the rows of other methods in the result file, and add the new ones.")
    ] = False,
) -> None:
    """Run the sweep, or go on with it."""
    torch.set_num_threads(threads)
    sweep = Sweep(
        medium,
        questions,
        tuple(float(r) for r in ratios.split(",") if r),
        tuple(m for m in methods.split() if m),
        batch_size,
        frames,
        first_seed=first_seed,
    )
    journal = journal or Path("runs/accuracy") / f"{model.name}-{medium}{'-added' if add else ''}.jsonl"
    out = measure(model, sweep, journal, out, add=add)
    for row in json.loads(out.read_text())["rows"]:
        print(f"{row['method']:12} {row['retention_ratio']:<5} {row.get('accuracy', row.get('unreachable'))}")
    print(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)

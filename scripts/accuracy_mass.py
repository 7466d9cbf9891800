"""Measure what mass and positions change, on questions that nothing was tuned on, set after set by priority.

    python scripts/accuracy_mass.py --dry-run             # what would run, and about how long
    python scripts/accuracy_mass.py                       # run it, or go on with it; hours on one core
    python scripts/accuracy_mass.py --sets main --columns tiny-onevision-clip,tiny-next-image

A result file per set and column goes to docs/results/mass; `scripts/mass_table.py` writes the tables from them. A
killed run goes on from the journals under runs/accuracy/mass. What is finished costs seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from shapes_accuracy.cost import minutes
from shapes_accuracy.measure import measure
from shapes_accuracy.sets import SETS, chosen_columns, chosen_sets, plan

ROOT = Path(__file__).resolve().parent.parent


def main(
    sets: Annotated[
        str, typer.Option(help=f"Sets with commas between them, in this order: {', '.join(SETS)}.")
    ] = "",
    columns: Annotated[str, typer.Option(help="Columns such as tiny-onevision-clip, in this order.")] = "",
    questions: Annotated[
        int | None, typer.Option(min=1, help="Questions per cell; 1,000 or 400 by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the result files.")] = ROOT / "docs/results/mass",
    journals: Annotated[Path, typer.Option(help="Folder of the journals.")] = ROOT / "runs/accuracy/mass",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
) -> None:
    """Run the sets, or go on with them."""
    torch.set_num_threads(threads)
    total = 0.0
    for one, column in plan(chosen_sets(sets), chosen_columns(columns)):
        sweep = one.sweep(column, questions)
        name = f"{one.name}-{column.name}"
        cost = minutes(column, sweep)
        total += cost
        print(
            f"{name}: {len(sweep.cells())} cells, {sweep.questions} questions, about {cost:.0f} minutes of a core"
        )
        if not dry_run:
            wrote = measure(
                ROOT / "models" / column.model, sweep, journals / f"{name}.jsonl", out / f"{name}.json", name
            )
            print(f"wrote {wrote}")
    print(f"about {total:.0f} minutes of a core in all")


if __name__ == "__main__":
    typer.run(main)

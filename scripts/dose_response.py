"""Show that dropping background alone ruins counting, and that mass mends it: the figure of docs/methods/mass.md.

    python scripts/dose_response.py

Keeps every token on an object of every frame, thins the background, and asks how many objects there are, with and
without mass; beside it as many tokens at random and evenly spread. Writes docs/results/mass/dose_response.json and
.svg. A killed run goes on from its journal.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from shapes_accuracy.dose import FILE, FIRST_SEED, Experiment, figure, run
from shapes_accuracy.measure import load, write_result
from vidcompress.progress import counting_bar
from vidcompress.tools.evaluation.report.plots import save
from vidcompress.tools.runs.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent


def main(
    clips: Annotated[int, typer.Option(min=1, help="Clips, one question each.")] = Experiment.clips,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first clip.")] = FIRST_SEED,
    out: Annotated[Path, typer.Option(help="Folder of the result and the figure.")] = ROOT
    / "docs/results/mass",
    journal: Annotated[Path, typer.Option(help="Journal of the run.")] = ROOT
    / "runs/accuracy/mass/dose.jsonl",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
) -> None:
    """Run the experiment, or go on with it, and draw the figure."""
    torch.set_num_threads(threads)
    where_from = provenance()
    model, processor = load(ROOT / "models" / "tiny-onevision")
    experiment = Experiment(clips, first_seed=first_seed)
    with counting_bar() as bar:
        task = bar.add_task("clips, batch by batch", total=None)
        rows = run(
            model,
            processor,
            experiment,
            journal,
            lambda done, of: bar.update(task, completed=done, total=of),
        )
    result = {
        "model": "tiny-onevision",
        "experiment": asdict(experiment),
        "rows": rows,
        "provenance": where_from,
    }
    write_result(out / FILE, result)
    save(figure(result), (out / FILE).with_suffix(".svg"))
    print(f"wrote {out / FILE} and the figure beside it")


if __name__ == "__main__":
    typer.run(main)

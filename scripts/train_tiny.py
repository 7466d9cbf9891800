"""Train one of the two embedded models; run again to go on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from tiny.stages import CURRICULA
from tiny.trainer import train


def main(
    model: Annotated[str, typer.Option(help="tiny-onevision or tiny-next")],
    out: Annotated[Path, typer.Option(help="folder of the exported checkpoint")],
    run_dir: Annotated[Path, typer.Option(help="folder of the run's state and log")],
    seed: int = 0,
    resume: bool = True,
    threads: int = 0,
) -> None:
    """Train a model on shapes and export it."""
    if model not in CURRICULA:
        raise typer.BadParameter(f"--model {model!r} is not one of {', '.join(CURRICULA)}; choose one of them")
    if threads:
        torch.set_num_threads(threads)
    train(model, run_dir, CURRICULA[model], seed, resume)


if __name__ == "__main__":
    typer.run(main)

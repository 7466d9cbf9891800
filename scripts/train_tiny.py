"""Train one of the embedded models; a repeated run resumes from its last checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from tiny.export import export, provenance
from tiny.stages import CURRICULA
from tiny.talking import accuracy
from tiny.trainer import State, train

EXPORT_EVERY = 3
"""Rounds between exports."""

MEDIA = {"tiny-onevision": ("image", "clip"), "tiny-next": ("image",), "tiny-qwen": ("image", "clip")}
"""Model name to the media it is asked about."""


def main(
    model: Annotated[str, typer.Option(help="tiny-onevision, tiny-next or tiny-qwen")],
    out: Annotated[Path | None, typer.Option(help="folder of the exported checkpoint; models/MODEL")] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="folder of the run's state and log; runs/MODEL")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the weights, the pictures and the questions")] = 0,
    resume: Annotated[bool, typer.Option(help="go on from the state in --run-dir if there is one")] = True,
    decoder: Annotated[
        Path | None, typer.Option(help="exported tiny-onevision; tiny-next adopts its decoder")
    ] = None,
    questions: Annotated[int, typer.Option(help="held-out questions per medium asked at the end")] = 1000,
    device: Annotated[str, typer.Option(help="where to train, as torch spells it: cpu, cuda, ...")] = "cpu",
    hours: Annotated[
        float | None, typer.Option(help="stop after this many CPU hours, resumptions included; no limit")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to torch")] = 0,
) -> None:
    """Train a model on shapes; export it every few rounds, and at the end with its held-out accuracy."""
    if model not in CURRICULA:
        raise typer.BadParameter(
            f"--model {model!r} is not one of {', '.join(CURRICULA)}; choose one of them"
        )
    out, run_dir = out or Path("models") / model, run_dir or Path("runs") / model
    if threads:
        torch.set_num_threads(threads)
    stages = CURRICULA[model]

    def describe(state: State) -> dict[str, Any]:
        notes = run_dir / "remarks.txt"
        remarks = notes.read_text().splitlines() if notes.exists() else []
        return provenance(state, model, seed, stages, remarks)

    def after_round(state: State) -> None:
        if len(state.history) % EXPORT_EVERY == 0:
            export(state.model, model, out, describe(state))

    state = train(
        model,
        run_dir,
        stages,
        seed,
        resume,
        after_round=after_round,
        decoder=decoder,
        device=device,
        hours=hours,
    )
    scores = {medium: accuracy(state.model, model, medium, questions) for medium in MEDIA[model] if questions}
    export(
        state.model,
        model,
        out,
        {**describe(state), "held_out": {"questions": questions, "all tokens": scores}},
    )


if __name__ == "__main__":
    typer.run(main)

"""`vidcompress tune`: the smallest budget whose answers equal those with all tokens, on questions of the user's own."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcompress.cli.interrupt import interruptible
from vidcompress.cli.library_output import quiet
from vidcompress.cli.options import (
    COMPRESSION,
    INPUT,
    MODEL,
    OUTPUT,
    Attention,
    Device,
    DeviceMap,
    Dtype,
    Fps,
    Json,
    Model,
    NumFrames,
    Only,
    Preset,
    Quantization,
    read_list,
    read_numbers,
)
from vidcompress.cli.show import show, show_all

if TYPE_CHECKING:
    from vidcompress.tools.evaluation.tuning import Tuning


def tune(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            help="Folder with questions.jsonl and media.",
            metavar="<folder>",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            "-t",
            help="Instead, shapes:image, shapes:clip, data:FOLDER, parquet:FILE or hub:OWNER/NAME.",
            metavar="<name>",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Only the first so many questions; fixed for a run.", rich_help_panel=INPUT),
    ] = None,
    num_frames: NumFrames = None,
    fps: Fps = None,
    max_frames: Annotated[
        int | None,
        typer.Option(help="Most frames of a video.", show_default="300", rich_help_panel=INPUT),
    ] = None,
    preset: Preset = None,
    method: Annotated[
        str,
        typer.Option(help="The method, with options as in globalcom2:tau=5.", rich_help_panel=COMPRESSION),
    ] = "globalcom2",
    retention_ratios: Annotated[
        str | None,
        typer.Option(
            "--retention-ratios",
            "--budgets",
            "-r",
            help="Shares of the visual tokens that are tried.",
            metavar="<r,r,...>",
            show_default="0.5,0.25,0.1,0.05",
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    max_tokens: Annotated[
        str | None,
        typer.Option(
            help="Numbers of visual tokens, instead.", metavar="<n,n,...>", rich_help_panel=COMPRESSION
        ),
    ] = None,
    agreement: Annotated[
        float,
        typer.Option(help="Least share of equal answers, from 0.6 to 0.999.", rich_help_panel=COMPRESSION),
    ] = 0.95,
    only: Only = False,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of random draws.", show_default="0", rich_help_panel=COMPRESSION),
    ] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    attn_implementation: Attention = None,
    device_map: DeviceMap = None,
    quantization: Quantization = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Questions per batch.", show_default="8", rich_help_panel=MODEL)
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the run.", metavar="<folder>", rich_help_panel=OUTPUT),
    ] = Path("runs/tune"),
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="Longest answer, in tokens.", show_default="the task's", rich_help_panel=OUTPUT),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the smallest budget whose answers equal those with all tokens, on your own questions.

    A budget is confirmed where the lower end of the 95 % Wilson interval of its share of equal answers is at least
    --agreement; budgets are tested from the largest down. Every answer is on disk as soon as it is made: the same
    command goes on with a run that was stopped or killed. The exit code is 1 if the run could not be completed.
    """
    from vidcompress.errors import ArgumentError

    if (data is None) == (task is None):
        given = (
            "nothing to ask" if data is None else f"--data={data!r} and --task={task!r} exclude each other"
        )
        raise ArgumentError(f"data: {given}; pass --data FOLDER or --task NAME")
    settings: dict[str, Any] = {
        "limit": limit,
        "num_frames": num_frames,
        "fps": fps,
        "max_frames": max_frames,
        "preset": preset,
        "seed": seed,
        "device": device,
        "dtype": dtype,
        "attn_implementation": attn_implementation,
        "device_map": device_map,
        "quantization": quantization,
        "batch_size": batch_size,
        "max_new_tokens": max_new_tokens,
    }
    budgets = {
        "ratios": None if retention_ratios is None else read_list(retention_ratios),
        "max_tokens": None if max_tokens is None else read_numbers("max_tokens", max_tokens),
    }
    with quiet():
        tuning = _run(model, task or f"data:{data}", method, budgets, agreement, not only, out, settings)
    if tuning is None:
        return
    lines = [] if tuning.choice() is None else _commands(tuning, model)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **tuning.to_dict(), "commands": lines}, ensure_ascii=False))
        return
    _print(tuning, lines)


def _run(
    model: str | None,
    task: str,
    method: str,
    budgets: dict[str, Any],
    agreement: float,
    controls: bool,
    out: Path,
    settings: dict[str, Any],
) -> Tuning | None:
    """Tune; None on all processes but the first."""
    from vidcompress.loading.load import DEFAULT_MODEL
    from vidcompress.tools.evaluation.run.distributed import Ranks
    from vidcompress.tools.evaluation.run.progress import show_progress
    from vidcompress.tools.evaluation.tuning import tune as run_tuning
    from vidcompress.tools.evaluation.tuning.run_tuning import check_agreement, tuning_sweep

    name = model or DEFAULT_MODEL
    check_agreement(agreement)
    sweep = tuning_sweep(name, task, method=method, controls=controls, **budgets, **settings)
    with Ranks() as ranks:
        kept = f"the answers so far are in {out}, and the same command goes on from there"
        with interruptible(kept, ranks.first), show_progress(len(sweep.rows()), ranks.first) as progress:
            return run_tuning(
                name,
                task,
                out=out,
                method=method,
                retention_ratios=budgets["ratios"],
                max_tokens=budgets["max_tokens"],
                agreement=agreement,
                controls=controls,
                ranks=ranks,
                progress=progress,
                **settings,
            )


def _print(tuning: Tuning, commands: list[str]) -> None:
    from vidcompress.tools.evaluation.tuning.table import findings, tuning_tables

    show_all(tuning_tables(tuning))
    typer.echo()
    for line in findings(tuning):
        show(line, hanging=2)
    for command in commands:
        typer.echo(f"  {command}")
    for row, count in tuning.failed.items():
        print(f"failed: {row}: {count} questions, see its result.json", file=sys.stderr)


def _commands(tuning: Tuning, model: str | None) -> list[str]:
    """Commands that ask and, where the plugin of vLLM is, serve with the budget that was found."""
    from vidcompress.core.config import read_config
    from vidcompress.loading.load import DEFAULT_MODEL

    chosen = tuning.choice()
    if chosen is None:
        return []
    (name, amount), *_ = chosen.budget.items()
    budget = [f"--{name.replace('_', '-')}", f"{amount:g}" if isinstance(amount, float) else str(amount)]
    with_model = ["--model", model] if model else []
    commands = [
        f"{shlex.join(['vidcompress', 'ask', *with_model, '--method', tuning.method, *budget])} QUESTION FILE"
    ]
    # vLLM's attention takes no masses: what was found with them says nothing about a server.
    unchanged = read_config({"method": tuning.method, **chosen.budget}).resolved_mass == "off"
    if unchanged:
        short = ["-r" if word == "--retention-ratio" else word for word in budget]  # a line that fits
        served = ["vidcompress", "serve", model or DEFAULT_MODEL, "--method", tuning.method, *short]
        commands.append(shlex.join(served))
    return commands

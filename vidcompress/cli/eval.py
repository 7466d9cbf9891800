"""`vidcompress eval`: a sweep of models, methods and budgets over benchmarks, which resumes where it was stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcompress.cli.ask import say_remarks
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
    Mass,
    MassCap,
    MaxFrames,
    Model,
    NumFrames,
    Preset,
    Quantization,
    SweepMassStrength,
    SweepViewText,
)
from vidcompress.cli.show import show, show_all
from vidcompress.table import Table

if TYPE_CHECKING:
    from vidcompress.tools.evaluation.run.outcome import RowOutcome
    from vidcompress.tools.evaluation.run.runner import ProgressListener
    from vidcompress.tools.evaluation.run.sweep import Sweep
    from vidcompress.tools.evaluation.tracking.base import Tracker

DEFAULT_METHODS = "globalcom2,random"


def evaluate(
    sweep: Annotated[
        Path | None, typer.Argument(help="Sweep file (TOML); options come before it.", show_default=False)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            "-d",
            help="Folder with questions.jsonl and media; repeat it for several.",
            metavar="<folder>",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            "-t",
            help="shapes:image, shapes:clip, data:FOLDER, parquet:FILE, hub:OWNER/NAME or lmms:NAME; repeat it.",
            metavar="<name>",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Only the first so many questions of a task; fixed for a run.", rich_help_panel=INPUT
        ),
    ] = None,
    num_frames: NumFrames = None,
    fps: Fps = None,
    max_frames: MaxFrames = None,
    preset: Preset = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            help="Methods, with commas between them or one at a time; options as in globalcom2:tau=5.",
            metavar="<m,m,...>",
            show_default=DEFAULT_METHODS,
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    retention_ratios: Annotated[
        str | None,
        typer.Option(
            "--retention-ratios",
            "-r",
            help="Shares of the visual tokens.",
            metavar="<r,r,...>",
            show_default="0.5,0.25,0.1",
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    max_tokens: Annotated[
        str | None,
        typer.Option(
            help="Numbers of visual tokens, instead.", metavar="<n,n,...>", rich_help_panel=COMPRESSION
        ),
    ] = None,
    view_text: SweepViewText = None,
    mass: Mass = None,
    mass_strength: SweepMassStrength = None,
    mass_cap: MassCap = None,
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
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the run.",
            metavar="<folder>",
            show_default="runs/NAME",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="Longest answer, in tokens.", show_default="the task's", rich_help_panel=OUTPUT),
    ] = None,
    failed: Annotated[
        str | None,
        typer.Option(
            help="What a question that failed is in the scores: wrong or left-out.",
            show_default="wrong",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    log_to: Annotated[
        list[str] | None,
        typer.Option(
            "--log-to",
            help="Log every row to a tracker: trackio or wandb; repeat it for both.",
            metavar="<name>",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the rows, check their arguments, and run none.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure accuracy: models x tasks x methods x budgets, each task with the uncompressed model first.

    Every answer is on disk as soon as it is made: the same command goes on with a run that was stopped or killed, also
    with another number of processes (torchrun --nproc_per_node 2 -m vidcompress eval ...). The exit code is 1 if a row
    or a question failed.
    """
    loading = {
        "device": device,
        "dtype": dtype,
        "attn_implementation": attn_implementation,
        "device_map": device_map,
        "quantization": quantization,
        "preset": preset,
        "num_frames": num_frames,
        "fps": fps,
        "max_frames": max_frames,
    }
    common = {
        "limit": limit,
        "batch_size": batch_size,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "failed": failed,
        "view_text": view_text,
        "mass": mass,
        "mass_strength": mass_strength,
        "mass_cap": mass_cap,
    }
    listed = None if methods is None else ",".join(methods)
    lists = {"methods": listed, "ratios": retention_ratios, "max_tokens": max_tokens}
    tasks = [*(f"data:{folder}" for folder in data or ()), *(task or ())]
    with quiet():
        plan = _plan(sweep, model, tasks, lists, _given(loading), _given(common))
        folder = out or Path("runs") / plan.name
        notes = _remarks(plan) if sweep is None and model is None else []
        trackers = _trackers(log_to)
        outcomes = None if dry_run else _run(plan, folder, trackers)
    if outcomes is None:
        _print_plan(plan, folder, notes, as_json)
        say_remarks(notes)
    elif outcomes:
        _say_complete(outcomes)
        _print_outcomes(outcomes, folder, notes, as_json)
        say_remarks(notes)
        if not all(outcome.good for outcome in outcomes):
            _list_failures(outcomes, folder)
            raise typer.Exit(1)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _plan(
    path: Path | None,
    model: str | None,
    tasks: list[str],
    lists: dict[str, str | None],
    loading: dict[str, Any],
    common: dict[str, Any],
) -> Sweep:
    """Make the sweep of a file with the command line's changes, or of the command line alone."""
    from vidcompress.core.method_spec import split_method_specs
    from vidcompress.errors import ArgumentError
    from vidcompress.loading.load import DEFAULT_MODEL
    from vidcompress.tools.evaluation.run.sweep_file import parse_sweep, read_sweep

    if path is None and not tasks:
        raise ArgumentError("data: there is nothing to ask; pass a sweep file, --data or --task")
    content: dict[str, Any] = (
        {"models": [DEFAULT_MODEL], "methods": split_method_specs(DEFAULT_METHODS)}
        if path is None
        else parse_sweep(path)
    )
    if model is not None:
        content["models"] = [model]
    if tasks:
        content["tasks"] = tasks
    if lists["methods"] is not None:
        content["methods"] = split_method_specs(lists["methods"])
    if lists["ratios"] is not None or lists["max_tokens"] is not None:
        content.pop("ratios", None)
        content.pop("max_tokens", None)
        content |= {
            name: _numbers(name, lists[name]) for name in ("ratios", "max_tokens") if lists[name] is not None
        }
    if loading and isinstance(content.get("models"), list):
        content["models"] = [
            {**({"name": entry} if isinstance(entry, str) else entry), **loading}
            if isinstance(entry, (str, dict))
            else entry
            for entry in content["models"]
        ]
    name = (
        path.stem
        if path is not None
        else Path(tasks[0].partition(":")[2]).name.removesuffix(".parquet") or "sweep"
    )
    return read_sweep({**content, **common}, where="" if path is None else f"{path}: ", name=name)


def _numbers(name: str, text: str | None) -> list[Any]:
    from vidcompress.errors import ArgumentError

    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if name == "ratios":
        return list(parts)
    try:
        return [int(part) for part in parts]
    except ValueError:
        raise ArgumentError(
            f"--max-tokens={text!r}: must be whole numbers with commas between them, as 128,64"
        ) from None


def _remarks(plan: Sweep) -> list[str]:
    """Return notes on tasks with media that are not the package's own, where the model is the default one."""
    from vidcompress.qa.question import REMARK, is_own

    own: dict[str, Callable[[str], bool]] = {
        "shapes": bool,  # drawn here
        "data": is_own,
        "lmms": lambda rest: rest.startswith("vidcompress_"),  # those of the suite
    }
    return [] if all(task.kind in own and own[task.kind](task.rest) for task in plan.tasks) else [REMARK]


def _trackers(names: list[str] | None) -> dict[str, Tracker]:
    """Import the trackers that are named, before anything runs."""
    if not names:
        return {}
    from vidcompress.tools.evaluation.tracking.adapters import open_trackers

    return open_trackers(names)


def _tracking(
    plan: Sweep, folder: Path, trackers: dict[str, Tracker], progress: ProgressListener
) -> ProgressListener:
    from vidcompress.tools.evaluation.tracking.listener import TrackingListener

    def remark(line: str) -> None:
        print(f"vidcompress: note: {line}", file=sys.stderr)

    return TrackingListener(progress, trackers, plan.name, folder, remark)


def _run(plan: Sweep, folder: Path, trackers: dict[str, Tracker]) -> Sequence[RowOutcome]:
    """Run a sweep; the result is empty on all processes but the first, which alone logs to trackers."""
    from vidcompress.tools.evaluation.run.distributed import Ranks
    from vidcompress.tools.evaluation.run.progress import show_progress
    from vidcompress.tools.evaluation.run.runner import Runner

    with Ranks() as ranks:
        kept = f"the answers so far are in {folder}, and the same command goes on from there"
        with interruptible(kept, ranks.first), show_progress(len(plan.rows()), ranks.first) as progress:
            if trackers and ranks.first:
                progress = _tracking(plan, folder, trackers, progress)
            outcomes = Runner(plan, folder, ranks, progress).run()
    return outcomes if ranks.first else ()


def _print_plan(plan: Sweep, folder: Path, notes: list[str], as_json: bool) -> None:
    from vidcompress.loading.load import resolve
    from vidcompress.media.preprocessing.processor_files import check_preset
    from vidcompress.tools.evaluation.lmms_eval.row import check_lmms_row
    from vidcompress.tools.evaluation.run.result_file import read_result
    from vidcompress.tools.evaluation.run.runner import Runner
    from vidcompress.tools.evaluation.run.worker import ANSWERS
    from vidcompress.tools.evaluation.tasks.registry import make_task

    for task in plan.tasks:  # errors of a run are raised now
        if task.kind not in ("shapes", "lmms"):
            make_task(task, folder).items()
    for model in plan.models:
        check_preset(resolve(model.name), model.preset, model.revision)
    for row in plan.rows():
        if row.task.kind == "lmms":
            check_lmms_row(row, folder / row.id)
    Runner(plan, folder).check_folder()
    entries = []
    for row in plan.rows():
        place = folder / row.id
        begun = "begun" if (place / ANSWERS).exists() else "new"
        entries.append(
            {
                "row": row.id,
                "model": row.model.shown,
                "task": row.task.label or row.task.name,
                "method": row.method,
                **row.budget,
                "state": begun if read_result(place) is None else "there",
            }
        )
    if as_json:
        typer.echo(json.dumps({"out": str(folder), "rows": entries, "notes": notes}, ensure_ascii=False))
        return
    typer.echo(f"{len(entries)} rows in {folder}")
    show(Table.of_lines(("state", "row"), [(entry["state"], entry["row"]) for entry in entries], keys=2))


def _say_complete(outcomes: Sequence[RowOutcome]) -> None:
    """Print to stderr how many rows an earlier run had completed."""
    before = sum(outcome.complete_before for outcome in outcomes)
    if before:
        rows = f"{before} {'row was' if before == 1 else 'rows were'} complete before"
        ran = len(outcomes) - before
        print(f"{rows} and {f'{ran} ran now' if ran else 'none was left to run'}", file=sys.stderr)


def _print_outcomes(outcomes: Sequence[RowOutcome], folder: Path, notes: list[str], as_json: bool) -> None:
    if not as_json:
        _print_table(outcomes, folder)
        return
    names = ("model", "task", "scores", "tokens", "unreachable", "failed")
    rows = [
        {
            "row": outcome.row.id,
            "method": outcome.row.method,
            **outcome.row.budget,
            "error": outcome.error,
            "complete_before": outcome.complete_before,
            **({} if outcome.result is None else {name: outcome.result[name] for name in names}),
        }
        for outcome in outcomes
    ]
    typer.echo(json.dumps({"out": str(folder), "rows": rows, "notes": notes}, ensure_ascii=False))


def _print_table(outcomes: Sequence[RowOutcome], folder: Path) -> None:
    """Print the tables of `vidcompress results` for the rows of this sweep."""
    from vidcompress.tools.evaluation.report.load import read_rows
    from vidcompress.tools.evaluation.report.tables import report_tables
    from vidcompress.tools.evaluation.run.result_file import NAME

    there = [folder / outcome.row.id / NAME for outcome in outcomes if outcome.result is not None]
    if there:
        rows, _ = read_rows(there)
        show_all(report_tables(rows))


def _list_failures(outcomes: Sequence[RowOutcome], folder: Path, most: int = 5) -> None:
    """Print failures to stderr: whole rows, and the first few questions of each."""
    for outcome in outcomes:
        if outcome.error is not None:
            print(f"failed: {outcome.row.id}: {' '.join(outcome.error.split())}", file=sys.stderr)
        listed = [] if outcome.result is None else list(outcome.result["failed"])
        for entry in listed[:most]:
            print(f"failed: {outcome.row.id}: question {entry['id']!r}: {entry['error']}", file=sys.stderr)
        if len(listed) > most:
            print(
                f"failed: {outcome.row.id}: {len(listed) - most} more, see {folder / outcome.row.id / 'result.json'}",
                file=sys.stderr,
            )

"""`vidcompress suite`: drawn benchmarks, as folders and as tasks of lmms-eval."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vidcompress.cli.help_text import Command, Group, examples
from vidcompress.cli.interrupt import interruptible
from vidcompress.cli.options import INPUT, OUTPUT, Json
from vidcompress.cli.show import show

EXAMPLES = {
    "list": ("vidcompress suite list", "vidcompress suite list --json"),
    "make": (
        "vidcompress suite make needle -o data/needle",
        "vidcompress suite make detail -o data/detail --questions 60 --seed 1",
    ),
    "path": (
        "vidcompress suite path",
        'python -m lmms_eval --include_path "$(vidcompress suite path)" --tasks list',
    ),
}
"""Examples at the end of each command's help, as in `vidcompress.cli.EXAMPLES`."""

suite = typer.Typer(
    name="suite",
    cls=Group,
    help="Draw the offline benchmarks, for `vidcompress eval --data` and for lmms-eval.",
    no_args_is_help=True,
)


@suite.command("list", cls=Command, epilog=examples(*EXAMPLES["list"]))
def list_suite(as_json: Json = False) -> None:
    """List the benchmarks of the suite."""
    from vidcompress.tools.evaluation.suite import BENCHMARKS

    if as_json:
        entries = [
            {"name": b.name, "summary": b.summary, "questions": b.questions, "most": b.most, "note": b.note}
            for b in BENCHMARKS.values()
        ]
        typer.echo(json.dumps({"benchmarks": entries}))
        return
    for benchmark in BENCHMARKS.values():
        show(benchmark.name, style="bold")
        show(f"    {benchmark.summary}", hanging=4)
        show(f"    {benchmark.questions} questions unless asked otherwise", style="dim")
        if benchmark.note:
            show(f"    {benchmark.note}", style="dim", hanging=4)


@suite.command(cls=Command, epilog=examples(*EXAMPLES["make"]))
def make(
    name: Annotated[str, typer.Argument(help="A benchmark; `suite list` shows them.")],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="New folder; one that was begun with the same options is gone on with.",
            metavar="<folder>",
            rich_help_panel=OUTPUT,
        ),
    ],
    questions: Annotated[
        int | None,
        typer.Option(help="How many questions.", show_default="the benchmark's", rich_help_panel=INPUT),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="0 to 99, each with scenes of its own.", rich_help_panel=INPUT)
    ] = 0,
    view: Annotated[
        int | None,
        typer.Option(
            help="Side of the model's views in pixels (detail only).",
            show_default="112",
            rich_help_panel=INPUT,
        ),
    ] = None,
    prompt_suffix: Annotated[
        str,
        typer.Option(
            help="Put behind every question, for models that answer in sentences.", rich_help_panel=INPUT
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Draw a benchmark into a folder; the same options give the same questions and pictures."""
    from vidcompress.errors import ArgumentError
    from vidcompress.progress import drawing_progress
    from vidcompress.tools.evaluation.suite import make as draw

    if not out:
        raise ArgumentError("out='': must be the name of a folder, such as data/needle")
    kept = f"what is drawn so far is in {out}, and the same command goes on from there"
    with interruptible(kept), drawing_progress(name) as show:
        data = draw(
            name,
            out,
            questions=questions,
            seed=seed,
            view=view,
            prompt_suffix=prompt_suffix,
            on_question=show,
        )
    if as_json:
        counts = {"folder": str(data.folder), "questions": data.questions, "files": data.files}
        typer.echo(json.dumps({"benchmark": name, **counts, "revision": data.revision}))
    else:
        typer.echo(f"{data.folder}: {data.questions} questions, {data.files} files, sha256 {data.revision}")


@suite.command(cls=Command, epilog=examples(*EXAMPLES["path"]))
def path() -> None:
    """Print the folder of the lmms-eval tasks, for its --include_path."""
    from vidcompress.tools.evaluation.suite import tasks_folder

    typer.echo(str(tasks_folder()))

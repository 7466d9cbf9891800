"""`vidcompress doctor`: checks of this machine, or of a checkpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from vidcompress.cli.options import INPUT, MODEL, OUTPUT, Fps, Images, Json, Preset, Video, read_size
from vidcompress.cli.show import show

if TYPE_CHECKING:
    from vidcompress.tools.doctor import Check


def doctor(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Examine this checkpoint instead: embedded model, folder, or hub id.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    image: Images = None,
    video: Video = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="With --model: a picture of this size in pixels, instead of --image.",
            metavar="<w>x<h>",
            rich_help_panel=INPUT,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            "-n",
            help="With --model: frames taken of --video, or of any clip.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    fps: Fps = None,
    preset: Preset = None,
    timeout: Annotated[
        float, typer.Option(help="Most seconds for one check.", rich_help_panel=OUTPUT)
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Say which packages, decoders, devices, plug-ins and embedded models work; exit code 1 if a needed one fails.

    With --model it examines a checkpoint without loading its weights: whether it is supported and complete, and
    what views and tokens it makes of a picture or a clip.
    """
    from vidcompress.tools.doctor import run

    topics: list[str] = []

    def show_check(check: Check) -> None:
        if check.topic not in topics:
            topics.append(check.topic)
            show(check.topic, style="bold")
        style = (
            "bold red" if check.is_problem else {"ok": "", "missing": "dim", "failed": "yellow"}[check.status]
        )
        show(check.line(), style=style, hanging=36)

    diagnosis = run(
        model,
        images=list(image or ()),
        video=video,
        size=None if size is None else read_size("--size", size),
        frames=frames,
        fps=fps,
        preset=preset,
        timeout_s=timeout,
        on_check=(lambda check: None) if as_json else show_check,
    )
    if as_json:
        typer.echo(json.dumps(diagnosis.to_dict(), ensure_ascii=False))
    else:
        for line in diagnosis.summary():
            show(line, style="bold", hanging=4)
    if not diagnosis.ok:
        raise typer.Exit(1)

"""`vidcompress remember`: a compressed visual memory of a clip, in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vidcompress.checks import DEFAULT_MAX_FRAMES
from vidcompress.cli.library_output import loading, quiet
from vidcompress.cli.options import (
    COMPRESSION,
    FILE,
    OUTPUT,
    Backend,
    Device,
    Dtype,
    Fps,
    FramesOrAll,
    Json,
    MaxFrames,
    MethodOption,
    Model,
    read_options,
)
from vidcompress.progress import decoding_progress

Most = Annotated[
    int, typer.Option(help="Largest budget of a question, in visual tokens.", rich_help_panel=COMPRESSION)
]
StreamHold = Annotated[
    float, typer.Option(help="Tokens held per token of it, 2 or more.", rich_help_panel=COMPRESSION)
]
StreamMethod = Annotated[
    str, typer.Option(help="How tokens are chosen (see `methods`).", rich_help_panel=COMPRESSION)
]


def remember(
    video: Annotated[
        str, typer.Argument(help="A video file, or a folder of frames.", metavar=FILE, show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="The file to write.", metavar=FILE, rich_help_panel=OUTPUT, show_default=False
        ),
    ],
    num_frames: FramesOrAll = None,
    fps: Fps = None,
    max_frames: MaxFrames = None,
    backend: Backend = "auto",
    method: StreamMethod = "census",
    max_tokens: Most = 1000,
    hold: StreamHold = 4.0,
    option: MethodOption = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Write a compressed visual memory of a clip, which `ask --memory` answers from.

    The file holds features of the clip, from which much of it can be read off: treat it as the clip itself.
    """
    from vidcompress.cli.ask import check_media

    check_media([], video)
    options = read_options(method, option or [])
    with quiet():
        with loading(model):
            from vidcompress.qa import VisualQA

            qa = VisualQA.from_pretrained(
                model,
                method=method,
                max_tokens=max_tokens,
                device=device,
                dtype=dtype,
                backend=backend,
                **options,
            )
        with decoding_progress():
            path = qa.remember(
                video,
                out,
                max_tokens=max_tokens,
                hold=hold,
                num_frames=num_frames,
                fps=fps,
                max_frames=DEFAULT_MAX_FRAMES if max_frames is None else max_frames,
            )
    size = path.stat().st_size
    if as_json:
        typer.echo(
            json.dumps({"memory": str(path), "bytes": size, "method": method, "max_tokens": max_tokens})
        )
    else:
        typer.echo(
            f"{path}: {size / 2**20:.2f} MiB; ask with `vidcompress ask QUESTION --memory {path} --method {method}`"
        )

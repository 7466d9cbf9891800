"""`vidcompress app`: a page in the browser that asks, compares and shows what was kept."""

from __future__ import annotations

import signal
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer

from vidcompress.cli.library_output import loading, quiet
from vidcompress.cli.options import (
    Attention,
    Backend,
    Device,
    DeviceMap,
    Dtype,
    Fps,
    FramesOrAll,
    MaxNewTokens,
    Model,
    Preset,
    Quantization,
)

SERVER = "Server"
SECONDS_BETWEEN_LOOKS = 0.2


@contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM within the block into an event, so that the server ends in order."""
    stopped = threading.Event()
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        restore()  # a second one ends at once

    before.update({number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)})
    try:
        yield stopped
    finally:
        restore()


def serve(
    host: Annotated[
        str,
        typer.Option(
            help="Address to bind to; 0.0.0.0 lets other machines in, without a password.",
            rich_help_panel=SERVER,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            help="Port to bind to.",
            show_default="first free from 7860",
            rich_help_panel=SERVER,
        ),
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.", rich_help_panel=SERVER)
    ] = False,
    num_frames: FramesOrAll = None,
    fps: Fps = None,
    backend: Backend = "auto",
    preset: Preset = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    attn_implementation: Attention = None,
    device_map: DeviceMap = None,
    quantization: Quantization = None,
    max_new_tokens: MaxNewTokens = 64,
) -> None:
    """Serve a page: upload a picture or a clip, ask, and see the answers with all and with fewer tokens.

    A second tab shows costs on paper. Needs gradio (extra `app`). Nothing is asked of other hosts, and uploads are
    deleted after an hour and at the end. Ctrl-C ends it.
    """
    from vidcompress.cli.ask import check_numbers

    check_numbers(max_new_tokens, None)
    with quiet():
        from vidcompress.tools.app.server import check_address, check_gradio, is_local, running_app

        # Errors that need no model are raised before one is loaded.
        check_gradio()
        check_address(host, port)
        with loading(model):
            from vidcompress.qa import VisualQA

            qa = VisualQA.from_pretrained(
                model,
                device=device,
                dtype=dtype,
                attn_implementation=attn_implementation,
                device_map=device_map,
                quantization=quantization,
                preset=preset,
                num_frames=num_frames,
                fps=fps,
                backend=backend,
            )
        with (
            _until_stopped() as stopped,
            running_app(qa, host=host, port=port, max_new_tokens=max_new_tokens) as url,
        ):
            typer.echo(f"{url} (Ctrl-C ends it)", err=True)
            if not is_local(host):
                typer.echo(
                    f"vidcompress: note: other machines can reach {host}, and the page asks for no password",
                    err=True,
                )
            if open_browser:
                webbrowser.open(url)
            while not stopped.is_set():  # not wait, whose lock the handler might need
                time.sleep(SECONDS_BETWEEN_LOOKS)
    typer.echo("ended; uploads are deleted", err=True)

"""`vidcompress watch`: questions about a video file that is still being written, or about a named pipe."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcompress.cli.clips.remember import Most, StreamHold, StreamMethod
from vidcompress.cli.library_output import loading, quiet
from vidcompress.cli.options import (
    FILE,
    INPUT,
    OUTPUT,
    Device,
    Dtype,
    MaxNewTokens,
    MethodOption,
    Model,
    read_options,
)

if TYPE_CHECKING:
    from vidcompress.qa.memory.watch import Watch

TOGETHER = 8
"""Frames that are encoded together where they come fast enough."""


def watch(
    source: Annotated[
        str,
        typer.Argument(
            help="A file that is being written, or a named pipe: MPEG-TS, Matroska, FLV, NUT or YUV4MPEG.",
            metavar=FILE,
            show_default=False,
        ),
    ],
    fps: Annotated[
        float | None,
        typer.Option(help="Most frames per second.", show_default="every frame", rich_help_panel=INPUT),
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(
            help="Seconds without new data after which the source has ended.",
            show_default="never",
            rich_help_panel=INPUT,
        ),
    ] = None,
    at_end: Annotated[
        bool,
        typer.Option(
            "--at-end", help="Answer when the source has ended; wants --idle.", rich_help_panel=INPUT
        ),
    ] = False,
    method: StreamMethod = "census",
    max_tokens: Most = 1000,
    hold: StreamHold = 4.0,
    option: MethodOption = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    max_new_tokens: MaxNewTokens = 64,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a question.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Watch a video that is still being written, and answer a question per line of stdin about what was seen so far.

    Memory stays constant. Answers go to stdout, one line each. It ends with stdin, or with Ctrl-C.
    """
    from vidcompress.checks import positive, whole_number
    from vidcompress.errors import ArgumentError
    from vidcompress.media.video.growing import check_source

    whole_number("max_new_tokens", max_new_tokens)
    if at_end and idle is None:
        raise ArgumentError(
            "--at-end waits for the end of the source; pass --idle to say when that is, as in --idle 5"
        )
    for name, number, unit in (("fps", fps, "frames per second"), ("idle", idle, "seconds")):
        if number is not None:
            positive(name, number, unit)
    check_source(source)
    options = read_options(method, option or [])
    with quiet(), loading(model):
        from vidcompress.qa import VisualQA

        qa = VisualQA.from_pretrained(
            model, method=method, max_tokens=max_tokens, device=device, dtype=dtype, **options
        )
    answers = sys.stdout  # `quiet` redirects it for all threads, so that it is entered once, for both
    with quiet(), qa.watch(max_tokens=max_tokens, hold=hold) as seen, _Feed(seen, source, fps, idle) as feed:
        for line in sys.stdin:
            if not line.strip():
                continue
            feed.wait(at_end)
            answer = seen.ask(line.strip(), max_new_tokens=max_new_tokens)
            entry = {
                "question": line.strip(),
                "answer": answer.text,
                "frames": seen.frames,
                "notes": answer.notes,
            }
            text = " ".join(answer.text.split())
            typer.echo(json.dumps(entry, ensure_ascii=False) if as_json else text, file=answers)
            print(f"{seen.frames} frames seen, {answer.report.kept} tokens sent", file=sys.stderr)


class _Feed:
    """Thread that adds the frames of a source to a watch; its error is raised where one waits for it."""

    def __init__(self, seen: Watch, source: str, fps: float | None, idle: float | None) -> None:
        self._seen, self._source, self._fps, self._idle = seen, source, fps, idle
        self._stop, self._some = threading.Event(), threading.Event()
        self._pending: list[Any] = []
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="vidcompress-watch", daemon=True)

    def __enter__(self) -> _Feed:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, until_end: bool) -> None:
        """Wait for the first frame, or for the end; frames that came since are added too.

        Raises:
            MediaError: the source cannot be read, or ended without a frame.
        """
        if until_end:
            self._thread.join()
        self._some.wait()
        if self._error is not None:
            raise self._error
        self._add()

    def _run(self) -> None:
        from vidcompress.media.video.growing import live_frames

        try:
            for frame in live_frames(self._source, self._fps, self._stop, self._idle):
                with self._lock:
                    self._pending.append(frame)
                if len(self._pending) >= TOGETHER or not self._some.is_set():
                    self._add()
            self._add()
        except BaseException as error:  # noqa: BLE001  (raised in the thread that waits)
            self._error = error
        finally:
            self._some.set()

    def _add(self) -> None:
        """Add the frames that wait; the lock keeps them in order."""
        import numpy as np

        with self._lock:
            if self._pending:
                pictures, times = zip(*self._pending, strict=True)
                self._pending.clear()
                self._seen.add(np.stack(pictures), times)
                self._some.set()

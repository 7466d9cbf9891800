"""Progress bars on stderr for a person at a terminal; rich is imported when a bar is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 30.0
"""Least time between two progress lines where stderr is no terminal."""

SECONDS_BEFORE_BAR = 0.5
"""Time after which a bar of decoded frames is shown, so that short clips show none."""

FrameCallback = Callable[[int, int], None]
"""Called with the frames decoded and the frames in all."""

ON_FRAME: ContextVar[FrameCallback | None] = ContextVar("ON_FRAME", default=None)
"""What a video reader calls after each frame that it keeps; None outside `decoding_progress`."""


def counting_bar(*, described_last: bool = False, transient: bool = False, redirect: bool = True) -> Progress:
    """Display of rich on stderr: for each task its description, a bar, a count and the time left.

    Args:
        described_last: descriptions stand behind the bars, which long ones would move.
        transient: whether it is gone when it ends.
        redirect: whether what is printed meanwhile goes above it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    described = TextColumn("{task.description}")
    counted = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(
        *((*counted, described) if described_last else (described, *counted)),
        console=Console(stderr=True),
        transient=transient,
        redirect_stdout=redirect,
        redirect_stderr=redirect,
    )


@contextmanager
def question_progress(total: int, enabled: bool | None, batches: int) -> Iterator[Callable[[int], None]]:
    """Bar of answered questions.

    Args:
        total: questions.
        enabled: True or False; None shows the bar for more than one batch on a terminal.
        batches: number of batches that the questions come in.

    Yields:
        A function to call with the number of questions just answered.
    """
    if enabled is False or (enabled is None and (batches < 2 or not sys.stderr.isatty())):
        yield lambda count: None
        return
    with counting_bar() as progress:
        task = progress.add_task("answering", total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def measurement_progress() -> Iterator[Callable[[int, int, str], None]]:
    """Bar of measurements on a terminal; elsewhere a line every `SECONDS_BETWEEN_LINES` seconds.

    Yields:
        A function to call with measurements done, measurements in all, and a description of the next one.
    """
    if not sys.stderr.isatty():
        last = [time.monotonic()]

        def print_line(done: int, total: int, description: str) -> None:
            if time.monotonic() - last[0] > SECONDS_BETWEEN_LINES:
                last[0] = time.monotonic()
                print(f"{done}/{total} {description}", file=sys.stderr, flush=True)

        yield print_line
        return
    with counting_bar(described_last=True, transient=True) as progress:
        task = progress.add_task("making the model", total=None)
        yield lambda done, total, description: progress.update(
            task, completed=done, total=total, description=description
        )


@contextmanager
def drawing_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Bar of drawn questions on a terminal; nothing elsewhere.

    Args:
        name: of the benchmark that is drawn.

    Yields:
        A function to call with the questions drawn and the questions in all.
    """
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    with counting_bar() as progress:
        task = progress.add_task(f"drawing {name}", total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


@contextmanager
def loading_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Spinner for a model that is loaded, with the number of its tensors, on a terminal; gone when it is loaded.

    Args:
        name: of the checkpoint.

    Yields:
        A function to call with the tensors loaded and the tensors in all.
    """
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    description = f"loading {_shown(name)}"
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # the command line redirects it by itself
        redirect_stderr=False,
    ) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, of: progress.update(task, description=f"{description}, {done} of {of} tensors")


@contextmanager
def decoding_progress() -> Iterator[None]:
    """Bar of the frames decoded within the block, on a terminal, for clips that take long; gone when all are there."""
    if not sys.stderr.isatty():
        yield
        return
    bar = _FrameBar()
    token = ON_FRAME.set(bar)
    try:
        yield
    finally:
        ON_FRAME.reset(token)
        bar.stop()


class _FrameBar:
    """Bar of decoded frames; it is called from the thread that decodes."""

    def __init__(self) -> None:
        self._begun, self._lock, self._stopped = time.monotonic(), Lock(), False
        self._progress: Any = None
        self._task: Any = None

    def __call__(self, done: int, total: int) -> None:
        with self._lock:
            if done >= total:
                self._hide()
            elif not self._stopped and time.monotonic() - self._begun > SECONDS_BEFORE_BAR:
                self._show(done, total)

    def stop(self) -> None:
        """Remove the bar for good."""
        with self._lock:
            self._stopped = True
            self._hide()

    def _show(self, done: int, total: int) -> None:
        if self._progress is None:
            bar = counting_bar(transient=True, redirect=False)
            self._task = bar.add_task("decoding frames", total=total)
            bar.start()
            self._progress = bar
        self._progress.update(self._task, completed=done, total=total)

    def _hide(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _shown(name: str, length: int = 40) -> str:
    """The end of a name, in which square brackets are no markup."""
    from rich.markup import escape

    return escape(name if len(name) <= length else f"...{name[3 - length :]}")

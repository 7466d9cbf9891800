"""Progress bars on stderr for a person at a terminal; rich is imported when a bar is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 30.0
"""Least time between two progress lines where stderr is no terminal."""


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
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("answering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
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
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
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
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"drawing {name}", total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)

"""A progress bar on stderr, where that is a terminal, and a line per step where it is not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 30.0
"""Seconds between two lines of a run that nobody watches."""


@contextmanager
def bar() -> Iterator[Callable[[int, int, str], None]]:
    """Give what a run calls with measurements done, measurements in all, and what comes next."""
    if not sys.stderr.isatty():
        last = [time.monotonic()]

        def say(done: int, of: int, what: str) -> None:
            if time.monotonic() - last[0] > EVERY:
                last[0] = time.monotonic()
                print(f"{done}/{of} {what}", file=sys.stderr, flush=True)

        yield say
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("making the model", total=None)
        yield lambda done, of, what: progress.update(task, completed=done, total=of, description=what)

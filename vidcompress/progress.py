"""A progress bar on stderr, where somebody can see it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(total: int, wanted: bool | None, batches: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` questions are answered.

    Args:
        total: questions.
        wanted: True and False are obeyed; None shows the bar for more than one batch on a terminal.
        batches: how many batches they come in.

    Yields:
        A function to call with the number of questions just answered.
    """
    if wanted is False or (wanted is None and (batches < 2 or not sys.stderr.isatty())):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("answering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("answering", total=total)
        yield lambda count: progress.advance(task, count)

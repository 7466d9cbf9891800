"""How a sweep goes, on stderr: a bar for the sweep, a bar for the run, and a line for every row that has ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vidcompress.tools.evaluation.run.runner import Outcome, Watcher
from vidcompress.tools.evaluation.run.sweep import Row


class Bars(Watcher):
    """Two bars of rich.

    Args:
        progress: draws them.
        rows: of the sweep.
    """

    def __init__(self, progress: Progress, rows: int) -> None:
        self._progress = progress
        self._sweep = progress.add_task("sweep", total=rows)
        self._run = progress.add_task("run", total=None)

    def row(self, row: Row, questions: int, done: int) -> None:
        """Begin the lower bar anew."""
        self._progress.update(self._run, description=escape(short(row)))
        self._progress.reset(self._run, total=questions or None, completed=done)

    def advance(self, questions: int) -> None:
        """Move the lower bar."""
        self._progress.advance(self._run, questions)

    def outcome(self, outcome: Outcome) -> None:
        """Move the upper bar and write a line above both."""
        self._progress.advance(self._sweep)
        self._progress.console.print(escape(line(outcome)), highlight=False, soft_wrap=True)


class Lines(Watcher):
    """A line per row, where there is no terminal."""

    def outcome(self, outcome: Outcome) -> None:
        """Write it."""
        print(line(outcome), file=sys.stderr, flush=True)


@contextmanager
def watching(rows: int, wanted: bool = True) -> Iterator[Watcher]:
    """Bars on a terminal, lines elsewhere, nothing where it is not wanted.

    Args:
        rows: of the sweep.
        wanted: False on all processes but the first.
    """
    if not wanted:
        yield Watcher()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield Bars(progress, rows)


def short(row: Row) -> str:
    """A row in few words."""
    return f"{row.model.shown} {row.task.label or row.task.name} {row.method} {row.asked}"


def line(outcome: Outcome) -> str:
    """What became of a row, in one line."""
    result = outcome.result
    if outcome.error is not None or result is None:
        return f"{short(outcome.row)}: failed: {outcome.error or 'no result'}"
    if result["unreachable"]:
        return f"{short(outcome.row)}: empty: {result['unreachable']}"
    score, tokens = result["scores"].get(result["main"]), result["tokens"]
    parts = [f"{result['main']} {score:.4f}" if score is not None else "nothing to score"]
    if tokens:
        parts.append(f"{tokens['kept']:g} of {tokens['total']:g} tokens")
    parts.append(f"{result['task']['questions']} questions")
    parts += [f"{outcome.failed} failed"] if outcome.failed else []
    return f"{short(outcome.row)}: {', '.join(parts)}"

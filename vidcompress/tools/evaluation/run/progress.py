"""Progress of a sweep on stderr: a bar for the sweep, a bar for the row, and a line per finished row."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import Progress

from vidcompress.progress import counting_bar
from vidcompress.tools.evaluation.run.outcome import RowOutcome
from vidcompress.tools.evaluation.run.runner import ProgressListener
from vidcompress.tools.evaluation.run.sweep import SweepRow


class ProgressBars(ProgressListener):
    """Two progress bars: sweep and row.

    Args:
        progress: display of rich.
        rows: number of rows in the sweep.
    """

    def __init__(self, progress: Progress, rows: int) -> None:
        self._progress = progress
        self._sweep = progress.add_task("sweep", total=rows)
        self._run = progress.add_task("run", total=None)

    def row(self, row: SweepRow, questions: int, done: int) -> None:
        """Restart the lower bar."""
        self._progress.update(self._run, description=escape(row_name(row)))
        self._progress.reset(self._run, total=questions or None, completed=done)

    def advance(self, questions: int) -> None:
        """Move the lower bar."""
        self._progress.advance(self._run, questions)

    def outcome(self, outcome: RowOutcome) -> None:
        """Move the upper bar, and write a line above both for a row that ran."""
        self._progress.advance(self._sweep)
        if not outcome.complete_before:
            self._progress.console.print(escape(outcome_line(outcome)), highlight=False, soft_wrap=True)


class ProgressLines(ProgressListener):
    """A line per row that ran, for a stderr that is no terminal."""

    def outcome(self, outcome: RowOutcome) -> None:
        """Write the line."""
        if not outcome.complete_before:
            print(outcome_line(outcome), file=sys.stderr, flush=True)


@contextmanager
def show_progress(rows: int, enabled: bool = True) -> Iterator[ProgressListener]:
    """Progress listener: bars on a terminal, lines elsewhere, none where disabled.

    Args:
        rows: number of rows in the sweep.
        enabled: False on all processes but the first.
    """
    if not enabled:
        yield ProgressListener()
    elif not sys.stderr.isatty():
        yield ProgressLines()
    else:
        with counting_bar() as progress:
            yield ProgressBars(progress, rows)


def row_name(row: SweepRow) -> str:
    """Short name of a row: model, task, method, budget."""
    return f"{row.model.shown} {row.task.label or row.task.name} {row.method} {row.budget_text}"


def outcome_line(outcome: RowOutcome) -> str:
    """Outcome of a row in one line."""
    result = outcome.result
    if outcome.error is not None or result is None:
        return f"{row_name(outcome.row)}: failed: {outcome.error or 'no result'}"
    if result["unreachable"]:
        return f"{row_name(outcome.row)}: empty: {result['unreachable']}"
    score, tokens = result["scores"].get(result["main"]), result["tokens"]
    parts = [f"{result['main']} {score:.4f}" if score is not None else "nothing to score"]
    if tokens:
        parts.append(f"{tokens['kept']:g} of {tokens['total']:g} tokens")
    parts.append(f"{result['task']['questions']} questions")
    parts += [f"{outcome.resumed} answered before"] if outcome.resumed else []
    parts += [f"{outcome.failed} failed"] if outcome.failed else []
    return f"{row_name(outcome.row)}: {', '.join(parts)}"

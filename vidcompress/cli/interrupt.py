"""Ctrl-C: one line on stderr and the exit code of a shell, in every command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

INTERRUPTED = 130
"""Exit code after SIGINT: 128 and the number of the signal."""


def say_interrupted(going_on: str = "") -> None:
    """Print the line on stderr, on a terminal below its `^C`.

    Args:
        going_on: sentence on the results kept and how to resume.
    """
    below = "\n" if sys.stderr.isatty() else ""
    print(f"{below}vidcompress: interrupted{going_on and f'; {going_on}'}", file=sys.stderr, flush=True)


@contextmanager
def interruptible(going_on: str = "", first: bool = True) -> Iterator[None]:
    """Turn Ctrl-C within the block into one line and exit code 130.

    Args:
        going_on: sentence on the results kept and how to resume.
        first: False on all processes but the first, which print nothing.

    Raises:
        typer.Exit: after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        if first:
            say_interrupted(going_on)
        raise typer.Exit(INTERRUPTED) from None

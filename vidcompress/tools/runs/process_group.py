"""Process group: a command with all processes that it starts, ended together by its id."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SERVED = os.name == "posix"
"""Whether this system has process groups."""


def start_group(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a group of its own; on Linux it is killed when this process ends, however that is.

    Args:
        command: and its arguments.
        environment: of the command, whole.
        log: file that takes its output, written anew.
    """
    with log.open("wb") as file:
        return subprocess.Popen(
            list(command),
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a command's group, by its id."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def last_lines(log: Path, lines: int = 15) -> str:
    """Last lines of a log."""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])


def _die_with_parent() -> None:
    """On Linux, let this process be killed when its parent ends."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        return

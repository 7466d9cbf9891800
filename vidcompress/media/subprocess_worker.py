"""Child process that answers requests within a time limit; its crash or hang does not affect its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from threading import Event, Timer
from typing import IO, Any


class WorkerError(Exception):
    """Error: the process died or took too long; the message states which.

    Attributes:
        timed_out: whether it took too long.
    """

    def __init__(self, how: str, timed_out: bool) -> None:
        super().__init__(how)
        self.timed_out = timed_out


class SubprocessWorker:
    """Child process of Python, started at the first request and again after every death. One request at a time.

    A request is a JSON object on a line of its stdin; an answer is one on a line of its stdout, which bytes may follow.

    Args:
        arguments: of python, such as "-m", "package.module".
        environment: of the process; None is that of the parent.
        keeps_stderr: whether the last line of its stderr ends the error message.
    """

    def __init__(
        self, *arguments: str, environment: Mapping[str, str] | None = None, keeps_stderr: bool = False
    ) -> None:
        self._arguments, self._environment, self._keeps_stderr = arguments, environment, keeps_stderr
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._owner = 0

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; a forked process may not use its parent's."""
        return self._process is not None and self._process.poll() is None and self._owner == os.getpid()

    def ask(
        self, request: Mapping[str, Any], seconds: float, size: Callable[[dict[str, Any]], int] = lambda _: 0
    ) -> tuple[dict[str, Any], bytearray]:
        """Send a request and return its answer.

        Args:
            request: as JSON values.
            seconds: time limit, the start of the process included.
            size: function from an answer to the number of bytes behind it.

        Returns:
            The answer and the bytes behind it.

        Raises:
            WorkerError: the process died or took too long. It is ended, and the next request starts another.
        """
        process = self._process if self.is_alive and self._process is not None else self._start()
        expired = Event()

        def expire() -> None:
            expired.set()
            _kill(process)

        timer = Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            return _exchange(process, request, size)
        except (OSError, EOFError):
            raise self._failure(expired.is_set(), seconds) from None
        finally:
            timer.cancel()
            timer.join()

    def close(self) -> None:
        """End the process; the next request starts another."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            _kill(process)
            process.communicate()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        self._stderr = tempfile.TemporaryFile() if self._keeps_stderr else None
        self._process = subprocess.Popen(
            [sys.executable, "-P", *self._arguments],  # -P: names in the current folder would hide packages
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr or subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,  # so that its children, which would hold the pipe open, are killed with it
        )
        self._owner = os.getpid()
        return self._process

    def _failure(self, expired: bool, seconds: float) -> WorkerError:
        """End the process and describe how it ended."""
        assert self._process is not None  # noqa: S101  (for the type checker)
        code = 0
        try:
            code = self._process.wait(1)  # its end may come a moment after that of its pipe
        except subprocess.TimeoutExpired:
            expired = True
        last = self._last_line()
        self.close()
        if expired:
            return WorkerError(f"took longer than {seconds:g} s and was stopped", timed_out=True)
        how = f"died with exit code {code}" if code >= 0 else f"crashed ({_signal(-code)})"
        return WorkerError(f"{how}: {last[:200]}" if last else how, timed_out=False)

    def _last_line(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 4000))
        lines = self._stderr.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _exchange(
    process: subprocess.Popen[bytes], request: Mapping[str, Any], size: Callable[[dict[str, Any]], int]
) -> tuple[dict[str, Any], bytearray]:
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None and stdout is not None  # noqa: S101  (for the type checker)
    stdin.write(json.dumps(request).encode() + b"\n")
    stdin.flush()
    line = stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer: dict[str, Any] = json.loads(line)
    content = bytearray(size(answer))
    rest = memoryview(content)
    while rest:
        count = stdout.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        rest = rest[count:]
    return answer, content


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, with its children where the system has process groups."""
    try:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

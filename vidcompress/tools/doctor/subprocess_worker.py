"""Worker process for calls with a time limit; after a hang or a crash the next call gets a fresh process."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Any


class ProbeError(Exception):
    """A probe raised, crashed or took too long; the message says which."""


class SubprocessWorker:
    """Worker process that runs functions one after another.

    Args:
        seconds: time limit of one call, the start of the process included.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> SubprocessWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def call(self, function: str, /, **arguments: Any) -> Any:
        """Call `module:name` with JSON arguments in the worker and return its JSON result.

        Raises:
            ProbeError: the function raised, the process died, or the time was up.
        """
        process = self._process or self._start()
        try:
            _send(process, {"function": function, "arguments": arguments})
            line = self._answers.get(timeout=self.seconds)
        except queue.Empty:
            self._stop()
            raise ProbeError(
                f"took longer than {self.seconds:g} s and was stopped; on a slow machine allow more with --timeout"
            ) from None
        except OSError:  # it has died already
            line = ""
        if not line:
            raise ProbeError(self._death())
        answer = json.loads(line)
        if "error" in answer:
            raise ProbeError(answer["error"])
        return answer["result"]

    def _start(self) -> subprocess.Popen[str]:
        self._stderr = tempfile.TemporaryFile()
        self._answers = queue.Queue()
        self._process = subprocess.Popen(
            # -P: a folder called like a package in the current folder is not that package.
            [sys.executable, "-P", "-m", "vidcompress.tools.doctor.subprocess_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            env=_environment(),
        )
        Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _death(self) -> str:
        """Description of the process's end, with the last line that it wrote."""
        code = self._process.wait() if self._process is not None else 0
        last = ""
        if self._stderr is not None:
            self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 4000))
            lines = self._stderr.read().decode("utf-8", "replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        self._stop()
        how = f"died with exit code {code}" if code >= 0 else f"crashed ({_signal(-code)})"
        return f"{how}: {last[:200]}" if last else how


def _send(process: subprocess.Popen[str], request: dict[str, Any]) -> None:
    if process.stdin is not None:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()


def _read(pipe: IO[str] | None, answers: queue.Queue[str]) -> None:
    try:
        for line in pipe or ():
            answers.put(line)
    except ValueError:  # closed
        pass
    answers.put("")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _environment() -> dict[str, str]:
    """Environment of the worker, which imports the same modules as this process."""
    package = str(Path(__file__).resolve().parents[3])
    paths = [package, *(path for path in sys.path if path and path != package)]
    quiet = {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONIOENCODING": "utf-8",
    }
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(paths)}

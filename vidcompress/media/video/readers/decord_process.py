"""Subprocess for decord: damaged files may abort it, hang it or fill its memory, and harm nothing else."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from vidcompress.errors import MediaError

LEAST_SECONDS, BYTES_PER_SECOND = 10.0, 100_000
"""How long an answer is waited for: so long, and the time in which so many bytes of the file are read."""

CHILD = Path(__file__).with_name("_decord_child.py")

Frames = np.ndarray[Any, np.dtype[np.uint8]]


class DecordProcess:
    """The process, started at the first clip and again after every death. Threads take turns.

    Args:
        child: the script it runs.

    Attributes:
        lock: to be held from `open` to `take`.
    """

    def __init__(self, child: Path = CHILD) -> None:
        self.child, self.lock = child, Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def open(self, path: str) -> int:
        """Open a clip and return how many frames decord finds in it.

        Raises:
            MediaError: decord refuses the file, crashes over it, or does not come back.
        """
        if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
            self._start()  # a forked process may not talk to its parent's
        return int(self._ask({"path": path}, path)["frames"])

    def take(self, path: str, frames: list[int]) -> Frames:
        """Frames of the clip that was opened last, once: uint8 (frame, height, width, channel).

        Raises:
            MediaError: as `open`.
        """
        deadline = _deadline(path)
        shape = self._ask({"frames": frames}, path)["shape"]
        block = np.empty(shape, dtype=np.uint8)
        if block.size:
            self._read(block.data.cast("B"), path, deadline)
        return block

    def close(self) -> None:
        """End the process; the next clip starts another."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.communicate()
        self._process = None

    def _start(self) -> None:
        self.close()
        # -P: names in the folder of the script would hide those of other packages.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(self.child)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._owner = os.getpid()

    def _ask(self, request: dict[str, Any], path: str) -> dict[str, Any]:
        process, deadline = self._process, _deadline(path)
        assert process is not None and process.stdin is not None  # noqa: S101  (for the type checker)
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._failed(path) from None
        line, byte = bytearray(), bytearray(1)
        while not line.endswith(b"\n"):
            self._read(memoryview(byte), path, deadline)
            line += byte
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise MediaError(f"video={path!r}: decord failed ({answer['error']}); use backend='pyav'")
        return answer

    def _read(self, into: memoryview, path: str, deadline: float) -> None:
        assert self._process is not None and self._process.stdout is not None  # noqa: S101  (for the type checker)
        stdout: Any = self._process.stdout
        while len(into):
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            got = stdout.readinto(into) if ready else 0
            if not got:
                raise self._failed(path)
            into = into[got:]

    def _failed(self, path: str) -> MediaError:
        assert self._process is not None  # noqa: S101  (for the type checker)
        try:
            self._process.wait(1)  # its end may come a moment after that of its pipe
            what = "crashed"
        except subprocess.TimeoutExpired:
            what = "does not come to an end"
        self.close()
        return MediaError(f"video={path!r}: decord {what}, as on some damaged files; use backend='pyav'")


def _deadline(path: str) -> float:
    return time.monotonic() + LEAST_SECONDS + os.path.getsize(path) / BYTES_PER_SECOND


PROCESS = DecordProcess()
atexit.register(PROCESS.close)
"""The one of this process."""

"""Subprocess for decord: damaged files may abort it, hang it or fill its memory, and harm nothing else."""

from __future__ import annotations

import atexit
import math
import os
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from vidcompress.errors import MediaError
from vidcompress.media.subprocess_worker import SubprocessWorker, WorkerError

LEAST_SECONDS, BYTES_PER_SECOND = 10.0, 100_000
"""How long an answer is waited for: so long, and the time in which so many bytes of the file are read."""

CHILD = Path(__file__).with_name("_decord_child.py")

Frames = np.ndarray[Any, np.dtype[np.uint8]]


class DecordProcess(SubprocessWorker):
    """The process, started at the first clip and again after every death. Threads take turns.

    Args:
        child: the script it runs.

    Attributes:
        lock: to be held from `open` to `take`.
    """

    def __init__(self, child: Path = CHILD) -> None:
        super().__init__(str(child))
        self.lock = Lock()

    def open(self, path: str) -> int:
        """Open a clip and return how many frames decord finds in it.

        Raises:
            MediaError: decord refuses the file, crashes over it, or does not come back.
        """
        answer, _ = self._ask({"path": path}, path)
        return int(answer["frames"])

    def take(self, path: str, frames: list[int]) -> Frames:
        """Frames of the clip that was opened last, once: uint8 (frame, height, width, channel).

        Raises:
            MediaError: as `open`.
        """
        if not self.is_alive:
            raise _failed(path, "crashed")
        answer, content = self._ask({"frames": frames}, path)
        return np.frombuffer(content, dtype=np.uint8).reshape(answer["shape"])

    def _ask(self, request: dict[str, Any], path: str) -> tuple[dict[str, Any], bytearray]:
        seconds = LEAST_SECONDS + os.path.getsize(path) / BYTES_PER_SECOND
        try:
            answer, content = self.ask(request, seconds, lambda answer: math.prod(answer.get("shape", (0,))))
        except WorkerError as error:
            raise _failed(path, "does not come to an end" if error.timed_out else "crashed") from None
        if "error" in answer:
            raise MediaError(f"video={path!r}: decord failed ({answer['error']}); use backend='pyav'")
        return answer, content


def _failed(path: str, how: str) -> MediaError:
    return MediaError(f"video={path!r}: decord {how}, as on some damaged files; use backend='pyav'")


PROCESS = DecordProcess()
atexit.register(PROCESS.close)
"""The one of this process."""

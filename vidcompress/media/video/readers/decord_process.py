"""Subprocess for decord: damaged files may abort it, hang it or fill its memory, but not its parent's."""

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
"""Time limit of an answer: these seconds, plus the size of the file at this rate."""

CHILD = Path(__file__).with_name("_decord_child.py")

Frames = np.ndarray[Any, np.dtype[np.uint8]]


class DecordProcess(SubprocessWorker):
    """Process for decord, started at the first clip and again after every death. Threads take turns.

    Args:
        child: the script it runs.

    Attributes:
        lock: held by callers from `open` to `take`.
    """

    def __init__(self, child: Path = CHILD) -> None:
        super().__init__(str(child))
        self.lock = Lock()

    def open(self, path: str) -> int:
        """Open a clip and return the number of frames that decord finds in it.

        Raises:
            MediaError: decord refuses the file, crashes on it, or exceeds the time limit.
        """
        answer, _ = self._ask({"path": path}, path)
        return int(answer["frames"])

    def take(self, path: str, frames: list[int]) -> Frames:
        """Return frames of the clip that was opened last, once: uint8 (frame, height, width, channel).

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
"""The decord process of this process."""

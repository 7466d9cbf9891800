"""Worker process for probes with a time limit; after a hang or a crash the next one gets a fresh process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from vidcompress.media.subprocess_worker import SubprocessWorker, WorkerError


class ProbeError(Exception):
    """A probe raised, crashed or took too long; the message says which."""


class ProbeWorker(SubprocessWorker):
    """Worker process that runs functions one after another.

    Args:
        seconds: time limit of one call, the start of the process included.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "-m", "vidcompress.tools.doctor.probe_child", environment=_environment(), keeps_stderr=True
        )
        self.seconds = seconds

    def __enter__(self) -> ProbeWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, function: str, /, **arguments: Any) -> Any:
        """Call `module:name` with JSON arguments in the worker and return its JSON result.

        Raises:
            ProbeError: the function raised, the process died, or the time was up.
        """
        try:
            answer, _ = self.ask({"function": function, "arguments": arguments}, self.seconds)
        except WorkerError as error:
            more = "; on a slow machine allow more with --timeout" if error.timed_out else ""
            raise ProbeError(f"{error}{more}") from None
        if "error" in answer:
            raise ProbeError(answer["error"])
        return answer["result"]


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

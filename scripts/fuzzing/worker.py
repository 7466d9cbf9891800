"""Worker process of the fuzz tests: one case number per line of stdin, one JSON result per line of stdout.

It is a process of its own because a reader may crash, hang or take all memory: `Crew` starts it again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[1]


def serve(folder: Path, seed: int, memory_mb: int) -> None:
    """Answer until stdin ends.

    Args:
        folder: holds the material; the broken files and the log go there too.
        seed: of the run.
        memory_mb: how much more memory than at the start the readers may take.
    """
    out = os.fdopen(os.dup(1), "w", buffering=1)
    log = open(folder / "worker.log", "a", buffering=1)
    os.dup2(log.fileno(), 1)  # what libraries print is no result
    os.dup2(log.fileno(), 2)
    faulthandler.enable(log)
    warnings.simplefilter("ignore")
    import torch
    import transformers

    from .cases import make_case
    from .material import make_material
    from .readers import Readers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    material = make_material(folder / "material")
    readers = Readers(folder / "material" / "checkpoint", folder / "room")
    limit = (_status("VmData") + memory_mb) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    print("ready", file=out)
    for line in sys.stdin:
        case = make_case(material, seed, int(line))
        path = readers.place(case)
        _reset_peak()
        start_mb = _status("VmRSS")
        before = time.perf_counter()
        outcome, said = readers.outcome(case, path)
        taken_mb = max(0, _status("VmHWM") - start_mb)
        if "MemoryError" in said or taken_mb > memory_mb:
            outcome = "memory"
        result = {
            "case": case.number,
            "kind": case.kind,
            "base": case.base,
            "reader": case.reader,
            "mutations": case.mutations,
            "outcome": outcome,
            "said": said[:1500],
            "ms": round(1e3 * (time.perf_counter() - before), 1),
            "mb": taken_mb,
        }
        print(json.dumps(result), file=out)


def _status(key: str) -> int:
    """One line of /proc/self/status, in MB."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(key + ":")).split()[1]) >> 10


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Crew:
    """Runs cases in a worker that is started again whenever it dies.

    Args:
        folder: of the run.
        seed: of the run.
        seconds: time limit of a case.
        memory_mb: memory limit of the worker beyond what it takes at its start.
    """

    def __init__(self, folder: Path, seed: int, seconds: float, memory_mb: int) -> None:
        self.folder, self.seed, self.seconds, self.memory_mb = folder, seed, seconds, memory_mb
        self.process: subprocess.Popen[str] | None = None
        self.starts = 0

    def run(self, number: int) -> dict[str, Any]:
        """Result of one case; `crash` and `hang` are detected by the parent process."""
        if self.process is None:
            self._start()
        process = self.process
        assert process is not None and process.stdin is not None
        before = time.perf_counter()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
        line = self._line(self.seconds)
        if line:
            return dict(json.loads(line))
        return {
            "case": number,
            "outcome": "hang" if process.poll() is None else "crash",
            "said": self._bury(),
            "ms": round(1e3 * (time.perf_counter() - before), 1),
            "mb": 0,
        }

    def close(self) -> None:
        """Let the worker end."""
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(30)
            self.process = None

    def _start(self) -> None:
        code = (
            f"import sys; sys.path[:0] = [{str(SCRIPTS)!r}, {str(SCRIPTS.parent)!r}]; from pathlib import Path; "
            f"from fuzzing.worker import serve; serve(Path({str(self.folder)!r}), {self.seed}, {self.memory_mb})"
        )
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.starts += 1
        if self._line(180.0) != "ready":
            raise RuntimeError(f"the worker does not start; see {self.folder / 'worker.log'}")

    def _line(self, seconds: float) -> str:
        """The next line of the worker, or "" when it dies or is late."""
        assert self.process is not None and self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().strip() if ready else ""

    def _bury(self) -> str:
        """End a worker that hangs or has died; what it leaves behind names the place."""
        process = self.process
        assert process is not None
        self.process = None
        if process.poll() is None:
            process.send_signal(signal.SIGABRT)  # faulthandler writes where it hangs
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        tail = (self.folder / "worker.log").read_text(errors="replace")[-3000:]
        name = signal.Signals(-process.returncode).name if process.returncode < 0 else process.returncode
        return f"{name}: {tail[tail.rfind('Fatal Python error') :]}"[:1500]

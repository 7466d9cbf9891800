"""Launcher of lmms-eval in subprocesses, with verification of its output files.

lmms-eval ends with exit code 0 after most errors, a process group waits a day for a dead rank, and a killed run leaves
nothing. So the result files are checked, a silent run is ended as failed, and the journal lets the next run resume.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidcompress.checks import positive, whole_number
from vidcompress.errors import VidcompressError
from vidcompress.loading.distribution import how_to_install
from vidcompress.tools.evaluation.lmms_eval.arguments import check_arguments
from vidcompress.tools.evaluation.lmms_eval.engine import LAUNCHED
from vidcompress.tools.evaluation.lmms_eval.manifest import PROMPTS_OF
from vidcompress.tools.evaluation.lmms_eval.record import log_path, merge_processes
from vidcompress.tools.evaluation.lmms_eval.results import read_results
from vidcompress.tools.runs.journal import rank_paths
from vidcompress.tools.runs.process_group import SERVED, end_group, last_lines, start_group

GROUP = "lmms_eval.models"
_OF_LAUNCHERS = re.compile(
    r"((LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|TORCHELASTIC_.*|ACCELERATE_.*)$"
)
_PACKAGE = Path(__file__).resolve().parents[3]
_FOLDER = "vidcompress.tools.evaluation.lmms_eval"


class LmmsError(VidcompressError, RuntimeError):
    """A run of lmms-eval failed; the message ends with its last output."""


def run_lmms(
    task: str,
    *,
    model_args: Mapping[str, Any],
    out: Path,
    journal: Path,
    include_path: Path | None = None,
    limit: int | None = None,
    batch_size: int = 1,
    device: str = "cpu",
    processes: int = 1,
    simple: bool = True,
    prompts_of: str | None = None,
    silence: float = 3600.0,
) -> dict[str, Any]:
    """Run one task of lmms-eval with one model and one compression, and return its results.

    A stopped run resumes from its journal when started again with the same arguments, also with another number
    of processes.

    Args:
        task: its name.
        model_args: as in `--model_args`; see `LmmsSettings`. Not `journal`, `batch_size` and `device`.
        out: folder for lmms-eval's files (`lmms-eval/`) and output (`lmms-eval.log`); made where it is missing.
        journal: JSONL file of the answers; afterwards in the order of the documents. Times and starts are in the run
            log beside it, which ends in `.times`.
        include_path: folder with task files of your own.
        limit: first documents only, at least 1.
        batch_size: questions that go through the model together, per process.
        device: "cpu" or "cuda"; with several processes each takes the GPU of its number.
        processes: number of processes that share the documents, on this machine.
        simple: the simple form of the model; False is the chat form.
        prompts_of: built-in model whose prompts a task uses, where it has some for it: `llava_vid` for
            LLaVA-Video as in its authors' evaluation. None takes the task's default.
        silence: seconds without an answer or a line of output after which the run is ended.

    Returns:
        `main`, `scores`, `samples` (`id`, `score`, `facts`), `tokens`, `times_ms`, `time_to_first_token_ms`,
        `questions_per_second`, `failed`, `version`, `revision`, `split`, `per_kind`, `peak_memory_bytes`, `model`,
        `settings` and `starts`.

    Raises:
        ArgumentError: an argument is not allowed.
        LmmsError: lmms-eval is not installed, ended without results, lost a process or fell silent; or no question
            could be answered.
    """
    for name, value in (("batch_size", batch_size), ("processes", processes)):
        whole_number(name, value)
    if limit is not None:
        whole_number("limit", limit)
    positive("silence", silence, "seconds")
    if not SERVED:
        raise LmmsError(
            "lmms-eval runs on Linux and macOS only; start it there, or use a task of vidcompress"
        )
    if find_spec("lmms_eval") is None:
        raise LmmsError(
            f"lmms-eval is not installed; {how_to_install('eval')}, or pip install --no-deps lmms-eval==0.7.3"
        )
    out, journal = Path(out).resolve(), Path(journal).resolve()
    written = check_arguments(model_args, journal=journal, batch_size=batch_size, device=device)
    out.mkdir(parents=True, exist_ok=True)
    results = out / "lmms-eval"
    shutil.rmtree(results, ignore_errors=True)  # files of an earlier run could be taken for this one's
    command = [*_starter(processes), "eval", "--model", prompts_of or "vidcompress"]
    command += ["--model_args", written, "--tasks", task, "--batch_size", str(batch_size)]
    command += ["--device", device, "--output_path", str(results), "--log_samples", "--verbosity", "DEBUG"]
    command += ["--force_simple"] if simple else []
    command += ["--include_path", str(Path(include_path).resolve())] if include_path is not None else []
    command += ["--limit", str(limit)] if limit is not None else []
    log = out / "lmms-eval.log"
    with _environment(device, processes, prompts_of) as environment:
        code = _watched(command, environment, log, journal, silence)
    said = f"its last words, from {log}:\n{last_lines(log)}"
    if code != 0:
        raise LmmsError(f"lmms-eval failed over {task!r} ({_ending(code)}); run it again to go on; {said}")
    merge_processes(journal)
    result = read_results(results, task, journal)
    if result is None:
        raise LmmsError(f"lmms-eval ended over {task!r} without writing results; {said}")
    failed = result["failed"]
    if failed and len(failed) == len(result["samples"]["id"]):
        raise LmmsError(
            f"none of the {len(failed)} questions of {task!r} could be answered: {failed[0]['error']}"
        )
    return result


def _starter(processes: int) -> list[str]:
    if processes == 1:
        return [sys.executable, "-m", "lmms_eval"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [sys.executable, *torchrun, "-m", "lmms_eval"]


@contextmanager
def _environment(device: str, processes: int, prompts_of: str | None) -> Iterator[dict[str, str]]:
    """Environment of the processes; they import this copy of the package, installed or not."""
    # The variables of a torchrun or accelerate that started this process are not passed on.
    environment = {name: value for name, value in os.environ.items() if not _OF_LAUNCHERS.match(name)}
    environment |= {LAUNCHED: "1", "TOKENIZERS_PARALLELISM": "false"}
    if device == "cpu":
        environment["ACCELERATE_USE_CPU"] = "true"
        if processes > 1:
            environment.setdefault("OMP_NUM_THREADS", "1")
    if prompts_of is not None:
        environment[PROMPTS_OF] = prompts_of
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(_PACKAGE.parent)]
        if not any(entry.value.startswith(f"{_FOLDER}.") for entry in entry_points(group=GROUP)):
            _declare(Path(folder))  # a checkout that is on the path and not installed
            paths.append(folder)
        environment["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
        yield environment


def _declare(folder: Path) -> None:
    """Write the minimal metadata that makes the entry point visible to importlib.metadata."""
    info = folder / "vidcompress_lmms-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vidcompress-lmms\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nvidcompress = {_FOLDER}.manifest:manifests\n")


def _watched(
    command: list[str], environment: dict[str, str], log: Path, journal: Path, silence: float
) -> int:
    """Run a command until it ends or is silent for too long (seconds), and kill all of its processes."""
    child = start_group(command, environment, log)
    try:
        heard, size = time.monotonic(), -1
        while (code := child.poll()) is None:
            time.sleep(0.1)
            now = _signs_of_life(log, journal)
            if now != size:
                heard, size = time.monotonic(), now
            if time.monotonic() - heard > silence:
                raise LmmsError(
                    f"lmms-eval has made no answer and no output for {silence:g} seconds and was ended; run it "
                    f"again to go on, or pass a larger silence=; the last of {log}:\n{last_lines(log)}"
                )
        return code
    finally:
        end_group(child)


def _signs_of_life(log: Path, journal: Path) -> int:
    files = [log, journal, log_path(journal), *rank_paths(journal)]
    return sum(file.stat().st_size for file in files if file.exists())


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

"""Rows of a sweep that lmms-eval runs through the plugin."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from vidcompress.errors import VidcompressError
from vidcompress.loading.distribution import how_to_install
from vidcompress.tools.evaluation.run.outcome import RowOutcome
from vidcompress.tools.evaluation.run.result_file import (
    LOG,
    common_fields,
    read_events,
    read_result,
    starts,
    write_result,
)
from vidcompress.tools.evaluation.run.sweep import SweepRow
from vidcompress.tools.evaluation.run.worker import ANSWERS
from vidcompress.tools.evaluation.tasks.registry import task_name
from vidcompress.tools.runs.journal import JournalError, has_answer, read_lines
from vidcompress.tools.runs.run_log import RunLog

_EMPTY_OUTPUT: Mapping[str, Any] = {
    "main": "score",
    "scores": {},
    "samples": {"id": [], "score": [], "facts": []},
    "tokens": {},
    "times_ms": {},
    "time_to_first_token_ms": {},
    "questions_per_second": None,
    "failed": [],
}


def run_lmms_row(row: SweepRow, folder: Path, processes: int, provenance: Mapping[str, Any]) -> RowOutcome:
    """Run one task of lmms-eval, unless its result exists.

    Args:
        row: with an "lmms:" task.
        folder: of the row.
        processes: number of processes that the harness starts.
        provenance: of the run.

    Raises:
        VidcompressError: lmms-eval or the plugin is not installed, or the run left no results.
    """
    try:
        run_lmms = import_module("vidcompress.tools.evaluation.lmms_eval.launch").run_lmms
        harness = version("lmms-eval")
    except (ImportError, PackageNotFoundError) as error:
        raise VidcompressError(
            f"task={row.task.name!r} needs lmms-eval, which is not installed ({error}); "
            f"{how_to_install('eval')}"
        ) from error
    arguments = model_arguments(row)
    device = _device(row)
    head = {
        "model": arguments,
        "task": row.task.name,
        "limit": row.task.limit,
        "batch_size": row.batch_size,
        "max_new_tokens": None,
        "include_path": row.task.include_path,
        "form": row.task.form,
        "prompts_of": row.task.prompts_of,
        "device": device,
        "harness": harness,
    }
    finished = read_result(folder)
    if finished is not None and finished["provenance"].get("head") == head:
        return RowOutcome(row, finished, complete_before=True)
    log = RunLog(folder / LOG)
    log.add("start", processes=processes, provenance=dict(provenance))
    try:
        output = run_lmms(
            row.task.rest,
            model_args=arguments,
            out=folder,
            journal=folder / ANSWERS,
            include_path=None if row.task.include_path is None else Path(row.task.include_path),
            limit=row.task.limit,
            batch_size=row.batch_size,
            device=device,
            processes=processes,
            simple=row.task.form != "chat",
            prompts_of=row.task.prompts_of,
        )
    except VidcompressError as error:
        log.add("error", error=str(error))
        reason = unreachable_reason(folder / ANSWERS)
        if reason is None:
            raise
        output = {**_EMPTY_OUTPUT, "unreachable": reason}
    log.add("finish")
    result = lmms_result(row, head, output, read_events(folder / LOG))
    try:
        write_result(folder, result)
    except OSError as error:
        raise JournalError(
            f"{folder} cannot be written ({error.strerror}); make room and run again"
        ) from error
    return RowOutcome(row, result)


def check_lmms_row(row: SweepRow, folder: Path) -> None:
    """Check the model arguments of a row as a run does, without a model and without lmms-eval.

    Args:
        row: with an "lmms:" task.
        folder: of the row.

    Raises:
        VidcompressError: the message begins with the row.
    """
    check = import_module("vidcompress.tools.evaluation.lmms_eval.arguments").check_arguments
    try:
        check(
            model_arguments(row),
            journal=(folder / ANSWERS).resolve(),
            batch_size=row.batch_size,
            device=_device(row),
        )
    except VidcompressError as error:
        said = f"{row.task.name} with {row.model.shown}, {row.method} at {row.budget_text}: {error}"
        raise type(error)(said) from error


def _device(row: SweepRow) -> str:
    return row.model.device or ("cuda" if torch.cuda.is_available() else "cpu")


def unreachable_reason(journal: Path) -> str | None:
    """Return the reason why a method cannot serve a task at all; None for any other failure.

    The plugin answers every question alone, so a budget out of reach or a medium that the method does not serve is in
    every line, as an error that begins with the method.
    """
    errors = [str(line.get("error") or "") for line in read_lines(journal) if has_answer(line)]
    return errors[0] if errors and all(error.startswith("method ") for error in errors) else None


def model_arguments(row: SweepRow) -> dict[str, Any]:
    """Model arguments of the plugin."""
    spec = row.model
    names = ("revision", "dtype", "attn_implementation", "device_map", "quantization", "fps", "preset")
    frames = spec.num_frames or spec.max_frames
    return {
        "pretrained": spec.name,
        **row.compression(0),
        **({} if frames is None else {"max_frames_num": frames}),
        **{name: getattr(spec, name) for name in names if getattr(spec, name) is not None},
    }


def lmms_result(
    row: SweepRow, head: Mapping[str, Any], output: Mapping[str, Any], events: list[dict[str, Any]]
) -> dict[str, Any]:
    """Result of a row in the form of `build_result`.

    Args:
        row: the row.
        head: the settings that its answers depend on.
        output: from `run_lmms`.
        events: of the run log.
    """
    begun = starts(events)
    provenance = begun[-1].get("provenance", {}) if begun else {}
    result = common_fields(row, head, provenance)
    result["settings"] |= output.get("settings", {})
    samples = output["samples"]
    copied = (
        "main",
        "scores",
        "tokens",
        "times_ms",
        "time_to_first_token_ms",
        "questions_per_second",
        "failed",
    )
    return {
        **result,
        "model": {"name": row.model.shown, "checkpoint": row.model.name, "revision": row.model.revision}
        | dict(output.get("model", {})),
        "task": {
            "name": task_name(row.task, None),
            "split": output.get("split"),
            "revision": output.get("revision"),
            "questions": len(samples["id"]),
            "metric": output["main"],
            "harness": f"lmms-eval {head['harness']}",
        },
        **{name: output.get(name) for name in copied},
        "unreachable": output.get("unreachable"),
        "per_kind": output.get("per_kind", {}),
        "samples": samples,
        "peak_memory_bytes": output.get("peak_memory_bytes"),
        "restarts": max(0, len(begun) - 1),
    }

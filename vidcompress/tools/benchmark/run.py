"""Benchmark run: the rows of every group in turns, each measurement journalled."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vidcompress.adapters.base import adapter_for
from vidcompress.core.devices import input_device
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import VidcompressError, one_line
from vidcompress.tools.benchmark.inputs import make_inputs, visual_shape
from vidcompress.tools.benchmark.measure import measure, measure_peaks, measure_threads
from vidcompress.tools.benchmark.measurements import Measurements, journal_head
from vidcompress.tools.benchmark.media import media_file, open_media, pixel_processor
from vidcompress.tools.benchmark.models import make_model, model_metadata
from vidcompress.tools.benchmark.plan import BenchPlan
from vidcompress.tools.benchmark.roofline import cost_model, roofline_of_row
from vidcompress.tools.benchmark.row import BenchRow, Workload
from vidcompress.tools.cost.model import Model
from vidcompress.tools.runs.provenance import provenance

MEMORY = -1
MEDIA = "media"
NO_MEMORY = (
    "DefaultCPUAllocator: ",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "not enough memory",
)
OnStep = Callable[[int, int, str], None]
"""Called with measurements done, measurements in all, and a description of the next one."""


@dataclass(frozen=True)
class BenchGroup:
    """Rows that are measured in turns: one workload at one batch size."""

    workload: Workload
    batch: int

    @property
    def name(self) -> str:
        """Name, such as `32 frames, batch 8`."""
        return f"{self.workload.name}, batch {self.batch}"


class TimeLimitReached(Exception):
    """The time limit of the run is reached; the measurements so far are in the journal."""


def run_bench(
    plan: BenchPlan,
    *,
    journal: Path | None = None,
    seconds: float | None = None,
    on_step: OnStep = lambda done, of, what: None,
    model: Any = None,
) -> dict[str, Any]:
    """Measure every row of a plan.

    Args:
        plan: the model, inputs, methods and budgets.
        journal: a JSONL file; a run that finds its own journal resumes from it.
        seconds: stop before a measurement that would end later than this; the result then has `complete: false`.
        on_step: called before every measurement.
        model: the plan's model, where it is loaded already.

    Returns:
        `plan`, `model`, `groups` (each with its input's numbers and `rows`, each with its raw measurements), `complete`
        and `provenance`, as JSON types; `summarise` computes figures from it.

    Raises:
        ArgumentError: the journal belongs to another run. Also errors of making the model.
    """
    begun = time.perf_counter()
    source = provenance()
    model = make_model(plan) if model is None else unwrap(model)
    log = Measurements(journal, journal_head("plan", plan.to_dict(), source))
    runner = _Runner(plan, model, log, None if seconds is None else begun + seconds, on_step)
    complete = True
    try:
        for group in runner.groups:
            runner.run_group(group)
    except TimeLimitReached:
        complete = False
    return {
        "plan": plan.to_dict(),
        "model": model_metadata(model),
        "groups": [runner.result(group) for group in runner.groups],
        "complete": complete,
        "provenance": source,
    }


class _Runner:
    """Runner of one group after another."""

    def __init__(
        self, plan: BenchPlan, model: Any, journal: Measurements, until: float | None, on_step: OnStep
    ) -> None:
        self.plan, self.model, self.journal, self.until, self.on_step = plan, model, journal, until, on_step
        self.adapter = adapter_for(model)
        self.device = input_device(model)
        self.groups = [
            BenchGroup(workload, batch) for workload in plan.workloads for batch in plan.batch_sizes
        ]
        self._rows = {workload: plan.rows(workload) for workload in plan.workloads}
        each = plan.rounds + int(plan.memory)
        self._measurements = sum(len(self._rows[group.workload]) * each for group in self.groups)
        self._longest: dict[str, float] = {}
        self._cost_model: Model | None = cost_model(model)

    def run_group(self, group: BenchGroup) -> None:
        """Measure the rows and rounds that the journal lacks."""
        rows = self._rows[group.workload]
        numbers = [*range(self.plan.rounds), *([MEMORY] if self.plan.memory else [])]
        if not any(self._is_open(group, row, number) for row in rows for number in numbers):
            return
        with media_file(self.plan, group.workload) as path:
            processor = None if path is None else pixel_processor(self.model)
            read = partial(self._media, group, processor, path, self.plan.rounds)
            inputs = self._inputs_or_skip(group, rows, read)
            if inputs is None:
                return
            for row in rows:
                if any(self._is_open(group, row, number) for number in numbers):
                    self._warm_up(group, row, inputs)
            for number in range(self.plan.rounds):
                if any(self._is_open(group, row, number) for row in rows):
                    self._media(group, processor, path, number)
                turn = number % len(rows)  # so that no row is always the first
                for row in (*rows[turn:], *rows[:turn]):
                    self._measure(group, row, number, inputs)
            if self.plan.memory:
                for row in rows:
                    self._measure(group, row, MEMORY, inputs)

    def result(self, group: BenchGroup) -> dict[str, Any]:
        """Return the result of a group as JSON types, from the journal."""
        (views, *_), visual, _ = visual_shape(self.model.config, group.workload)
        media = list(self.journal.rounds(group.name, MEDIA))
        return {
            "name": group.name,
            "workload": group.workload.name,
            "modality": group.workload.modality,
            "batch": group.batch,
            "concurrency": self.plan.concurrency,
            "views": views,
            "visual_tokens": visual,
            "text_tokens": self.plan.text_tokens,
            "media": media[: self.plan.rounds],
            "left_out": self.plan.left_out(group.workload),
            "rows": [self._row(group, row) for row in self._rows[group.workload]],
        }

    def _row(self, group: BenchGroup, row: BenchRow) -> dict[str, Any]:
        variant = row.variant
        ratio = (
            None
            if variant is None or variant.settings.budget.ratio is None
            else float(variant.settings.budget.ratio)
        )
        return {
            "method": row.label,
            "budget": row.budget,
            "retention_ratio": ratio,
            "skipped": self.journal.skipped(group.name, row.key),
            "rounds": list(self.journal.rounds(group.name, row.key)),
            "memory": self.journal.values.get((group.name, row.key, MEMORY)),
            "paper": self._roofline(group, row),
        }

    def _roofline(self, group: BenchGroup, row: BenchRow) -> Any:
        if self.journal.skipped(group.name, row.key) is not None:
            return None
        batch = 1 if self.plan.concurrency == "threads" else group.batch
        tokens = max(self.plan.new_tokens)
        if self._cost_model is None:
            return None
        kind = str(self.model.dtype).removeprefix("torch.")
        return roofline_of_row(
            self._cost_model, kind, group.workload, batch, row, self.plan.text_tokens, tokens
        )

    def _is_open(self, group: BenchGroup, row: BenchRow, number: int) -> bool:
        if self.journal.skipped(group.name, row.key) is not None:
            return False
        return (group.name, row.key, number) not in self.journal.values

    def _inputs_or_skip(
        self, group: BenchGroup, rows: list[BenchRow], read: Callable[[], dict[str, Any] | None]
    ) -> list[dict[str, Any]] | None:
        """Return the inputs of the batch; None, with its rows skipped, where memory is too small for its pixels."""
        try:
            return self._inputs(group, read())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        for row in rows:
            if self.journal.skipped(group.name, row.key) is None:
                self.journal.add((group.name, row.key, 0), {"skipped": "out of memory for its pixels"})
        return None

    def _inputs(self, group: BenchGroup, pixels: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Return the inputs of the batch in one entry, or one entry per request with threads."""
        threads = self.plan.concurrency == "threads"
        return [
            make_inputs(
                self.model,
                group.workload,
                1 if threads else group.batch,
                text_tokens=self.plan.text_tokens,
                seed=self.plan.seed + number,
                pixels=pixels,
            )
            for number in range(group.batch if threads else 1)
        ]

    def _media(
        self, group: BenchGroup, processor: Any, path: Path | None, number: int
    ) -> dict[str, Any] | None:
        if processor is None or path is None:
            return None
        pixels, times = open_media(processor, group.workload, path, group.batch)
        if number < self.plan.rounds:
            self.journal.add((group.name, MEDIA, number), {"phases": times})
        return pixels

    def _warm_up(self, group: BenchGroup, row: BenchRow, inputs: list[dict[str, Any]]) -> None:
        for _ in range(self.plan.warmup):
            self._step(group, row, f"warm-up of {row.key}")
            self._try(group, row, 0, lambda: self._once(row, inputs))

    def _measure(self, group: BenchGroup, row: BenchRow, number: int, inputs: list[dict[str, Any]]) -> None:
        if not self._is_open(group, row, number):
            return
        self._step(group, row, f"{row.key}, {'memory' if number == MEMORY else f'round {number + 1}'}")
        begun = time.perf_counter()
        values = self._try(
            group,
            row,
            number,
            lambda: self._peaks(row, inputs) if number == MEMORY else self._once(row, inputs),
        )
        if values is not None:
            self.journal.add((group.name, row.key, number), values)
        took = time.perf_counter() - begun
        self._longest[group.name] = max(took, self._longest.get(group.name, 0.0))

    def _step(self, group: BenchGroup, row: BenchRow, what: str) -> None:
        """Report the next measurement; raise `TimeLimitReached` when it would end too late."""
        each = self.plan.rounds + int(self.plan.memory)
        lines = [value for (_, row_key, _), value in self.journal.values.items() if row_key != MEDIA]
        done = sum(each if "skipped" in value else 1 for value in lines)
        self.on_step(done, self._measurements, f"{group.name}: {what}")
        if self.until is not None and time.perf_counter() + self._longest.get(group.name, 0.0) > self.until:
            raise TimeLimitReached

    def _try(
        self, group: BenchGroup, row: BenchRow, number: int, run: Callable[[], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """Run a measurement; a row that fails is skipped with its reason, and keeps its times if only memory fails."""
        if self.journal.skipped(group.name, row.key) is not None:
            return None
        try:
            return run()
        except Exception as error:  # noqa: BLE001  (the other rows continue)
            reason, broken = _reason(error), self.device.type == "cuda" and is_broken(error)
        key = "failed" if number == MEMORY else "skipped"
        self.journal.add((group.name, row.key, number), {key: reason})
        if broken:  # the device is lost until the process ends; the next process leaves out this row
            raise SystemExit(f"{group.name}, {row.key}: {reason}; the same command goes on with the others")
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()  # here the traceback no longer holds memory
        return None

    def _once(self, row: BenchRow, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        settings, tokens = None if row.variant is None else row.variant.settings, max(self.plan.new_tokens)
        if self.plan.concurrency == "threads":
            return measure_threads(self.adapter, inputs, settings, tokens)
        return measure(self.adapter, inputs[0], settings, tokens)

    def _peaks(self, row: BenchRow, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        settings = None if row.variant is None else row.variant.settings
        peaks, meter = measure_peaks(self.adapter, inputs[0], settings, min(max(self.plan.new_tokens), 2))
        given = sum(value.nbytes for one in inputs for value in one.values())
        return {"peaks": peaks, "inputs_bytes": given, "counts_weights": meter.counts_weights}


def _reason(error: Exception) -> str:
    if is_out_of_memory(error):
        return "out of memory"
    said, kind = one_line(error), type(error).__name__
    return said if isinstance(error, VidcompressError) or said.startswith(kind) else f"{kind}: {said}"


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: an error class of its own on CUDA, a message elsewhere."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(text in said for text in NO_MEMORY)


def is_broken(error: Exception) -> bool:
    """Whether the device is lost to this process, as after an illegal access."""
    # Before torch 2.8 there is no AcceleratorError, only a sentence.
    said = isinstance(error, RuntimeError) and str(error).startswith("CUDA error: ")
    return (said or isinstance(error, getattr(torch, "AcceleratorError", ()))) and not is_out_of_memory(error)

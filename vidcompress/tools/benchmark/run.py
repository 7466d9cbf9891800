"""The run: every row of every group, in turns, journalled measurement by measurement."""

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
from vidcompress.tools.benchmark.journal import Journal, head_of
from vidcompress.tools.benchmark.measure import measure, measure_peaks, measure_threads
from vidcompress.tools.benchmark.media import media_file, open_media, pixel_processor
from vidcompress.tools.benchmark.models import describe, make_model
from vidcompress.tools.benchmark.plan import BenchPlan, Row, Workload
from vidcompress.tools.benchmark.roofline import model_on_paper, on_paper
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
"""Called with measurements done, measurements in all, and what comes next."""


@dataclass(frozen=True)
class Group:
    """Rows that are measured in turns: one kind of input, so many requests at once."""

    workload: Workload
    batch: int

    @property
    def name(self) -> str:
        """Such as `32 frames, batch 8`."""
        return f"{self.workload.name}, batch {self.batch}"


class TimeIsUp(Exception):
    """The run's time is over; what was measured is in the journal."""


def run_bench(
    plan: BenchPlan,
    *,
    journal: Path | None = None,
    seconds: float | None = None,
    on_step: OnStep = lambda done, of, what: None,
    model: Any = None,
) -> dict[str, Any]:
    """Measure what a plan says.

    Args:
        plan: what to measure.
        journal: a JSONL file; a run that finds its own journal goes on where that ends.
        seconds: stop before a measurement that would end later than this; the result then says `complete: false`.
        on_step: hears about progress.
        model: what to measure, where it is there already; must be what the plan names.

    Returns:
        `plan`, `model`, `groups` (each with its input's numbers and `rows`, each with its raw measurements), `complete`
        and `provenance`, as JSON types; `summarise` makes figures of it.

    Raises:
        ArgumentError: the journal is another run's. Also what making the model raises.
    """
    begun = time.perf_counter()
    source = provenance()
    model = make_model(plan) if model is None else unwrap(model)
    log = Journal(journal, head_of("plan", plan.to_dict(), source))
    runner = _Runner(plan, model, log, None if seconds is None else begun + seconds, on_step)
    complete = True
    try:
        for group in runner.groups:
            runner.run_group(group)
    except TimeIsUp:
        complete = False
    return {
        "plan": plan.to_dict(),
        "model": describe(model),
        "groups": [runner.result(group) for group in runner.groups],
        "complete": complete,
        "provenance": source,
    }


class _Runner:
    """Measures group after group."""

    def __init__(
        self, plan: BenchPlan, model: Any, journal: Journal, until: float | None, on_step: OnStep
    ) -> None:
        self.plan, self.model, self.journal, self.until, self.on_step = plan, model, journal, until, on_step
        self.adapter = adapter_for(model)
        self.device = input_device(model)
        self.groups = [Group(workload, batch) for workload in plan.workloads for batch in plan.batch_sizes]
        self._rows = {workload: plan.rows(workload) for workload in plan.workloads}
        each = plan.rounds + int(plan.memory)
        self._of = sum(len(self._rows[group.workload]) * each for group in self.groups)
        self._longest: dict[str, float] = {}
        self._on_paper: Model | None = model_on_paper(model)

    def run_group(self, group: Group) -> None:
        """Measure what is not in the journal yet."""
        rows = self._rows[group.workload]
        numbers = [*range(self.plan.rounds), *([MEMORY] if self.plan.memory else [])]
        if not any(self._wanted(group, row, number) for row in rows for number in numbers):
            return
        with media_file(self.plan, group.workload) as path:
            processor = None if path is None else pixel_processor(self.model)
            read = partial(self._media, group, processor, path, self.plan.rounds)
            inputs = self._inputs_or_why(group, rows, read)
            if inputs is None:
                return
            for row in rows:
                if any(self._wanted(group, row, number) for number in numbers):
                    self._warm_up(group, row, inputs)
            for number in range(self.plan.rounds):
                if any(self._wanted(group, row, number) for row in rows):
                    self._media(group, processor, path, number)
                turn = number % len(rows)  # no row is always the first
                for row in (*rows[turn:], *rows[:turn]):
                    self._measure(group, row, number, inputs)
            if self.plan.memory:
                for row in rows:
                    self._measure(group, row, MEMORY, inputs)

    def result(self, group: Group) -> dict[str, Any]:
        """What is known of a group."""
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

    def _row(self, group: Group, row: Row) -> dict[str, Any]:
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
            "memory": self.journal.lines.get((group.name, row.key, MEMORY)),
            "paper": self._paper(group, row),
        }

    def _paper(self, group: Group, row: Row) -> Any:
        if self.journal.skipped(group.name, row.key) is not None:
            return None
        batch = 1 if self.plan.concurrency == "threads" else group.batch
        tokens = max(self.plan.new_tokens)
        if self._on_paper is None:
            return None
        kind = str(self.model.dtype).removeprefix("torch.")
        return on_paper(self._on_paper, kind, group.workload, batch, row, self.plan.text_tokens, tokens)

    def _wanted(self, group: Group, row: Row, number: int) -> bool:
        if self.journal.skipped(group.name, row.key) is not None:
            return False
        return (group.name, row.key, number) not in self.journal.lines

    def _inputs_or_why(
        self, group: Group, rows: list[Row], read: Callable[[], dict[str, Any] | None]
    ) -> list[dict[str, Any]] | None:
        """The batch; where there is no room even for its pixels, as made or as read, its rows say so."""
        try:
            return self._inputs(group, read())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        for row in rows:
            if self.journal.skipped(group.name, row.key) is None:
                self.journal.add((group.name, row.key, 0), {"skipped": "out of memory for its pixels"})
        return None

    def _inputs(self, group: Group, pixels: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The batch as one, or one of each request."""
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

    def _media(self, group: Group, processor: Any, path: Path | None, number: int) -> dict[str, Any] | None:
        if processor is None or path is None:
            return None
        pixels, times = open_media(processor, group.workload, path, group.batch)
        if number < self.plan.rounds:
            self.journal.add((group.name, MEDIA, number), {"phases": times})
        return pixels

    def _warm_up(self, group: Group, row: Row, inputs: list[dict[str, Any]]) -> None:
        for _ in range(self.plan.warmup):
            self._step(group, row, f"warm-up of {row.key}")
            self._try(group, row, 0, lambda: self._once(row, inputs))

    def _measure(self, group: Group, row: Row, number: int, inputs: list[dict[str, Any]]) -> None:
        if not self._wanted(group, row, number):
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

    def _step(self, group: Group, row: Row, what: str) -> None:
        """Say what comes next; stop when there is no time for it."""
        each = self.plan.rounds + int(self.plan.memory)
        lines = [value for (_, row_key, _), value in self.journal.lines.items() if row_key != MEDIA]
        done = sum(each if "skipped" in value else 1 for value in lines)
        self.on_step(done, self._of, f"{group.name}: {what}")
        if self.until is not None and time.perf_counter() + self._longest.get(group.name, 0.0) > self.until:
            raise TimeIsUp

    def _try(
        self, group: Group, row: Row, number: int, run: Callable[[], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """A row that cannot be run says why and does not end the run; its times stay where only its memory fails."""
        if self.journal.skipped(group.name, row.key) is not None:
            return None
        try:
            return run()
        except Exception as error:  # noqa: BLE001  (the other rows go on)
            reason, broken = _reason(error), self.device.type == "cuda" and is_broken(error)
        key = "failed" if number == MEMORY else "skipped"
        self.journal.add((group.name, row.key, number), {key: reason})
        if broken:  # nothing runs on this device until the process ends; the next one leaves out this row
            raise SystemExit(f"{group.name}, {row.key}: {reason}; the same command goes on with the others")
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()  # only now is what the traceback held free
        return None

    def _once(self, row: Row, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        settings, tokens = None if row.variant is None else row.variant.settings, max(self.plan.new_tokens)
        if self.plan.concurrency == "threads":
            return measure_threads(self.adapter, inputs, settings, tokens)
        return measure(self.adapter, inputs[0], settings, tokens)

    def _peaks(self, row: Row, inputs: list[dict[str, Any]]) -> dict[str, Any]:
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
    """Whether memory ran out: the allocator of CUDA has an error of its own, everybody else a sentence."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(text in said for text in NO_MEMORY)


def is_broken(error: Exception) -> bool:
    """Whether the device is lost to this process, as after an illegal access."""
    # Before torch 2.8 there is no AcceleratorError, only a sentence.
    said = isinstance(error, RuntimeError) and str(error).startswith("CUDA error: ")
    return (said or isinstance(error, getattr(torch, "AcceleratorError", ()))) and not is_out_of_memory(error)

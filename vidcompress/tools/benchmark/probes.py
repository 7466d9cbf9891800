"""Cost of evidence and selection: one encoder with and without probes, in turns."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from vidcompress.adapters.base import adapter_for
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import visual_budget
from vidcompress.core.config import CompressionConfig
from vidcompress.core.devices import input_device
from vidcompress.errors import VidcompressError, one_line
from vidcompress.table import Table, paragraph
from vidcompress.tools.benchmark.inputs import make_inputs
from vidcompress.tools.benchmark.measurements import Measurements, journal_head
from vidcompress.tools.benchmark.meters import TimeStamp, wait_for
from vidcompress.tools.benchmark.models import depth, make_model, model_metadata
from vidcompress.tools.benchmark.plan import BenchPlan
from vidcompress.tools.benchmark.row import BenchRow, Workload
from vidcompress.tools.benchmark.run import OnStep
from vidcompress.tools.benchmark.table import milliseconds
from vidcompress.tools.runs.provenance import provenance

NOTHING = "no evidence"
SELECTS = 5
"""Selections per round; they are short."""


def run_probes(
    plan: BenchPlan,
    *,
    journal: Path | None = None,
    seconds: float | None = None,
    on_step: OnStep = lambda done, of, what: None,
    model: Any = None,
) -> dict[str, Any]:
    """Measure encoding with each distinct set of evidence in turns, and selection by every method.

    Methods inside the language model, compositions and methods that leave out frames are not measured.

    Args:
        plan: its `rounds`, inputs, methods and budgets are used; one request at a time.
        journal, seconds, on_step, model: as in `run_bench`.

    Returns:
        `plan`, `model`, `inputs` (each with `evidence`: milliseconds of encoding per set, and its addition to encoding
        without: the median of the ratios of the same round, the least and most of them, of the minima, and of the
        processor time; and `methods`: milliseconds of selection, and its share of the encoding, minima both, with the
        least and most share of a round), `complete`, `provenance`.
    """
    until = None if seconds is None else time.perf_counter() + seconds
    source = provenance()
    model = make_model(plan) if model is None else model
    log = Measurements(journal, journal_head("probes", plan.to_dict(), source))
    complete = True
    for workload in plan.workloads:
        probe = _Probe(plan, model, workload)
        for number in range(-plan.warmup, plan.rounds):
            if (workload.name, "all", number) in log.values or (number < 0 and _whole(log, workload, plan)):
                continue
            on_step(
                len(log.values), len(plan.workloads) * plan.rounds, f"{workload.name}: round {number + 1}"
            )
            if until is not None and time.perf_counter() + probe.longest > until:
                complete = False
                break
            values = probe.round(number)
            if number >= 0:
                log.add((workload.name, "all", number), values)
    figures = [_figures(list(log.rounds(w.name, "all")), w) for w in plan.workloads]
    return {
        "plan": plan.to_dict(),
        "model": model_metadata(model),
        "inputs": [entry for entry in figures if entry is not None],
        "complete": complete,
        "provenance": source,
    }


def _whole(log: Measurements, workload: Workload, plan: BenchPlan) -> bool:
    return len(list(log.rounds(workload.name, "all"))) == plan.rounds


class _Probe:
    """Probe of one input: evidence sets, and the methods that need each."""

    def __init__(self, plan: BenchPlan, model: Any, workload: Workload) -> None:
        self.adapter, self.device, self.longest = adapter_for(model), input_device(model), 0.0
        inputs = make_inputs(model, workload, 1, text_tokens=plan.text_tokens, seed=plan.seed)
        images, videos = self.adapter.visuals(inputs)
        self.visual = dataclasses.replace((images or videos)[0], question=inputs["input_ids"][0, :8].cpu())
        self.workload = workload
        self.sets: dict[str, tuple[Any, ...]] = {NOTHING: ()}
        self.rows: list[tuple[BenchRow, str]] = []
        for row in plan.rows(workload):
            settings = None if row.variant is None else row.variant.settings
            if settings is None or settings.method.inside is not None or row.label == "none":
                continue
            try:
                plan_ = self._plan(settings)
                if settings.method.frames(self.visual.layout, plan_) is not None:
                    continue
            except VidcompressError:
                continue
            needs = settings.method.needs(workload.modality, self.adapter.has_cls)
            name = ", ".join(_named(item) for item in needs) or NOTHING
            self.sets.setdefault(name, needs)
            self.rows.append((row, name))

    def _plan(self, settings: CompressionConfig) -> Any:
        layout = self.visual.layout
        (budget,) = settings.budget.split([layout.full_length])
        return visual_budget(
            layout,
            budget,
            ratio=settings.budget.ratio,
            separators=settings.resolved_separators,
            policy=settings.policy,
        )

    def round(self, number: int) -> dict[str, Any]:
        """Measure the milliseconds of encoding by set, and of selection by row."""
        begun = time.perf_counter()
        names = list(self.sets)
        turn = number % len(names)
        encode, busy, select, selecting = dict[str, float](), dict[str, float](), {}, {}
        with torch.no_grad():
            for name in (*names[turn:], *names[:turn]):
                wait_for(self.device)
                begin = TimeStamp(self.device)
                (tokens,) = self.adapter.encode([self.visual], self.sets[name])
                end = TimeStamp(self.device)
                encode[name], busy[name] = end.since(begin), (end.cpu - begin.cpu) * 1e3
                for row, needs in self.rows:
                    if needs == name:
                        select[row.key], selecting[row.key] = self._select(row, tokens)
        self.longest = max(self.longest, time.perf_counter() - begun)
        times = {"encode": encode, "busy": busy}
        ordered = {key: {name: ms[name] for name in names} for key, ms in times.items()}
        return {**ordered, "select": select, "selecting": selecting, "sets": dict(self._keys())}

    def _keys(self) -> list[tuple[str, str]]:
        return [(row.key, name) for row, name in self.rows]

    def _select(self, row: BenchRow, tokens: Any) -> tuple[float | str, float]:
        """Measure wall and processor time in milliseconds of one selection with the gathering of its features."""
        assert row.variant is not None  # noqa: S101  (the stock model is no row here)
        settings, times, busy = row.variant.settings, [], []
        try:
            plan, batch = self._plan(settings), VisualBatch([tokens])
            for _ in range(SELECTS):
                begin = TimeStamp(self.device)
                settings.method.select(batch, [plan])[0].gather(tokens)
                end = TimeStamp(self.device)
                times.append(end.since(begin))
                busy.append((end.cpu - begin.cpu) * 1e3)
        except VidcompressError as error:
            return one_line(error), 0.0
        return min(times), min(busy)


def _named(item: Any) -> str:
    return f"{item.quantity} of {item.layer}"


def _figures(rounds: list[dict[str, Any]], workload: Workload) -> dict[str, Any] | None:
    if not rounds:
        return None
    plain = [r["encode"][NOTHING] for r in rounds]
    ratios = {
        name: [r["encode"][name] / p for r, p in zip(rounds, plain, strict=True)]
        for name in rounds[0]["encode"]
    }
    evidence = [
        {
            "evidence": name,
            "encode_ms": {"min": min(times), "median": median(times)},
            "adds": {
                "paired": median(ratios[name]) - 1,
                "least": min(ratios[name]) - 1,
                "most": max(ratios[name]) - 1,
                "min": min(times) / min(plain) - 1,
                "busy": min(r["busy"][name] for r in rounds) / min(r["busy"][NOTHING] for r in rounds) - 1,
            },
        }
        for name, times in ((name, [r["encode"][name] for r in rounds]) for name in rounds[0]["encode"])
    ]
    methods = []
    for key, name in rounds[0]["sets"].items():
        times = [r["select"][key] for r in rounds]
        if any(isinstance(t, str) for t in times):
            methods.append({"row": key, "skipped": next(t for t in times if isinstance(t, str))})
            continue
        share = min(times) / min(plain)
        by_round = [t / p for t, p in zip(times, plain, strict=True)]
        of_busy = min(r["selecting"][key] for r in rounds) / min(r["busy"][NOTHING] for r in rounds)
        methods.append(
            {
                "row": key,
                "evidence": name,
                "select_ms": {"min": min(times), "median": median(times)},
                "share": share,
                "share_least": min(by_round),
                "share_most": max(by_round),
                "share_busy": of_busy,
            }
        )
    return {
        "workload": workload.name,
        "rounds": len(rounds),
        "evidence": evidence,
        "methods": methods,
        "raw": rounds,
    }


def render_probes(result: dict[str, Any], width: int | None = None) -> str:
    """Render the two tables of every input as text, of at most `width` columns; None breaks no line."""
    parts = [table.text(width) + "\n" for table in probe_tables(result)]
    return "\n".join([*parts, paragraph(probe_footer(result), width)])


def probe_tables(result: dict[str, Any]) -> list[Table]:
    """Return the two tables of every input."""
    return [table(entry) for entry in result["inputs"] for table in (_evidence_table, _method_table)]


def probe_footer(result: dict[str, Any]) -> str:
    """Return the meaning of the figures in the tables."""
    how = "encode: medians of the rounds, in turns; compress and its share: minima; min-max: round by round"
    return f"{depth(result['model'])}, {result['model']['dtype']}; {how}."


def _evidence_table(entry: dict[str, Any]) -> Table:
    columns = ("evidence", "encode", "adds", "min-max", "adds, minima", "adds, processor time")
    lines = []
    for e in entry["evidence"]:
        adds = [f"{100 * e['adds'][name]:+.2f} %" for name in ("paired", "min", "busy")]
        spread = f"{100 * e['adds']['least']:+.2f} to {100 * e['adds']['most']:+.2f} %"
        lines.append([e["evidence"], milliseconds(e["encode_ms"]["median"]), adds[0], spread, *adds[1:]])
    return Table.of_lines(columns, lines, title=entry["workload"])


def _method_table(entry: dict[str, Any]) -> Table:
    columns = ("method", "evidence", "compress", "of encode", "min-max", "in processor time")
    lines = []
    for m in entry["methods"]:
        if "skipped" in m:
            lines.append([m["row"], m["skipped"]])
        else:
            spread = f"{100 * m['share_least']:.2f}-{100 * m['share_most']:.2f} %"
            share, busy = (f"{100 * m[key]:.2f} %" for key in ("share", "share_busy"))
            lines.append([m["row"], m["evidence"], milliseconds(m["select_ms"]["min"]), share, spread, busy])
    return Table.of_lines(columns, lines, words=("evidence",))

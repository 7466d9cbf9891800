"""Run of a benchmark of servers: every row gets the same seeded traffic in turns, each round journalled."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidcompress.tools.benchmark.measurements import Measurements, journal_head
from vidcompress.tools.benchmark.serving.client import check_client, drive, served_model
from vidcompress.tools.benchmark.serving.plan import ServePlan, ServerRow
from vidcompress.tools.benchmark.serving.summary import summary_of
from vidcompress.tools.benchmark.serving.traffic import requests_of
from vidcompress.tools.runs.provenance import provenance

WARM = 2**31
"""Round whose pictures warm up; none that is measured has its number."""


def run_serve(
    plan: ServePlan,
    *,
    journal: Path | None = None,
    seconds: float | None = None,
    on_step: Callable[[int, int, str], None] = lambda done, of, what: None,
    known_models: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Measure every row of a plan.

    Args:
        plan: servers, traffic, repetitions.
        journal: a JSONL file; a run that finds its own journal resumes from it.
        seconds: stop before a round that begins later than this; the result then has `complete: false`.
        on_step: called before every round of a row with the number done, the number in all, and its name.
        known_models: model of each server by address, where it was asked already.

    Returns:
        `plan`, `servers`, `groups` (each with its requests at once and `rows`, each with raw `rounds` and a `summary`),
        `complete` and `provenance`, as JSON types.

    Raises:
        ServerError: a server cannot be reached at the start. ArgumentError: the journal belongs to another run.
        UnsupportedInputError: aiohttp is missing.
    """
    check_client()
    begun, source = time.monotonic(), provenance()
    served = {url: dict((known_models or {}).get(url) or served_model(url)) for _, url in plan.servers}
    models = {name: _stated(served[url]) for name, url in plan.servers}
    # Servers that are started anew have other ports.
    same = {**plan.to_dict(), "serve": [name for name, _ in plan.servers], "models": models}
    log = Measurements(journal, journal_head("plan", same, source))
    cells = [(at_once, row) for at_once in plan.batch_sizes for row in plan.rows]
    total, complete, warm = len(cells) * plan.rounds, True, set[tuple[int, str]]()
    for at_once in plan.batch_sizes:
        group = group_name(at_once)
        for number in range(plan.rounds):
            turn = number % len(plan.rows)  # so that no row is always the first
            for row in (*plan.rows[turn:], *plan.rows[:turn]):
                if (group, row.key, number) in log.values:
                    continue
                if seconds is not None and time.monotonic() - begun > seconds:
                    complete = False
                    continue
                on_step(len(log.values), total, f"{group}: {row.key}, round {number + 1}")
                if (at_once, row.key) not in warm and plan.warmup:
                    _round(plan, row, served[row.url]["id"], at_once, WARM, plan.warmup)
                    warm.add((at_once, row.key))
                values = _round(plan, row, served[row.url]["id"], at_once, number, plan.requests)
                log.add((group, row.key, number), values)
    return {
        "plan": plan.to_dict(),
        "servers": models,
        "groups": [_group(plan, at_once, log) for at_once in plan.batch_sizes],
        "complete": complete,
        "provenance": source,
    }


def _stated(model: Mapping[str, Any]) -> dict[str, Any]:
    """Name of a served model and version of its server; of a folder the last part, for results leave this machine."""
    name = str(model["id"])
    return {"id": Path(name).name if Path(name).is_absolute() else name, "version": model.get("version")}


def group_name(at_once: int) -> str:
    """Name of a group, such as `4 requests at once`."""
    return f"{at_once} request{'s' * (at_once != 1)} at once"


def _round(
    plan: ServePlan, row: ServerRow, model: str, at_once: int, number: int, count: int
) -> dict[str, Any]:
    """Measure a row once: the same traffic as every other row of the round."""
    bodies = requests_of(
        (plan.seed, at_once, number),
        count,
        size=(plan.size[0], plan.size[1]),
        text_tokens=plan.text_tokens,
        new_tokens=plan.new_tokens,
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    sent = [{"model": model, **body, **row.extra} for body in bodies]
    exchanges, took = drive(row.url, sent, at_once, plan.timeout)
    return {
        "round": number,
        "seconds": took,
        "load": load,
        "exchanges": [asdict(exchange) for exchange in exchanges],
    }


def _group(plan: ServePlan, at_once: int, log: Measurements) -> dict[str, Any]:
    name = group_name(at_once)
    rounds = {row.key: list(log.rounds(name, row.key)) for row in plan.rows}
    base = plan.rows[0].key
    return {
        "name": name,
        "at_once": at_once,
        "rows": [
            {
                "row": row.key,
                "server": row.server,
                "retention_ratio": row.ratio,
                "rounds": rounds[row.key],
                "summary": summary_of(rounds[row.key], rounds[base] if row.key != base else None),
            }
            for row in plan.rows
        ],
    }

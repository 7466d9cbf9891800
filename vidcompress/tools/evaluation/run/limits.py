"""Limit of a run: fixed when the run is begun, and checked once for all of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.run.sweep import SweepRow
from vidcompress.tools.evaluation.run.worker import ANSWERS
from vidcompress.tools.runs.journal import read_head


def check_limits(rows: Iterable[SweepRow], out: Path) -> None:
    """Refuse another limit than that of the run in a folder.

    A run cannot continue with a larger limit: batches are cut from the questions, random methods draw per batch, and
    the last batch of the shorter run would differ from that of an uninterrupted run. Rows of lmms-eval, which have a
    journal of their own, continue with any limit.

    Args:
        rows: of the sweep.
        out: folder of the run.

    Raises:
        ArgumentError: a row has answers under another limit.
    """
    for row in rows:
        if row.task.kind == "lmms":
            continue
        try:
            head = read_head(out / row.id / ANSWERS)
        except OSError:  # opening the journal reports it
            continue
        if head is None or head.get("limit", row.task.limit) == row.task.limit:
            continue
        before = "no --limit" if head["limit"] is None else f"--limit {head['limit']}"
        now = "none" if row.task.limit is None else f"--limit {row.task.limit}"
        go_on = "leave it out" if head["limit"] is None else f"pass {before}"
        raise ArgumentError(
            f"limit={row.task.limit}: the run in {out} was begun with {before}, and this one has {now}; {go_on} to go "
            "on with it, or name another folder with --out"
        )

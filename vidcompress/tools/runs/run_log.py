"""Run log of a row: times, provenance and starts, one JSON event a line; losing it costs no answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidcompress.checks import is_whole
from vidcompress.core.timing import PHASES
from vidcompress.tools.runs.journal import as_line
from vidcompress.tools.runs.validation import is_number

NAME = "run.jsonl"
_MOST = 1_000_000  # questions of a batch, processes of a run
_DICTS = ("provenance", "model", "settings")


class RunLog:
    """Run log of one process, a JSONL file of events; a full disk is no error.

    Args:
        folder: of the row.
        rank: number of the process; others than the first write `run.rank<n>.jsonl`.

    Attributes:
        written: events that this object added.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.path = folder / (NAME if rank == 0 else f"run.rank{rank}.jsonl")
        self.written: list[dict[str, Any]] = []

    def add(self, event: str, **fields: Any) -> None:
        """Append one event, with the time of day in UTC."""
        entry = {"event": event, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}
        self.written.append(entry)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                # A line that a kill left unfinished is ended first, so that it spoils no other.
                file.write((b"\n" if file.tell() else b"") + as_line(entry).rstrip(b"\n"))
        except OSError:
            pass


def read_events(folder: Path) -> list[dict[str, Any]]:
    """All readable events of all processes."""
    events: list[dict[str, Any]] = []
    for path in sorted(folder.glob("run*.jsonl")):
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError:
            continue
        for line in lines:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and _usable(event):
                events.append(event)
    return events


def _usable(event: Mapping[str, Any]) -> bool:
    """Whether an event has the fields of its kind, with valid values."""
    if event.get("event") == "start":
        return all(isinstance(event.get(name, {}), dict) for name in _DICTS)
    if event.get("event") != "batch":
        return True
    times, first = event.get("ms"), event.get("first_token_ms")
    if not isinstance(times, dict) or not isinstance(first, list):
        return False
    counts, peak = (event.get("questions"), event.get("processes")), event.get("peak_memory_bytes")
    numbers = (event.get("seconds"), *(times.get(phase) for phase in PHASES), *first, peak or 0)
    return all(is_whole(count) and 1 <= (count or 0) <= _MOST for count in counts) and all(
        map(is_number, numbers)
    )


def starts(events: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    """Start events: one per start or resumption of the row."""
    return [event for event in events if event.get("event") == "start"]

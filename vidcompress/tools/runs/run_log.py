"""Run log: times, provenance and starts of a run, one JSON event a line; losing it costs no answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidcompress.tools.runs.journal import as_line, rank_path, rank_paths, read_lines, write_whole


class RunLog:
    """Run log of one process, a JSONL file of events; a full disk is no error.

    Args:
        path: the file of the first process; None writes nothing.
        rank: number of the process; others than the first write `rank_path(path, rank)`.
    """

    def __init__(self, path: Path | None, rank: int = 0) -> None:
        self.path = None if path is None else rank_path(path, rank)

    def add(self, event: str, **fields: Any) -> None:
        """Append one event, with the time of day in UTC."""
        if self.path is None:
            return
        entry = {"event": event, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                # A line that a kill left unfinished is ended first, so that it does not damage the next.
                file.write((b"\n" if file.tell() else b"") + as_line(entry).rstrip(b"\n"))
        except OSError:
            pass


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Readable events of all processes, those of the first one first.

    Args:
        path: the file of the first process.
    """
    for file in (path, *rank_paths(path)):
        yield from (event for event in read_lines(file) if isinstance(event.get("event"), str))


def merge_logs(path: Path) -> None:
    """Move the events of all processes into the file of the first one.

    Raises:
        OSError: it cannot be written; the files are unchanged.
    """
    write_whole(path, [as_line(event) for event in read_log(path)])
    for file in rank_paths(path):
        file.unlink()

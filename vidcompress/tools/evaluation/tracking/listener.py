"""Listener that sends ended rows to trackers, each row once, also over kills and resumptions of the sweep."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from vidcompress.errors import one_line
from vidcompress.tools.evaluation.run.outcome import RowOutcome
from vidcompress.tools.evaluation.run.runner import ProgressListener
from vidcompress.tools.evaluation.run.sweep import SweepRow
from vidcompress.tools.evaluation.tracking.base import RowRecord, Tracker, record_of
from vidcompress.tools.runs.journal import as_line, read_lines

LEDGER: Final = "tracked.jsonl"
"""File in the folder of a run that says which rows were sent to which tracker."""


class TrackingListener(ProgressListener):
    """Listener of a sweep that passes everything on to another one and sends rows to trackers.

    A row is written into the ledger before it is sent. A row whose sending was cut short by a kill may have arrived
    and is not sent again; one whose tracker raised an error is sent again by the next run.

    Args:
        inner: gets everything.
        trackers: by name.
        project: name of the sweep.
        out: folder of the run.
        remark: gets a line about a row that was not sent.
    """

    def __init__(
        self,
        inner: ProgressListener,
        trackers: Mapping[str, Tracker],
        project: str,
        out: Path,
        remark: Callable[[str], None],
    ) -> None:
        self._inner, self._trackers, self._project = inner, trackers, project
        self._path, self._remark = Path(out) / LEDGER, remark

    def row(self, row: SweepRow, questions: int, done: int) -> None:
        """Pass it on."""
        self._inner.row(row, questions, done)

    def advance(self, questions: int) -> None:
        """Pass it on."""
        self._inner.advance(questions)

    def outcome(self, outcome: RowOutcome) -> None:
        """Pass it on, and send the row where it has a result."""
        self._inner.outcome(outcome)
        record = record_of(outcome, self._project)
        if record is not None:
            for name, tracker in self._trackers.items():
                try:
                    self._send(name, tracker, record, outcome.row.failed)
                except Exception as error:  # noqa: BLE001  (a tracker's network or disk costs no row of the sweep)
                    self._remark(
                        f"{name}: {record.name} was not logged ({one_line(error)}); the same command tries again"
                    )

    def _send(self, name: str, tracker: Tracker, record: RowRecord, failed: str) -> None:
        key = {"tracker": name, "row": record.name, "failed": failed}
        states = [line["state"] for line in self._lines() if key.items() <= line.items() and "state" in line]
        last = states[-1] if states else None
        if last == "sending":
            self._remark(
                f"{name}: {record.name} may lack, as a run ended while it was logged; it is not logged again"
            )
        if last in ("sending", "sent"):
            return
        self._note({**key, "state": "sending"})
        try:
            tracker.track(record)
        except Exception:
            self._note({**key, "state": "error"})
            raise
        self._note({**key, "state": "sent"})

    def _lines(self) -> list[dict[str, str]]:
        return list(read_lines(self._path)) if self._path.exists() else []

    def _note(self, line: Mapping[str, str]) -> None:
        """Append a line to the ledger and have it on disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            # A line that a kill left unfinished is ended first.
            file.write((b"\n" if file.tell() else b"") + as_line(line).rstrip(b"\n"))
            file.flush()
            os.fsync(file.fileno())

"""Outcome of a row of a sweep, run by the package or by lmms-eval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidcompress.errors import shown
from vidcompress.tools.evaluation.run.sweep import SweepRow


@dataclass(frozen=True)
class RowOutcome:
    """Outcome of a row: its result or its error.

    Attributes:
        row: the row.
        result: its result, or None where it has none.
        error: reason why it has none, or is incomplete.
        resumed: number of answers from earlier runs.
        complete_before: whether an earlier run completed the row, so that it did not run again.
    """

    row: SweepRow
    result: Mapping[str, Any] | None = None
    error: str | None = None
    resumed: int = 0
    complete_before: bool = False

    def __repr__(self) -> str:
        main = None if self.result is None else self.result.get("main")
        score = "no score" if main is None else f"{main}={(self.result or {})['scores'].get(main)}"
        error = "" if self.error is None else f", error={shown(self.error)}"
        return f"RowOutcome({self.row.id!r}, {score}, failed={self.failed}, resumed={self.resumed}{error})"

    @property
    def failed(self) -> int:
        """Number of questions of the row without an answer because of an error of their own."""
        return 0 if self.result is None else len(self.result["failed"])

    @property
    def good(self) -> bool:
        """Whether the row has no error and every question an answer."""
        return self.error is None and not self.failed

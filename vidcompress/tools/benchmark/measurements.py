"""Measurements of a benchmark, in the journal of its run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidcompress.tools.runs.journal import RunJournal

Key = tuple[str, str, int]
"""(group, row, round); a group is an input and a number of requests, round -1 measured memory."""


def journal_head(kind: str, plan: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Head of a journal: plan, commit, versions and machine, which all measurements of the journal share."""
    return {
        kind: plan,
        **{key: source[key] for key in ("commit", "versions", "device", "machine", "threads")},
    }


class Measurements:
    """Measurements so far, by key.

    Args:
        path: JSONL file of the journal; None keeps everything in memory.
        head: from `journal_head`.

    Attributes:
        values: of each measurement; the reason for leaving a row out replaces its earlier measurements.

    Raises:
        ArgumentError, JournalError: as `RunJournal`.
    """

    def __init__(self, path: Path | None, head: Mapping[str, Any]) -> None:
        self._journal = RunJournal(path, head, _is_measurement)
        self.values: dict[Key, dict[str, Any]] = {}
        for line in self._journal.done.values():
            self.values[line["group"], line["row"], line["round"]] = line["values"]

    def add(self, key: Key, values: Mapping[str, Any]) -> None:
        """Append a measurement, or the reason for its absence."""
        group, row, number = key
        kind = next((kind for kind in ("skipped", "failed") if kind in values), "measured")
        name = f"{group}, {row}, {number}: {kind}"
        if name not in self._journal.done:
            self.values[key] = dict(values)
            self._journal.add([{"id": name, "group": group, "row": row, "round": number, "values": values}])

    def skipped(self, group: str, row: str) -> str | None:
        """Return the reason why a row is not measured; None where it is."""
        of_row = (values for (g, r, _), values in self.values.items() if (g, r) == (group, row))
        return next((values["skipped"] for values in of_row if "skipped" in values), None)

    def rounds(self, group: str, row: str) -> Iterator[dict[str, Any]]:
        """Yield the timed measurements of a row, in order."""
        rounds = {n: values for (g, r, n), values in self.values.items() if (g, r) == (group, row) and n >= 0}
        yield from (rounds[number] for number in sorted(rounds) if "skipped" not in rounds[number])


def _is_measurement(line: Mapping[str, Any]) -> bool:
    """Whether a line has a key and its values."""
    kinds = {"group": str, "row": str, "round": int, "values": dict}
    return all(isinstance(line.get(name), kind) for name, kind in kinds.items())

"""Journal of a benchmark run: one JSON line per measurement, so that a killed run resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError, one_line

Key = tuple[str, str, int]
"""(group, row, round); a group is an input and a number of requests, round -1 is the one that measured memory."""


def journal_head(kind: str, plan: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Head of a journal: plan, commit, versions and machine, which all measurements of the journal share."""
    return {
        kind: plan,
        **{key: source[key] for key in ("commit", "versions", "device", "machine", "threads")},
    }


class MeasurementJournal:
    """Measurements so far, in a file or in memory.

    Args:
        path: a JSONL file that is read back and appended to; None keeps everything in memory.
        head: from `journal_head`; a journal with another head is refused.

    Raises:
        ArgumentError: the file belongs to another run, is damaged, or cannot be written.
    """

    def __init__(self, path: Path | None, head: Mapping[str, Any]) -> None:
        self._path = path
        self.lines: dict[Key, dict[str, Any]] = {}
        if path is None:
            return
        head = json.loads(json.dumps(head))
        try:
            if path.exists() and path.stat().st_size:
                self._read(path, head)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(head) + "\n", encoding="utf-8")
        except OSError as error:
            raise ArgumentError(
                f"journal={str(path)!r} cannot be used ({one_line(error)}); name another file"
            ) from error

    def _read(self, path: Path, head: Mapping[str, Any]) -> None:
        """Read the measurements of a file; an unfinished last line is dropped."""
        try:
            whole = [
                line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")
            ]
            head_on_disk = json.loads(whole[0]) if whole else None
            if head_on_disk != head:
                raise ArgumentError(
                    f"journal={str(path)!r} belongs to {_difference(head_on_disk, head)}; delete it or name another"
                )
            for line in whole[1:]:
                entry = json.loads(line)
                self.lines[str(entry["group"]), str(entry["row"]), int(entry["round"])] = entry["values"]
        except (
            UnicodeDecodeError,
            json.JSONDecodeError,
            KeyError,
            TypeError,
            ValueError,
            RecursionError,
        ) as error:
            if isinstance(error, ArgumentError):
                raise
            raise ArgumentError(
                f"journal={str(path)!r} is damaged ({one_line(error)}); delete it or name another"
            ) from error
        path.write_text("".join(whole), encoding="utf-8")

    def add(self, key: Key, values: dict[str, Any]) -> None:
        """Append a measurement."""
        self.lines[key] = values
        if self._path is not None:
            group, row, number = key
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"group": group, "row": row, "round": number, "values": values}) + "\n")

    def skipped(self, group: str, row: str) -> str | None:
        """Reason why a row is not measured; None where it is."""
        return next(
            (
                v["skipped"]
                for (g, r, _), v in self.lines.items()
                if (g, r) == (group, row) and "skipped" in v
            ),
            None,
        )

    def rounds(self, group: str, row: str) -> Iterator[dict[str, Any]]:
        """The timed measurements of a row, in order."""
        rounds = {n: v for (g, r, n), v in self.lines.items() if (g, r) == (group, row) and n >= 0}
        yield from (rounds[number] for number in sorted(rounds) if "skipped" not in rounds[number])


def _difference(head_on_disk: Any, head: Mapping[str, Any]) -> str:
    if not isinstance(head_on_disk, dict):
        return "something else"
    keys = [key for key in head if head_on_disk.get(key) != head[key]]
    return f"another run ({', '.join(keys) or 'other fields'} differ)"

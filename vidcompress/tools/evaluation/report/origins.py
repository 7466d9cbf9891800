"""Origins of rows: command, commit, versions and machine, in a line per run, and where the rows differ in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vidcompress.tools.evaluation.report.load import ResultRow

ORIGIN = (
    "dtype", "attention", "device", "batch_size", "vidcompress", "commit", "python", "torch", "transformers",
    "machine", "threads",
)  # fmt: skip
"""What a row states about where it comes from, most telling first."""
LONGEST = 500
"""Characters of a command that are printed; JSON has it whole."""


@dataclass(frozen=True)
class RunOrigin:
    """Origin that rows of one folder share.

    Attributes:
        folder: of the run.
        command: as it was typed, "" where it is not stated.
        stated: name of `ORIGIN` -> value, without what is not stated.
        rows: that come from there.
    """

    folder: str
    command: str
    stated: dict[str, Any]
    rows: tuple[ResultRow, ...]

    def text(self) -> str:
        """The origin in one line."""
        stated = self.stated
        commit = f" at {stated['commit']}" if "commit" in stated else ""
        parts = [
            f"vidcompress {stated['vidcompress']}{commit}" if "vidcompress" in stated else commit.strip(),
            ", ".join(
                f"{name} {stated[name]}" for name in ("torch", "transformers", "python") if name in stated
            ),
            " on ".join(str(stated[name]) for name in ("dtype", "device") if name in stated),
            str(stated.get("machine", "")),
            f"{stated['threads']} thread{'s' * (stated['threads'] != 1)}" if "threads" in stated else "",
        ]
        count = f"{len(self.rows)} row{'s' * (len(self.rows) != 1)}"
        said = ", ".join(filter(None, parts)) or "states no versions and no machine"
        return f"{_plain(self.folder)} ({count}): {said}" + (f"; {self.command}" if self.command else "")

    def to_dict(self) -> dict[str, Any]:
        """The origin as JSON types, with all that the rows' files state under `provenance`."""
        full = {key: value for key, value in self.rows[0].provenance.items() if key != "head"}
        return {
            "folder": self.folder,
            "rows": [row.id for row in self.rows],
            **self.stated,
            "provenance": full,
        }


def run_origins(rows: Iterable[ResultRow]) -> list[RunOrigin]:
    """Origins of rows, in the order of the rows, each row once: one per folder, command and what is stated."""
    groups: dict[tuple[str, str, str], list[ResultRow]] = {}
    for row in {row.path: row for row in rows}.values():
        key = str(row.path.parent.parent), _command(row), repr(origin_of(row))
        groups.setdefault(key, []).append(row)
    return [
        RunOrigin(folder, command, {k: v for k, v in origin_of(of[0]).items() if v is not None}, tuple(of))
        for (folder, command, _), of in groups.items()
    ]


def origin_of(row: ResultRow) -> dict[str, Any]:
    """What a row states of `ORIGIN`; None for what it does not state."""
    given, chosen = row.provenance, row.settings
    versions = given.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    commit = given.get("commit")
    values = {
        **{name: chosen.get(name) for name in ("dtype", "attention", "batch_size")},
        "device": given.get("device") or chosen.get("device"),
        "commit": f"{str(commit)[:10]}{' (edited)' if given.get('dirty') is True else ''}"
        if commit
        else None,
        **{name: given.get(name) for name in ("vidcompress", "python", "machine", "threads")},
        **{name: versions.get(name) for name in ("torch", "transformers")},
    }
    return {name: _stated(values[name]) for name in ORIGIN}


def differences_of_origins(rows: Sequence[ResultRow]) -> list[str]:
    """Remarks on what rows with a score differ in, by value and number of rows; what is not stated does not count."""
    origins = [origin_of(row) for row in rows if row.value is not None]
    parts = []
    for name in ORIGIN:
        counts = Counter(str(origin[name]) for origin in origins if origin[name] is not None)
        if len(counts) > 1:
            parts.append(f"{name} ({', '.join(f'{value}: {count}' for value, count in counts.items())})")
    if not parts:
        return []
    return [f"rows differ in {', '.join(parts)}; compare their times with care"]


def _command(row: ResultRow) -> str:
    command = row.provenance.get("command")
    return _plain(command) if isinstance(command, str) else ""


def _stated(value: Any) -> str | int | float | None:
    """A number, or printable text; None for anything else."""
    if isinstance(value, str):
        return _plain(value) or None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _plain(text: str) -> str:
    printable = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return printable if len(printable) <= LONGEST else f"{printable[: LONGEST - 3]}..."

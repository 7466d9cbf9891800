"""Validation of parsed files, field by field, with errors that name file and field."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError, nearest, shown


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # not isfinite, which fails over whole numbers that are larger


def no_constant(name: str) -> float:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is no JSON number")


class Fields:
    """Fields of a parsed file, looked up by dotted path and checked one by one."""

    def __init__(self, path: Path, content: Any) -> None:
        self.path, self._content = path, content
        if not isinstance(content, dict):
            raise ArgumentError(f"{path}: must hold one object, got {shown(content)}")

    def wrong(self, field: str, expected: str) -> ArgumentError:
        """Error about a field."""
        return ArgumentError(f"{self.path}: {field} must be {expected}, got {shown(self._at(field))}")

    def of(self, field: str, kind: type, default: Any = None) -> Any:
        """A field of one type; the default where it is missing or null."""
        value = self._at(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.wrong(field, f"of type {kind.__name__}")
        return value

    def text(self, field: str, optional: bool = False) -> Any:
        """Printable text of up to 2,000 characters, so that it may stand in a table."""
        value = self._at(field)
        if value is None and optional:
            return None
        if not isinstance(value, str) or not value or len(value) > 2000 or not value.isprintable():
            raise self.wrong(field, "text of 1 to 2000 printable characters")
        return value

    def number(self, field: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """A finite number, or None where it is missing or null."""
        value = self._at(field)
        if value is None:
            return None
        if not is_number(value) or not low <= value <= high:
            raise self.wrong(field, f"a finite number from {low:g} to {high:g}")
        return float(value)

    def whole(self, field: str) -> int | None:
        """A whole number of at least 0, or None where it is missing or null."""
        value = self.number(field, 0)
        if value is not None and value != int(value):
            raise self.wrong(field, "a whole number")
        return None if value is None else int(value)

    def listed(self, field: str, fits: Any, default: list[Any] | None = None) -> list[Any]:
        """A list whose entries all pass `fits`."""
        value = self.of(field, list, default=default)
        if not all(fits(entry) for entry in value):
            raise self.wrong(field, "a list of the right kind of entries")
        return list(value)

    def _at(self, field: str) -> Any:
        value: Any = self._content
        head, _, rest = field.partition(".")  # the rest may hold dots itself: names of scores do
        for part in filter(None, (head, rest)):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def only(self, field: str, known: Sequence[str]) -> None:
        """Refuse unknown keys of an object."""
        for name in self._at(field) if field else self._content:
            if name not in known:
                where = f"{field}." if field else ""
                raise ArgumentError(
                    f"{self.path}: {where}{shown(name)} is no key here; {nearest(name, known)}"
                )

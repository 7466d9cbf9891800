"""Methods and adapters of other packages, found by entry point.

A package registers under one of two groups, by module or by class:

    [project.entry-points."vidcompress.methods"]
    my_method = "my_package.my_method"

Finding them imports nothing. What cannot be loaded becomes a `Broken` with its reason and harms no other.
"""

from __future__ import annotations

import contextlib
import re
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

_VALUE = re.compile(r"[\w.]+(\s*:\s*[\w.]+)?\s*(\[.*\])?")


@dataclass(frozen=True)
class Broken:
    """An entry point that could not be used.

    Attributes:
        name: of the entry point.
        value: what it points to, `module` or `module:name`.
        package: name and version of the distribution that brings it.
        reason: what went wrong, one line.
    """

    name: str
    value: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name!r} ({self.value}, from {self.package}): {self.reason}"

    def to_dict(self) -> dict[str, str]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Plugin:
    """An entry point of another package, not loaded yet.

    Attributes:
        entry: the entry point.
        package: name and version of its distribution.
    """

    entry: EntryPoint
    package: str

    @property
    def module(self) -> str:
        """The module that it imports."""
        return self.entry.value.partition(":")[0].strip()

    @property
    def root(self) -> str:
        """The top-level module of that."""
        return self.module.partition(".")[0]

    def load(self) -> Any:
        """Import what it points to; what the import prints goes to stderr.

        Raises:
            ValueError: it points to nothing that can be imported.
            BaseException: whatever the module raises.
        """
        if not _VALUE.fullmatch(self.entry.value):
            raise ValueError(f"{self.entry.value!r} is not of the form 'module' or 'module:name'")
        with contextlib.redirect_stdout(sys.stderr):
            return self.entry.load()

    def broken(self, error: BaseException) -> Broken:
        """This entry point with what went wrong."""
        return Broken(self.entry.name, self.entry.value, self.package, _reason(error))


def installed(group: str) -> list[Plugin]:
    """The entry points of a group, in the order of their packages' names, then of their own.

    Args:
        group: `vidcompress.methods` or `vidcompress.adapters`.
    """
    plugins = [Plugin(entry, _package(entry)) for entry in entry_points(group=group)]
    return sorted(plugins, key=lambda plugin: (plugin.package.lower(), plugin.entry.name))


def _package(entry: EntryPoint) -> str:
    """Name and version of the distribution that an entry point belongs to."""
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _reason(error: BaseException) -> str:
    """One line that says what went wrong."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

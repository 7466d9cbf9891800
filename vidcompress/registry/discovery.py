"""In-tree methods, adapters and video readers: every module of their packages; a new file needs no line elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import the modules of a package, in the order of their names, but those that begin with an underscore.

    Args:
        package: its dotted name.
        path: its `__path__`.
    """
    for module in sorted(info.name for info in iter_modules(path)):
        if not module.startswith("_"):
            import_module(f"{package}.{module}")

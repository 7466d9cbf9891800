"""Checks of plug-ins: methods and adapters of other packages, with those that do not load."""

from __future__ import annotations

from typing import Any

from vidcompress.adapters.base import ADAPTERS
from vidcompress.core.method import METHODS


def plugins() -> list[dict[str, Any]]:
    """Kind, name, module, package and error (None where it loads) of every third-party entry point."""
    entries = []
    for registry in (METHODS, ADAPTERS):
        registry.names()  # loads them
        for plugin in registry.plugins:
            entries.append(
                {
                    "kind": registry.what,
                    "name": plugin.name,
                    "module": plugin.value,
                    "package": plugin.package,
                    "error": plugin.reason,
                }
            )
    return entries

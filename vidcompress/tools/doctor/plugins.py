"""Checks of plug-ins: methods and adapters of other packages, and which do not load."""

from __future__ import annotations

from typing import Any

from vidcompress.adapters.base import ADAPTERS
from vidcompress.core.method import METHODS
from vidcompress.registry.entry_points import installed


def plugins() -> list[dict[str, Any]]:
    """Kind, name, module, package and error (None where it loads) of every third-party entry point."""
    entries = []
    for registry in (METHODS, ADAPTERS):
        registry.names()  # loads them
        reasons = {(entry.name, entry.package): entry.reason for entry in registry.broken}
        for plugin in installed(registry.group):
            entries.append(
                {
                    "kind": registry.what,
                    "name": plugin.entry.name,
                    "module": plugin.entry.value,
                    "package": plugin.package,
                    "error": reasons.get((plugin.entry.name, plugin.package)),
                }
            )
    return entries

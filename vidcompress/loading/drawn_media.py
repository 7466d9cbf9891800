"""Folders that `vidcompress suite make` finished: their manifest, and which media it lists."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError, one_line

MANIFEST = "manifest.json"


def is_drawn(path: Path) -> bool:
    """Whether a file is one that a finished folder of the suite lists.

    Args:
        path: an absolute path, without links.
    """
    parents = [path, *path.parents][:3]
    return any(path.relative_to(folder).as_posix() in _listed(folder) for folder in parents)


@lru_cache(maxsize=8)
def _listed(folder: Path) -> frozenset[str]:
    """Names of the files in a finished folder, and "." for itself; nothing of any other."""
    try:
        manifest = read_manifest(folder / MANIFEST)
    except ArgumentError:
        return frozenset()
    return frozenset((*manifest["files"], ".")) if "recipe" in manifest else frozenset()


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a finished folder, checked.

    Raises:
        ArgumentError: it cannot be read, or is none.
    """
    try:
        manifest = json.loads(path.read_bytes())
        if (
            isinstance(manifest, dict)
            and isinstance(manifest["files"], dict)
            and isinstance(manifest["revision"], str)
        ):
            return manifest
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise ArgumentError(f"{path} cannot be read ({one_line(error)}); delete its folder") from error
    raise ArgumentError(f"{path} is no manifest of the suite; delete its folder or name another")

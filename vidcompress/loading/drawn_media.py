"""Finished folders of `vidcompress suite make`: their manifest and its media."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError, one_line

MANIFEST = "manifest.json"


def is_drawn(path: Path) -> bool:
    """Whether a finished folder of the suite lists a file.

    Args:
        path: an absolute path, without links.
    """
    parents = [path, *path.parents][:3]
    return any(path.relative_to(folder).as_posix() in _listed(folder) for folder in parents)


@lru_cache(maxsize=8)
def _listed(folder: Path) -> frozenset[str]:
    """Return the names of the files in a finished folder, and "." for itself; empty for any other folder."""
    try:
        manifest = read_manifest(folder / MANIFEST)
    except ArgumentError:
        return frozenset()
    return frozenset((*manifest["files"], ".")) if "recipe" in manifest else frozenset()


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check the manifest of a finished folder.

    Raises:
        ArgumentError: the file cannot be read, or is not a manifest.
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

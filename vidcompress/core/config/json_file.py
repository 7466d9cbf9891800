"""Small JSON object in a file: written whole or not at all, read without trusting its contents."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from vidcompress.errors import ArgumentError, one_line, shown

MAX_FILE_BYTES = 64 * 1024
"""Largest file that is read, in bytes; a configuration takes about 1 KiB."""


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object; the file keeps its old content until the new one is complete.

    Args:
        path: of the file; its folder is made where it is missing.
        values: plain JSON types.

    Raises:
        ArgumentError: the folder cannot be made or written to.
    """
    content = json.dumps(values, indent=2, allow_nan=False).encode() + b"\n"
    scratch = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_bytes(content)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"folder={str(path.parent)!r}: {path.name} cannot be written there ({one_line(error)}); name a folder "
            "that can be written to"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: of a regular file of at most `MAX_FILE_BYTES`.

    Raises:
        ArgumentError: no such file, one that is too long, or one that is no JSON object. The message names the file.
    """
    try:
        if not path.is_file():
            raise ArgumentError(
                f"{str(path)!r}: no such file; pass a folder that save_pretrained(folder) wrote to"
            )
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ArgumentError(f"{str(path)!r}: longer than {MAX_FILE_BYTES} bytes; pass a configuration")
        values = json.loads(content.decode(), parse_constant=_no_constant, object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"{str(path)!r} is no JSON file that can be read ({one_line(error)}); check its syntax"
        ) from error
    if not isinstance(values, dict):
        raise ArgumentError(f"{str(path)!r}: must hold a JSON object, got {shown(values)}")
    return values


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return values

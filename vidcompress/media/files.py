"""What a caller may name or hand over as a file: checked before anything reads it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from .errors import MAX_BUFFERED_BYTES, MediaError

BUFFERS = (bytes, bytearray, memoryview)


def local_path(source: str | os.PathLike[Any] | bytes, argument: str) -> str:
    """Check that `source` names a readable, non-empty local file and return it as a string.

    Nothing but regular files is ever opened: a pipe or a device could block for ever. URLs are not opened either,
    whatever their scheme; `file://` is one of them.

    Raises:
        MediaError: naming `argument`, when it is a URL, missing, a directory, not a regular file, not to be opened by
            this user, or empty.
    """
    path = os.fsdecode(source)
    if not os.path.exists(path):
        _refuse_missing(path, argument)
    if os.path.isdir(path):
        hint = "; a folder of frames is passed as video" if argument == "image" else ""
        raise MediaError(f"{argument}={path!r} is a folder; pass a file inside it{hint}")
    if not os.path.isfile(path):
        raise MediaError(
            f"{argument}={path!r} is not a regular file; copy its content to a file and pass that"
        )
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise MediaError(
            f"{argument}={path!r} cannot be opened ({error.strerror}); change its permissions, or copy it"
        ) from error
    if os.path.getsize(path) == 0:
        raise MediaError(f"{argument}={path!r} is empty (0 bytes); fetch or write it again")
    return path


def _refuse_missing(path: str, argument: str) -> None:
    shown = path if len(path) <= 200 else f"{path[:200]}..."
    if "://" in path or path.startswith("data:"):
        raise MediaError(
            f"{argument}={shown[:120]!r}: URLs are not opened; download it and pass the local file"
        )
    if os.path.islink(path):
        raise MediaError(
            f"{argument}={shown!r} is a link that leads nowhere; pass the file it should lead to"
        )
    raise MediaError(f"{argument}={shown!r}: no such file; check the path (current folder: {os.getcwd()})")


@contextmanager
def borrowed(source: Any, argument: str, *, buffer: bool = False) -> Iterator[tuple[BinaryIO, str]]:
    """Read bytes or a file object from its beginning, and put the file object back to where it was.

    Args:
        source: bytes, bytearray, memoryview, or a binary file object.
        argument: what messages call it.
        buffer: take a file object that cannot seek into memory, up to `MAX_BUFFERED_BYTES`, instead of refusing it.

    Yields:
        A seekable stream at its beginning, and its name for messages.

    Raises:
        MediaError: it is empty, closed, opened as text, or cannot seek.
    """
    if isinstance(source, BUFFERS):
        name, stream, place = f"<{memoryview(source).nbytes} bytes>", io.BytesIO(source), None
    else:
        name = str(getattr(source, "name", f"<{type(source).__name__}>"))
        stream, place = _seekable(source, f"{argument}={name!r}", buffer)
    try:
        if stream.seek(0, os.SEEK_END) == 0:
            raise MediaError(f"{argument}={name!r} is empty (0 bytes); fetch or write it again")
        stream.seek(0)
        yield stream, name
    finally:
        if place is not None:
            source.seek(place)


def _seekable(source: Any, called: str, buffer: bool) -> tuple[Any, int | None]:
    """The stream to read, and the place to return it to; None for a copy in memory."""
    try:
        if isinstance(source.read(0), str):
            raise MediaError(f"{called} was opened as text; open it with mode 'rb'")
        if hasattr(source, "seekable") and source.seekable():
            return source, int(source.tell())
        if not buffer:
            raise MediaError(f"{called}: the stream cannot seek; read it into io.BytesIO first")
        content = source.read(MAX_BUFFERED_BYTES + 1)
    except MediaError:
        raise
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise MediaError(
            f"{called} cannot be read ({error}); pass an open binary file, bytes or a path"
        ) from error
    if len(content) > MAX_BUFFERED_BYTES:
        raise MediaError(f"{called}: the stream cannot seek and holds more than {MAX_BUFFERED_BYTES} bytes")
    return io.BytesIO(content), None

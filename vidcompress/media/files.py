"""Files that callers name or pass open, checked before they are read."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TypeAlias, TypeGuard

from vidcompress.checks import MAX_BUFFERED_BYTES
from vidcompress.errors import MediaError, one_line
from vidcompress.media.sniff import HEAD_BYTES

BUFFERS = (bytes, bytearray, memoryview)


class BinaryFile(Protocol):
    """A binary file object: an open file, `io.BytesIO`, a member of an archive, a web upload."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to `size` bytes."""


class ArrayLike(Protocol):
    """Value that numpy turns into an array: a numpy array, a torch tensor."""

    def __array__(self) -> object: ...


FileSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile
"""A local path, the bytes of a file, or an open binary file."""

_PIECE = 16 * 1024**2
"""Most bytes per read of a file object: some allocate the memory before they know the size."""


def local_path(source: str | os.PathLike[Any] | bytes, argument: str) -> str:
    """Check that `source` names a readable, non-empty local file and return it as a string.

    Only regular files are opened: a pipe or a device could block for ever. URLs are not opened either,
    with any scheme; `file://` is one of them.

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


def is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a source names a file. An open file that also names its path, as those of fsspec do, is read instead."""
    return isinstance(source, str) or (isinstance(source, os.PathLike) and not hasattr(source, "seek"))


class ReadOnlyFile:
    """Wrapper of a caller's file object that has only `read`, `seek` and `tell`.

    Libraries use other attributes too: PyAV writes to a file whose `mode` allows it, and Pillow reads through the file
    descriptor of a compressed file.

    Args:
        source: a binary file object.
        called: its name in messages.

    Attributes:
        failure: last error of `read`, since a library may take it for the end of the file.
    """

    def __init__(self, source: Any, called: str) -> None:
        self._source, self._called = source, called
        self.failure: MediaError | None = None

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, fewer only at the end; with `size` below 0 everything, up to `MAX_BUFFERED_BYTES`.

        Raises:
            MediaError: the source's own `read` raises, or returns no bytes.
        """
        left, pieces = MAX_BUFFERED_BYTES + 1 if size < 0 else size, []
        while left > 0 and (piece := self._piece(min(left, _PIECE))):
            pieces.append(piece)
            left -= len(piece)
        if left < 0:
            raise self._failed("has a read() that returns more bytes than it is asked for")
        if size < 0 and not left:
            raise self._failed(
                f"holds more than {MAX_BUFFERED_BYTES} bytes, and its format needs all of it at once"
            )
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position and return it.

        Raises:
            OSError, ValueError: the source refuses the position. MediaError: another error, as from compressed files.
        """
        try:
            self._source.seek(offset, whence)
        except (OSError, ValueError):
            raise
        except Exception as error:
            raise self._failed(f"cannot be read ({one_line(error)})") from error
        return self.tell()

    def tell(self) -> int:
        """Return the position, in bytes from the beginning."""
        return int(self._source.tell())

    def check(self) -> None:
        """Check that the file can be read.

        Raises:
            MediaError: it is closed, or opened as text or for writing.
        """
        self._piece(0)

    def _piece(self, size: int) -> bytes:
        try:
            piece = self._source.read(size)
        except Exception as error:  # of any library with file objects
            raise self._failed(f"cannot be read ({one_line(error)})") from error
        if isinstance(piece, BUFFERS):
            return bytes(piece)
        if isinstance(piece, str):
            self.failure = MediaError(f"{self._called} was opened as text; open it with mode 'rb'")
            raise self.failure
        if inspect.iscoroutine(piece):
            piece.close()
        raise self._failed(f"has a read() that returns {type(piece).__name__} in place of bytes")

    def _failed(self, reason: str) -> MediaError:
        self.failure = MediaError(f"{self._called} {reason}; pass an open binary file, bytes or a path")
        return self.failure


@contextmanager
def borrowed(source: Any, argument: str, *, buffer: bool = False) -> Iterator[tuple[BinaryIO, str]]:
    """Open bytes or a file object at its beginning, and restore the file object's position afterwards.

    A file object is only read: it is not written, not closed, and its name is not opened.

    Args:
        source: bytes, bytearray, memoryview, or a binary file object.
        argument: its name in messages.
        buffer: copy a file object that cannot seek into memory, up to `MAX_BUFFERED_BYTES`, instead of refusing it.

    Yields:
        A stream with `read`, `seek` and `tell` at its beginning, and its name for messages.

    Raises:
        MediaError: it is empty, closed, opened as text, or cannot seek; or reading it failed within the block, even if
            a library hid that error.
    """
    if isinstance(source, BUFFERS):
        name = f"<{memoryview(source).nbytes} bytes>"
        stream: Any = io.BytesIO(memoryview(source).tobytes() if isinstance(source, memoryview) else source)
        _check_not_empty(stream, f"{argument}={name!r}")
        yield stream, name
        return
    name = _name(source)
    called = f"{argument}={name!r}"
    reader = ReadOnlyFile(source, called)
    reader.check()
    place, stream = _at_beginning(source, reader, called, buffer)
    try:
        _check_not_empty(stream, called)
        yield stream, name
    except Exception as error:
        if reader.failure is not None and reader.failure is not error:
            raise reader.failure from error
        raise
    finally:
        if place is not None:
            with suppress(
                OSError, ValueError
            ):  # a file that failed or was closed meanwhile keeps its position
                reader.seek(place)
    if reader.failure is not None:
        raise reader.failure


def _name(source: Any) -> str:
    """Return the name of a file object for messages; the attribute may be a number, missing, or anything."""
    try:
        name = source.name
    except Exception:  # noqa: BLE001  (a property of another library)
        name = None
    if not isinstance(name, (str, bytes)) or not name:
        return f"<{type(source).__name__}>"
    return os.fsdecode(name)[-200:]


def _at_beginning(source: Any, reader: ReadOnlyFile, called: str, buffer: bool) -> tuple[int | None, Any]:
    """Return a file object's position and a stream at its beginning; None and a copy of one that cannot seek."""
    try:
        can_seek = source.seekable() if hasattr(source, "seekable") else hasattr(source, "seek")
        if can_seek:
            place = reader.tell()
            reader.seek(0)
            return place, reader
    except Exception as error:
        raise MediaError(
            f"{called} cannot be read ({one_line(error)}); pass an open binary file, bytes or a path"
        ) from error
    if not buffer:
        raise MediaError(f"{called}: the stream cannot seek; read it into io.BytesIO first")
    content = reader.read(MAX_BUFFERED_BYTES + 1)
    if len(content) > MAX_BUFFERED_BYTES:
        raise MediaError(f"{called}: the stream cannot seek and holds more than {MAX_BUFFERED_BYTES} bytes")
    return None, io.BytesIO(content)


def _check_not_empty(stream: Any, called: str) -> None:
    if not stream.read(1):
        raise MediaError(f"{called} is empty (0 bytes); fetch or write it again")
    stream.seek(0)


def is_encoded(source: Any) -> bool:
    """Whether a source needs decoding: a path that is no folder, bytes or a file object."""
    if is_path(source):
        return not os.path.isdir(source)
    return isinstance(source, BUFFERS) or hasattr(source, "read")


def can_go_back(stream: Any) -> bool:
    """Whether a binary file object can be read again from its beginning; one that does not say can."""
    return bool(getattr(stream, "seekable", lambda: True)())


@dataclass(frozen=True)
class Clip:
    """Encoded clip: a local file or an open stream.

    Attributes:
        name: its name in messages.
        path: absolute path of the file, or None for a stream.
        stream: binary file object, seekable unless it is read once from front to back; None for a file.
    """

    name: str
    path: str | None = None
    stream: BinaryIO | None = None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Context with the clip as an open binary file at its beginning."""
        if self.stream is not None:
            self.stream.seek(0)
            yield self.stream
        else:
            with open(str(self.path), "rb") as stream:
                yield stream

    def head(self) -> bytes:
        """Return its first bytes; none of a stream that cannot go back."""
        if self.stream is not None and not can_go_back(self.stream):
            return b""
        with self.opened() as stream:
            return stream.read(HEAD_BYTES)

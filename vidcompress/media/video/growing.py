"""Sources that grow: a file that is being written, or a named pipe, whose frames are taken as they come."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from vidcompress.checks import positive
from vidcompress.errors import MediaError, SamplingError, one_line
from vidcompress.media.files import Clip
from vidcompress.media.orientation import display_matrix
from vidcompress.media.video.container import open_clip
from vidcompress.media.video.frame_decoder import Decoder, picture_of
from vidcompress.media.video.sampling import Request

NAP = 0.02
"""Seconds between two looks at a source that has nothing new."""
HEAD = 16
"""Bytes without which a source is not opened."""


class LiveFrame(NamedTuple):
    """Frame of a source that grows.

    Attributes:
        picture: uint8 (height, width, channel), upright.
        time: seconds since the first frame, not decreasing.
    """

    picture: np.ndarray[Any, np.dtype[np.uint8]]
    time: float


class GrowingSource:
    """Byte stream of a file that is being written, or of a named pipe; reading waits for more.

    Args:
        path: of the file or pipe.
        stop: set from another thread, it ends the stream.
        idle: seconds without new bytes after which the stream has ended; None for never.

    Raises:
        MediaError: no such file or pipe.
    """

    def __init__(self, path: str, stop: Event, idle: float | None = None) -> None:
        if idle is not None:
            positive("idle", idle, "seconds", error=SamplingError)
        self._file = _opened(path)
        self._stop, self._idle, self._head = stop, idle, b""

    def head(self) -> bytes:
        """Wait for the first bytes and return them; fewer than `HEAD` where the stream ends before."""
        while len(self._head) < HEAD and (more := self._more(HEAD - len(self._head))):
            self._head += more
        return self._head

    def read(self, size: int = -1) -> bytes:
        """Return 1 to `size` bytes, or none at the end."""
        size = 1 << 16 if size < 0 else size
        if self._head:
            first, self._head = self._head[:size], self._head[size:]
            return first
        return self._more(size)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """False: what was read is gone."""
        return False

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _more(self, size: int) -> bytes:
        begun = time.monotonic()
        while not self._stop.is_set():
            try:
                data = os.read(self._file, size)
            except BlockingIOError:
                data = b""
            if data:
                return data
            if self._idle is not None and time.monotonic() - begun > self._idle:
                break
            time.sleep(NAP)
        return b""


def check_source(path: str) -> None:
    """Refuse a source that cannot be opened, before anything else is done.

    Raises:
        MediaError: no such file or pipe.
    """
    os.close(_opened(path))


def _opened(path: str) -> int:
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise MediaError(
            f"source={path!r} cannot be opened ({one_line(error)}); pass a file that is being written, or a named pipe"
        ) from error


def live_frames(path: str, fps: float | None, stop: Event, idle: float | None = None) -> Iterator[LiveFrame]:
    """Yield the frames of a source that grows, as they can be decoded.

    Args:
        path: of the file or named pipe, in a container that can be read from front to back (MPEG-TS, Matroska, FLV,
            NUT, YUV4MPEG; not MP4, whose index comes last).
        fps: most frames per second of the source's clock; None for every frame.
        stop: set from another thread, it ends the stream.
        idle: seconds without new bytes after which the source has ended; None for never.

    Raises:
        MediaError: no video that can be read from front to back, or frames over the limits.
    """
    if fps is not None:
        positive("fps", fps, "frames per second", error=SamplingError)
    request = Request(None, fps, 1)
    source = GrowingSource(path, stop, idle)
    try:
        if len(source.head()) < HEAD:
            return
        with open_clip(Clip(name=path, stream=source), request) as (container, stream):  # type: ignore[arg-type]
            decoder, size, first, last, due = Decoder(stream), None, None, 0.0, 0.0
            for packet in container.demux(stream):
                for frame in decoder.decode(packet):
                    now = last if frame.time is None else float(frame.time)
                    first = now if first is None else first
                    last = max(last, now - first)
                    if stop.is_set():
                        return
                    if fps is not None and last < due:
                        continue
                    due = last + 1.0 / fps - 1e-6 if fps is not None else 0.0
                    picture, _ = picture_of(frame, display_matrix(frame), path, size)
                    request.check_picture(path, *picture.shape[:2])
                    size = (int(picture.shape[0]), int(picture.shape[1]))
                    yield LiveFrame(np.ascontiguousarray(picture), last)
    finally:
        source.close()

"""The video readers, by name. A reader is one class with one decorator; a caller picks one by `backend=`.

A backend that cannot serve a clip says so and names one that can: nothing falls back silently, because two readers
may differ by a grey level or a frame, and whoever compares results has to know which one was used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from ..checks import whole_number, word
from ..errors import shown
from .errors import MAX_DECODED_BYTES, MAX_FRAME_PIXELS, MAX_SOURCE_FRAMES, MediaError
from .image import local_path

if TYPE_CHECKING:
    from .video import VideoFrames


@dataclass(frozen=True)
class Clip:
    """An encoded clip: a local file or an open stream.

    Attributes:
        name: what messages call it.
        path: absolute path of the file, or None for a stream.
        stream: seekable binary file object, or None for a file.
    """

    name: str
    path: str | None = None
    stream: BinaryIO | None = None


@dataclass(frozen=True)
class Request:
    """What to take from a clip, and how much it may cost.

    Attributes:
        num_frames: frames wanted, or None.
        fps: frames per second of clip time, or None.
        max_frames: most frames to return.
        max_pixels: largest height x width of a frame.
        max_source_frames: longest clip that is indexed, in frames.
        max_bytes: most memory of the frames that are kept, as uint8 RGB.
    """

    num_frames: int | None
    fps: float | None
    max_frames: int
    max_pixels: int = MAX_FRAME_PIXELS
    max_source_frames: int = MAX_SOURCE_FRAMES
    max_bytes: int = MAX_DECODED_BYTES

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_source_frames", "max_bytes"):
            whole_number(name, getattr(self, name), error=MediaError)

    def check_picture(self, name: str, height: int, width: int) -> None:
        """Raise MediaError when a frame of this size is over `max_pixels`."""
        if height * width > self.max_pixels:
            raise MediaError(
                f"video={name!r}: frames of {height} x {width} are over max_pixels={self.max_pixels}; "
                "scale the clip down first, or raise max_pixels if you trust it"
            )

    def check_length(self, name: str, frames: int) -> None:
        """Raise MediaError when a clip of so many frames is over `max_source_frames`."""
        if frames > self.max_source_frames:
            raise MediaError(
                f"video={name!r}: more than max_source_frames={self.max_source_frames} frames; "
                "cut the clip, or raise max_source_frames if you trust it"
            )

    def check_memory(self, name: str, frames: int, height: int, width: int) -> None:
        """Raise MediaError when keeping so many frames would take more than `max_bytes`."""
        size = frames * height * width * 3
        if size > self.max_bytes:
            raise MediaError(
                f"video={name!r}: {frames} frames of {height} x {width} take {size / 2**30:.2f} GiB, over "
                f"max_bytes={self.max_bytes}; ask for fewer frames, or raise max_bytes"
            )


class Backend(Protocol):
    """Reads the requested frames of one clip."""

    def read(self, clip: Clip, request: Request) -> VideoFrames:
        """Return the frames, or raise MediaError naming what is wrong and which backend would serve."""
        ...


_BACKENDS: dict[str, Callable[[], Backend]] = {}


def register_backend(name: str) -> Callable[[type[Backend]], type[Backend]]:
    """Class decorator that makes a reader available as `backend=name`.

    Raises:
        MediaError: `name` is no text, is "auto" or already taken, or what is decorated has no method `read`.
    """

    word("name", name, "torchcodec", error=MediaError)

    def register(cls: type[Backend]) -> type[Backend]:
        if not isinstance(cls, type) or not hasattr(cls, "read"):
            raise MediaError(
                f"register_backend takes a class with a method read(clip, request), got {shown(cls)}"
            )
        if name == "auto" or name in _BACKENDS:
            raise MediaError(
                f"backend name {name!r} is taken; choose another than {['auto', *sorted(_BACKENDS)]}"
            )
        _BACKENDS[name] = cls
        return cls

    return register


def backend_names() -> list[str]:
    """Names that `backend=` accepts, "auto" first."""
    _load_builtin()
    return ["auto", *sorted(_BACKENDS)]


def get_backend(name: str) -> Backend:
    """The reader of that name; "auto" is PyAV.

    Raises:
        MediaError: no reader has that name.
    """
    _load_builtin()
    if not isinstance(name, str) or name not in backend_names():
        raise MediaError(f"backend={shown(name)}: not known; use one of {backend_names()}")
    chosen = "pyav" if name == "auto" else name
    return _BACKENDS[chosen]()


def open_source(source: str | os.PathLike[str] | bytes | BinaryIO) -> Clip:
    """Check an encoded source and give it a name.

    Raises:
        MediaError: a URL, a missing or empty file, a folder, or a stream that cannot seek.
    """
    if isinstance(source, (str, os.PathLike)):
        path = local_path(source, "video")
        return Clip(name=path, path=os.path.abspath(path))
    if isinstance(source, bytes):
        import io

        source = io.BytesIO(source)
    name = str(getattr(source, "name", f"<{type(source).__name__}>"))
    if not hasattr(source, "read") or not (hasattr(source, "seekable") and source.seekable()):
        raise MediaError(f"video={name!r}: the stream cannot seek; read it into io.BytesIO first")
    if source.seek(0, os.SEEK_END) == 0:
        raise MediaError(f"video={name!r} is empty (0 bytes); fetch or write it again")
    source.seek(0)
    return Clip(name=name, stream=source)


def _load_builtin() -> None:
    from . import decord_backend, pyav_backend  # noqa: F401  (importing them registers them)

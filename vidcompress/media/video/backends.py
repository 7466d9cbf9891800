"""Video readers by name. A reader is one class with one decorator; a caller picks one by `backend=`.

A backend that cannot serve a clip raises and names one that can: nothing falls back silently, because two readers
may differ by a grey level or a frame, and a comparison of results must state which one was used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeAlias

from vidcompress.checks import word
from vidcompress.errors import MediaError, SamplingError, VidcompressError, one_line, shown
from vidcompress.media.files import Clip, borrowed, is_path, local_path
from vidcompress.media.sniff import STILL, is_animated_container, is_still
from vidcompress.media.video.frames import Reread, VideoFrames
from vidcompress.media.video.sampling import Request

BackendName: TypeAlias = Literal["auto", "pyav", "decord", "torchcodec", "pillow"] | str
"""Name of a reader: one of the package's own, or another that `register_backend` made available."""


class Backend(Protocol):
    """Reader of the requested frames of one clip.

    A reader that can return frames before the last is decoded also has a method `parts(clip, request)`, a generator of
    partial clips (see `parts`); streaming clips come from it.
    """

    def read(self, clip: Clip, request: Request) -> VideoFrames:
        """Return the frames, or raise MediaError with the reason and a backend that serves the clip."""
        ...


_BACKENDS: dict[str, Callable[[], Backend]] = {}


def register_backend(name: str) -> Callable[[type[Backend]], type[Backend]]:
    """Class decorator that makes a reader available as `backend=name`.

    Raises:
        MediaError: `name` is no text, is "auto" or already taken, or the class has no method `read`.
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
    """Return the reader of that name; "auto" is PyAV here (in `read_video` Pillow for WebP, AVIF and TIFF).

    Raises:
        SamplingError: no reader has that name.
    """
    _load_builtin()
    if not isinstance(name, str) or name not in backend_names():
        raise SamplingError(f"backend={shown(name)}: not known; use one of {backend_names()}")
    chosen = "pyav" if name == "auto" else name
    return _BACKENDS[chosen]()


def reader_of(clip: Clip, backend: str) -> Backend:
    """Return the reader of that name; "auto" is Pillow for WebP, AVIF and TIFF, else PyAV.

    Raises:
        MediaError: the clip is a still picture that a reader would take for a clip of one frame.
    """
    with clip.opened() as stream:
        if is_still(stream):
            raise MediaError(f"video={clip.name!r} {STILL}")
    return get_backend("pillow" if backend == "auto" and is_animated_container(clip.head()) else backend)


@contextmanager
def open_source(source: Any) -> Iterator[Clip]:
    """Check an encoded source and give it a name; a file object's position is restored afterwards.

    Any error of a reader or its library in the block becomes a MediaError, so that a clip that cannot be read costs
    one question its answer, not the run.

    Args:
        source: a path, bytes, bytearray, memoryview, or a seekable binary file object.

    Raises:
        MediaError: a URL, a missing or empty file, a folder, a stream that cannot seek or was opened as text; or an
            error of the reader.
    """
    if is_path(source):
        path = local_path(source, "video")
        with _named_errors(path):
            yield Clip(name=path, path=os.path.abspath(path))
        return
    with borrowed(source, "video") as (stream, name), _named_errors(name, stream=True):
        yield Clip(name=name, stream=stream)


@contextmanager
def _named_errors(name: str, *, stream: bool = False) -> Iterator[None]:
    """Turn every error of a reader into a MediaError that names the clip."""
    try:
        yield
    except (VidcompressError, Reread):
        raise
    except MemoryError as error:
        raise MediaError(
            f"video={name!r} asks for more memory than there is; it is damaged or too large, fetch it again"
        ) from error
    except OSError as error:
        remedy = "read it into io.BytesIO first" if stream else "check the disk, or fetch it again"
        raise MediaError(f"video={name!r} cannot be read ({one_line(error)}); {remedy}") from error
    except Exception as error:
        kind, reason = type(error).__name__, one_line(error)
        reason = reason if reason.startswith(kind) else f"{kind}: {reason}"
        raise MediaError(
            f"video={name!r}: its reader failed ({reason}); convert it to H.264 in MP4, or try another backend"
        ) from error


def _load_builtin() -> None:
    from vidcompress.media.video import readers  # noqa: F401  (importing them registers them)

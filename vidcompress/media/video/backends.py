"""The video readers, by name. A reader is one class with one decorator; a caller picks one by `backend=`.

A backend that cannot serve a clip says so and names one that can: nothing falls back silently, because two readers
may differ by a grey level or a frame, and a comparison of results has to state which one was used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from vidcompress.checks import (
    MAX_DECODED_BYTES,
    MAX_FRAME_PIXELS,
    MAX_SIDE,
    MAX_SOURCE_FRAMES,
    whole_number,
    word,
)
from vidcompress.errors import MediaError, SamplingError, VidcompressError, one_line, shown
from vidcompress.media.files import borrowed, is_path, local_path
from vidcompress.media.sniff import HEAD_BYTES
from vidcompress.media.video.partial_clip import Reread

if TYPE_CHECKING:
    from vidcompress.media.video.read import VideoFrames


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

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The clip as an open binary file at its beginning."""
        if self.stream is not None:
            self.stream.seek(0)
            yield self.stream
        else:
            with open(str(self.path), "rb") as stream:
                yield stream

    def head(self) -> bytes:
        """Its first bytes."""
        with self.opened() as stream:
            return stream.read(HEAD_BYTES)


@dataclass(frozen=True)
class Request:
    """Request of frames from a clip, with limits on pixels, frames and memory.

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
        if max(height, width) > MAX_SIDE:
            raise MediaError(
                f"video={name!r}: frames of {height} x {width} have a side of over {MAX_SIDE} pixels; scale it down"
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
    """Reads the requested frames of one clip.

    One that can hand them over before the last is decoded has a method `parts(clip, request)` too, a generator of what
    there is so far (see `parts`); a clip that is encoded while it is read comes from that.
    """

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
    """The reader of that name; "auto" is PyAV here (`read_video` lets it be Pillow for WebP, AVIF and TIFF).

    Raises:
        SamplingError: no reader has that name.
    """
    _load_builtin()
    if not isinstance(name, str) or name not in backend_names():
        raise SamplingError(f"backend={shown(name)}: not known; use one of {backend_names()}")
    chosen = "pyav" if name == "auto" else name
    return _BACKENDS[chosen]()


@contextmanager
def open_source(source: Any) -> Iterator[Clip]:
    """Check an encoded source and give it a name; a file object is put back to where it was afterwards.

    Whatever a reader raises in the block, of whatever library, leaves it as a MediaError: one clip that cannot be read
    is one question without an answer.

    Args:
        source: a path, bytes, bytearray, memoryview, or a seekable binary file object.

    Raises:
        MediaError: a URL, a missing or empty file, a folder, a stream that cannot seek or was opened as text; or what
            the reader raised.
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
    from vidcompress.media.video.readers import (  # noqa: F401  (importing them registers them)
        decord_reader,
        pillow_reader,
        pyav_reader,
        torchcodec_reader,
    )

"""Frame decoder: from PyAV packets to frames, and from a frame to upright RGB."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vidcompress.errors import MediaError, one_line
from vidcompress.media.images.rgb import to_rgb
from vidcompress.media.orientation import Matrix, upright

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Codecs whose transparency FFmpeg's own decoder leaves out, and the decoder that reads it."""

_LIMITED_RANGE, _FULL_RANGE = 1, 2

Array = np.ndarray[Any, np.dtype[np.uint8]]


class Decoder:
    """Decoder of the packets of one stream, transparency included.

    Args:
        stream: PyAV's, of an open container.
    """

    def __init__(self, stream: Any) -> None:
        import av

        own = stream.codec_context
        name = _WITH_ALPHA.get(own.codec.canonical_name, "")
        self._other: Any = None
        tags = {key.lower(): value for key, value in stream.metadata.items()}  # FFmpeg's keys ignore case
        if tags.get("alpha_mode") == "1" and name in av.codecs_available:
            self._other = av.CodecContext.create(name, "r")
            self._other.extradata, self._other.options = own.extradata, own.options

    def decode(self, packet: Any) -> list[Any]:
        """Return the frames that a packet completes; for the empty packet at the end, the remaining ones."""
        if self._other is None:
            return list(packet.decode())
        ended = packet.size == 0 and packet.dts is None
        return list(self._other.decode(None if ended else packet)) if ended or packet.size else []

    def flush(self) -> None:
        """Discard decoded frames after a seek. (PyAV flushes the stream's own decoder.)"""
        if self._other is not None:
            self._other.flush_buffers()


@dataclass(frozen=True)
class Look:
    """Format of a frame before conversion to RGB; readers differ in how they convert some formats.

    Attributes:
        pixels: FFmpeg's name of the pixel format, for example "yuv420p10le".
        height: of the coded frame, in pixels.
        width: of the coded frame, in pixels.
        interlaced: whether it is two fields.
        full_range: whether its black is 0 and its white the highest number.
        limited_range: whether the stream states that black is above 0 and white below the highest number.
    """

    pixels: str
    height: int
    width: int
    interlaced: bool
    full_range: bool
    limited_range: bool = False

    @classmethod
    def of(cls, frame: Any) -> Look:
        """Return the look of a PyAV frame."""
        full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
        fields, limited = bool(frame.interlaced_frame), frame.color_range == _LIMITED_RANGE
        return cls(frame.format.name, frame.height, frame.width, fields, bool(full), bool(limited))

    @property
    def alpha(self) -> bool:
        """Whether pixels of this format may be transparent."""
        return has_alpha(self.pixels)


@lru_cache(maxsize=256)
def has_alpha(pixels: str) -> bool:
    """Whether a pixel format holds transparency, in a channel or in its palette."""
    from av.video.format import VideoFormat

    format_ = VideoFormat(pixels)
    return bool(format_.has_palette or any(component.is_alpha for component in format_.components))


def picture_of(
    frame: Any, matrix: Matrix, name: str, size: tuple[int, int] | None = None
) -> tuple[Array, bool]:
    """Convert a decoded frame to upright 8-bit RGB, transparency over white.

    Args:
        frame: PyAV's.
        matrix: display matrix.
        name: of the clip, for messages.
        size: (height, width) to scale it to, in pixels; None keeps its own.

    Returns:
        uint8 (height, width, channel), and whether it was scaled.

    Raises:
        MediaError: its pixel format or its colours cannot be converted.
    """
    import av

    turned = matrix[0] == 0
    stored = (frame.height, frame.width)
    target = stored if size is None else size[::-1] if turned else size
    shape = {"height": target[0], "width": target[1]}
    try:
        if has_alpha(frame.format.name) and not _opaque_palette(frame):
            from PIL import Image

            picture = np.asarray(to_rgb(Image.fromarray(frame.to_ndarray(format="rgba", **shape))))
        else:
            picture = frame.to_ndarray(format="rgb24", **shape)
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(
            f"video={name!r}: its frames (pixel format {frame.format.name}, colour space {int(frame.colorspace)}) "
            f"cannot be converted to RGB ({one_line(error)}); convert it to H.264 in MP4"
        ) from error
    return upright(picture, matrix), target != stored


def _opaque_palette(frame: Any) -> bool:
    """Whether all colours of a palette are stored as transparent: such files leave the fourth byte unused."""
    return bool(frame.format.has_palette) and not any(bytes(frame.planes[1])[3::4])

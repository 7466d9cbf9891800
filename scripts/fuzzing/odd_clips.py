"""Odd but valid clips: palettes, joined parts, turned pictures, transparency."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SIDE = 64
RATE = 25
"""Frames a second of the joined clips."""

KINDS = {
    "ts": ("mpegts", "libx264"),
    "m2ts": ("mpegts", "mpeg2video"),
    "mpg": ("mpeg", "mpeg2video"),
    "vob": ("vob", "mpeg2video"),
    "mkv": ("matroska", "libx264"),
    "webm": ("webm", "libvpx-vp9"),
}
"""Ending -> FFmpeg's container, codec."""


def colours(alpha: int = 255) -> Any:
    """uint8 (colour, 4) in FFmpeg's order: blue, green, red, alpha."""
    made = np.full((256, 4), alpha, np.uint8)
    made[:, 0], made[:, 1], made[:, 2] = np.arange(256), 255 - np.arange(256), 128
    return made


def write_paletted(
    path: Path, codec: str, palette: Any, count: int, later: dict[int, Any] | None = None
) -> Path:
    """Frames of one colour each, with a square of another; a key frame every tenth.

    Args:
        path: of the clip.
        codec: that keeps palettes.
        palette: uint8 (colour, 4), as of `colours`.
        count: of the frames.
        later: palettes that follow, by the number of their first frame.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=8, options={"g": "10"})
        stream.height = stream.width = SIDE
        stream.pix_fmt = "pal8"
        for number in range(count):
            palette = (later or {}).get(number, palette)
            frame = av.VideoFrame(SIDE, SIDE, "pal8")
            plane = np.zeros((SIDE, frame.planes[0].line_size), np.uint8)
            plane[:, :SIDE] = number * 6
            plane[8:16, 8:16] = 250
            frame.planes[0].update(plane.tobytes())
            frame.planes[1].update(palette.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def part(path: Path, kind: str, count: int, *, first: int = 0, start: float = 0.0) -> bytes:
    """A clip whose frames are grey in the shade 20 + 2 * (first + number); its clock starts at `start` seconds."""
    container_name, codec = KINDS[kind]
    with av.open(str(path), "w", format=container_name) as container:
        stream: Any = container.add_stream(codec, rate=RATE, options={"g": "10"})
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"

        def mux(packets: list[Any]) -> None:
            for packet in packets:
                ticks = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                container.mux(packet)

        for number in range(count):
            picture = np.full((64, 64, 3), 20 + 2 * (first + number), np.uint8)
            mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        mux(stream.encode())
    return path.read_bytes()


def joined(folder: Path, kind: str, counts: list[int], starts: list[float] | None = None) -> Path:
    """Parts of so many frames, `cat` together."""
    path, content = folder / f"joined.{kind}", b""
    for number, count in enumerate(counts):
        start = starts[number] if starts else 0.0
        content += part(folder / f"part.{kind}", kind, count, first=sum(counts[:number]), start=start)
    path.write_bytes(content)
    return path


def photo(number: int, orientation: int, kind: str = "JPEG", size: tuple[int, int] = (64, 48)) -> bytes:
    """A picture with corners of different colours, whose EXIF block states an orientation."""
    pixels = np.full((size[1], size[0], 3), 30 * number, np.uint8)
    pixels[:16, :16], pixels[-16:, :16], pixels[:16, -16:] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    more = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(out, kind, exif=exif, **more)
    return out.getvalue()


def write_pictures(
    path: Path, pictures: list[bytes], codec: str = "mjpeg", pix_fmt: str = "yuvj444p"
) -> Path:
    """Pictures as the packets of a clip, as cameras and screen recorders write them."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pix_fmt
        stream.codec_context.time_base = Fraction(1, 5)
        container.start_encoding()
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 5)
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
    return path


def animated(orientation: int, count: int = 5, kind: str = "PNG") -> bytes:
    """An animated PNG or WebP whose EXIF block states an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    frames = [Image.open(io.BytesIO(photo(number, 1, "PNG"))).convert("RGB") for number in range(count)]
    more = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], duration=200, exif=exif, **more)
    return out.getvalue()


def write_transparent(path: Path, codec: str, pix_fmt: str, options: dict[str, str], count: int) -> Path:
    """Frames of `transparent` in any codec that keeps an alpha channel."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pix_fmt
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(transparent(number), format="rgba")))
        container.mux(stream.encode())
    return path


def transparent(number: int) -> Any:
    """uint8 (height, width, 4): red, opaque above, half transparent and then wholly transparent below."""
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[..., :3] = (200, 10 * number, 20)
    pixels[..., 3] = 255
    pixels[16:32, :, 3], pixels[32:, :, 3] = 128, 0
    return pixels

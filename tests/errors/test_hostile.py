"""The table of hostile files: what each is, who reads it, and what is said; in bounded time and memory."""

from __future__ import annotations

import io
import struct
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from errors.rows import NEXT
from fuzzing.material import make_material
from fuzzing.mutations import chunks
from vidcompress.media import MediaError, load_image, read_video

SECONDS = 5.0
MEGABYTES = 700


@dataclass(frozen=True)
class Hostile:
    """A file that is not what it seems: name, reader, content (or how it is made of a valid one), message."""

    name: str
    read: Callable[..., Any]
    make: Callable[[bytes], bytes]
    message: str

    def __str__(self) -> str:
        return f"{self.read.__name__} {self.name}"


def _png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of 1-bit grey whose header promises what it likes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        )

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _table(kind: bytes, at: int, value: int) -> Callable[[bytes], bytes]:
    """Write a number into the MP4 box of a kind, `at` bytes after its type."""

    def change(clip: bytes) -> bytes:
        broken = bytearray(clip)
        for start, _ in chunks(clip):
            if clip[start + 4 : start + 8] == kind:
                struct.pack_into(">I", broken, start + 8 + at, value)
        return bytes(broken)

    return change


def _million(clip: bytes) -> bytes:
    """A header that promises a million frames of one byte each."""
    for kind, at, value in ((b"stsz", 4, 1), (b"stsz", 8, 10**6), (b"stsc", 12, 10**6), (b"stts", 8, 10**6)):
        clip = _table(kind, at, value)(clip)
    return clip


def _sound(clip: bytes) -> bytes:
    import wave

    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    return out.getvalue()


ROWS = [
    Hostile("empty.mp4", read_video, lambda clip: b"", "is empty (0 bytes); fetch or write it again"),
    Hostile("words.mp4", read_video, lambda clip: b"just words " * 99, "is not a video in a known format"),
    Hostile("zeroes.mp4", read_video, lambda clip: bytes(5000), "is not a video in a known format"),
    Hostile(
        "picture.mp4",
        read_video,
        lambda clip: _png(8, 8, bytes(16)),
        "is a still picture, not a video",
    ),
    Hostile("sound.mp4", read_video, _sound, "is not a video in a known format"),
    Hostile(
        "list.mp4",
        read_video,
        lambda clip: b"#EXTM3U\n#EXTINF:1,\nfile:/etc/passwd\n",
        "is a play list",
    ),
    Hostile("half.mp4", read_video, lambda clip: clip[: len(clip) // 2], "cut short"),
    Hostile("head.mp4", read_video, lambda clip: clip[:40], "video="),
    Hostile("million.mp4", read_video, _million, "fetch it again"),
    Hostile("wide.mp4", read_video, _table(b"tkhd", 76, 0xFFFF0000), ""),
    Hostile("empty.png", load_image, lambda clip: b"", "is empty (0 bytes); fetch or write it again"),
    Hostile("words.png", load_image, lambda clip: b"just words " * 99, "is not a picture in a known format"),
    Hostile("clip.png", load_image, lambda clip: clip, "is a video, not a picture; pass it as video="),
    Hostile("half.png", load_image, lambda clip: _png(64, 64, bytes(576))[:-30], "fetch it again"),
    Hostile("vast.png", load_image, lambda clip: _png(20_000, 20_000, bytes(100)), "pixels"),
    Hostile("bomb.png", load_image, lambda clip: _png(60_000, 60_000, bytes(60_000 * 751)), "pixels"),
    Hostile("nothing.png", load_image, lambda clip: _png(0, 8, bytes(16)), "image="),
    Hostile("short.png", load_image, lambda clip: _png(8000, 8000, bytes(100)), "fetch it again"),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    material = make_material(tmp_path_factory.mktemp("hostile"))
    return next(path for path in material["video"] if path.name == "front.mp4").read_bytes()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_hostile_file_is_refused_or_read(row: Hostile, clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / row.name
    path.write_bytes(row.make(clip))
    before, start = _resident(), time.perf_counter()
    if row.message:
        with pytest.raises(MediaError, match=row.name) as caught:
            row.read(path)
        said = str(caught.value)
        assert row.message in said
        assert NEXT.search(said), said
        assert "\n" not in said
    else:
        row.read(path)  # what the header says of the display does not matter
    assert time.perf_counter() - start < SECONDS
    assert _resident() - before < MEGABYTES


@pytest.mark.parametrize("read", [read_video, load_image], ids=["read_video", "load_image"])
@pytest.mark.parametrize(
    "name, message",
    [
        ("missing.mp4", "no such file; check the path"),
        ("https://example.org/a.mp4", "URLs are not opened; download it"),
        ("data:image/png;base64,AAAA", "URLs are not opened; download it"),
        ("/dev/null", "is not a regular file; copy its content"),
    ],
)
def test_what_is_no_file_is_refused(read: Callable[..., Any], name: str, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        read(name)


def test_what_is_fine_is_read(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fine.mp4"
    path.write_bytes(clip)
    assert len(read_video(path, num_frames=3)) == 3
    Image.new("CMYK", (4, 4)).save(tmp_path / "fine.jpg")
    assert load_image(tmp_path / "fine.jpg").mode == "RGB"


def _resident() -> float:
    """The most memory this process ever held, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

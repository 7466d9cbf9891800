"""What the levels of grey pictures mean: which is white, how many bits they have, which is transparent."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidcompress.errors import MediaError
from vidcompress.media.images.image import load_image
from vidcompress.media.video.read import read_video

DEEP = np.array([[0, 129, 257, 20000, 32768, 65535]], dtype=np.uint16)
SHARES = DEEP[0] / 65535
"""What `DEEP` means where 65535 is white."""


def tiff(
    *pages: bytes,
    bits: tuple[int, ...] = (16,),
    white: int | tuple[int, ...] = 0,
    order: str = "<",
    big: bool = False,
    **tags: int,
) -> bytes:
    """Pages of 1 x 6 pixels; `white` is the PhotometricInterpretation: 0 where level 0 is white, else 1."""
    head, size, inline = (8, 20, 8) if big else (2, 12, 4)
    word = "Q" if big else "I"
    whites = (white,) * len(pages) if isinstance(white, int) else white
    start = 16 if big else 8
    made = (b"II" if order == "<" else b"MM") + (
        struct.pack(f"{order}HHHQ", 43, 8, 0, start) if big else struct.pack(f"{order}HI", 42, start)
    )
    for number, data in enumerate(pages):
        entries: list[tuple[int, int, tuple[int, ...]]] = [
            (256, 3, (6,)), (257, 3, (1,)), (258, 3, bits), (259, 3, (tags.get("compression", 1),)),
            (262, 3, (whites[number],)), (273, 4, (0,)), (277, 3, (len(bits),)), (278, 3, (1,)), (279, 4, (len(data),)),
        ]  # fmt: skip
        if len(bits) == 2:
            entries.append((338, 3, (2,)))  # the second sample is alpha
        if "sample_format" in tags:
            entries.append((339, 3, (tags["sample_format"],) * len(bits)))
        place = len(made) + head + size * len(entries) + inline
        table = b""
        for tag, kind, values in entries:
            values = (place,) if tag == 273 else values
            layout = {3: "H", 4: "I"}[kind]
            table += struct.pack(f"{order}HH{word}", tag, kind, len(values))
            table += struct.pack(f"{order}{len(values)}{layout}", *values).ljust(inline, b"\0")
        following = place + len(data) if number + 1 < len(pages) else 0
        made += struct.pack(f"{order}{'Q' if big else 'H'}", len(entries)) + table
        made += struct.pack(f"{order}{word}", following) + data
    return made


def deep(order: str) -> bytes:
    return DEEP.astype(f"{order}u2").tobytes()


def levels(source: Any) -> Any:
    made = np.array(load_image(source))
    assert (made == made[..., :1]).all(), "grey"
    return made[0, :, 0]


@pytest.mark.parametrize(
    "order, big", [("<", False), (">", False), ("<", True)]
)  # Pillow reads no other BigTIFF
@pytest.mark.parametrize("compression", [1, 8])
def test_sixteen_bits_with_either_level_as_white(
    order: str, big: bool, compression: int, tmp_path: Path
) -> None:
    data = deep(order) if compression == 1 else zlib.compress(deep(order))
    path = tmp_path / "a.tif"
    for white, expected in ((1, SHARES), (0, 1 - SHARES)):
        content = tiff(data, white=white, order=order, big=big, compression=compression)
        path.write_bytes(content)
        for source in (content, path, io.BytesIO(content)):
            np.testing.assert_allclose(levels(source), expected * 255, atol=0.5)
    assert abs(SHARES - (1 - SHARES)).max() == 1, "the two are told apart"


def test_an_opened_picture_is_read_as_its_file_is() -> None:
    for white in (0, 1):
        content = tiff(deep("<"), white=white)
        opened = Image.open(io.BytesIO(content))
        np.testing.assert_array_equal(levels(opened), levels(content))
        opened.load()
        np.testing.assert_array_equal(levels(opened), levels(content))


@pytest.mark.parametrize(
    "bits, data", [(1, b"\xb0"), (2, b"\x1b\x10"), (4, b"\x0f\x5a\x21"), (8, b"\0\x07\x64\xc8\xfe\xff")]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_up_to_eight_bits(bits: int, data: bytes, order: str) -> None:
    """Pillow turns these round by itself: not a second time here."""
    stored = np.unpackbits(np.frombuffer(data, np.uint8))[: 6 * bits].reshape(6, bits) @ (
        1 << np.arange(bits)[::-1]
    )
    shares = stored / (2**bits - 1)
    np.testing.assert_allclose(levels(tiff(data, bits=(bits,), white=1, order=order)), shares * 255, atol=0.5)
    np.testing.assert_allclose(
        levels(tiff(data, bits=(bits,), white=0, order=order)), 255 - shares * 255, atol=0.5
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_with_transparency(order: str) -> None:
    grey = np.array([0, 10, 100, 200, 254, 255])
    alpha = np.array([255, 255, 255, 255, 255, 0])
    data = np.stack([grey, alpha], -1).astype(np.uint8).tobytes()
    for white, shown in ((1, grey), (0, 255 - grey)):
        made = levels(tiff(data, bits=(8, 8), white=white, order=order))
        assert made.tolist() == np.where(alpha == 0, 255, shown).tolist()


def test_twelve_bits() -> None:
    """Stored two in three bytes; 4095 is white, which Pillow returns as it is, nearly black of 65535."""
    data = bytes([0, 0x01, 0x00, 0x80, 0x0F, 0xFF, 0x40, 0x00, 0x10])  # 0, 256, 2048, 4095, 1024, 16
    shares = np.array([0, 256, 2048, 4095, 1024, 16]) / 4095
    np.testing.assert_allclose(levels(tiff(data, bits=(12,), white=1)), shares * 255, atol=0.5)
    np.testing.assert_allclose(levels(tiff(data, bits=(12,), white=0)), 255 - shares * 255, atol=0.5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_page_has_its_own(order: str) -> None:
    """Read as a clip by Pillow; the first page alone as a picture."""
    content = tiff(deep(order), deep(order), deep(order), white=(0, 1, 0), order=order)
    clip = read_video(content, backend="pillow").frames.numpy()
    assert clip.shape == (3, 1, 6, 3)
    np.testing.assert_allclose(clip[::2, 0, :, 0], [(1 - SHARES) * 255] * 2, atol=0.5)
    np.testing.assert_allclose(clip[1, 0, :, 0], SHARES * 255, atol=0.5)
    np.testing.assert_array_equal(levels(content), clip[0, 0, :, 0])


@pytest.mark.parametrize("name, content, message", [
    ("signed", tiff(deep("<"), white=1, sample_format=2), "a TIFF with levels below 0 has no stated range; scale it"),
    ("signed bytes", tiff(bytes(6), bits=(8,), white=1, sample_format=2), "levels below 0 has no stated range"),
    ("whole 32", tiff(bytes(24), bits=(32,), white=0), r"mode I \(32 bits per pixel\) has no stated range; scale it"),
    ("float", tiff(bytes(24), bits=(32,), white=0, sample_format=3), r"mode F \(32 bits per pixel\) has no stated"),
    ("double", tiff(bytes(48), bits=(64,), white=1, sample_format=3), "is a TIFF of a kind that Pillow does not read"),
    ("pfm", b"Pf\n6 1\n-1.0\n" + SHARES.astype("<f4").tobytes(), r"mode F \(32 bits per pixel\) has no stated"),
    ("BigTIFF", tiff(deep(">"), white=1, order=">", big=True), "is a TIFF of a kind that Pillow does not read"),
    ("endless", tiff(deep(">"), order=">")[:-9], "is damaged or cut short|is a TIFF of a kind"),
])  # fmt: skip
def test_without_a_stated_range_nothing_is_guessed(name: str, content: bytes, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        load_image(content)


def test_pages_that_lead_in_a_circle_come_to_an_end() -> None:
    content = bytearray(tiff(deep(">"), deep(">"), order=">"))
    second = content.index(struct.pack(">H", 9), 30)
    content[second + 2 + 9 * 12 : second + 6 + 9 * 12] = struct.pack(">I", 8)
    np.testing.assert_allclose(levels(bytes(content)), (1 - SHARES) * 255, atol=0.5)


def grey_png(bits: int, stored: list[int], key: int | None) -> bytes:
    """One row of grey levels, of which one is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = "".join(f"{level:0{bits}b}" for level in stored)
    row += "0" * (-len(row) % 8)
    data = bytes(int(row[i : i + 8], 2) for i in range(0, len(row), 8))
    header = struct.pack(">IIBBBBB", len(stored), 1, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (b"" if key is None else chunk(b"tRNS", struct.pack(">H", key)))
        + chunk(b"IDAT", zlib.compress(b"\0" + data))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_level_of_a_grey_png(bits: int) -> None:
    """It is stated in the levels of the file, whatever they are scaled to."""
    most = 2**bits - 1
    stored = sorted({0, most // 3, most // 3 * 2, most})
    shown = [round(level / most * 255) for level in stored]
    assert levels(grey_png(bits, stored, None)).tolist() == shown
    for number, key in enumerate(stored):
        content = grey_png(bits, stored, key)
        expected = [255 if i == number else level for i, level in enumerate(shown)]
        assert levels(content).tolist() == expected
        opened = Image.open(io.BytesIO(content))
        assert levels(opened).tolist() == levels(opened).tolist() == expected, "the second time too"

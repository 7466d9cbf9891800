"""Every kind of picture file and Pillow mode, down to an upright 8-bit RGB image."""

from __future__ import annotations

import inspect
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from vidcompress.checks import MAX_SIDE
from vidcompress.errors import MediaError
from vidcompress.media.images.image import NOTE, load_image

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
RED = (200, 40, 90)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def first(source: Any) -> tuple[int, ...]:
    return tuple(load_image(source).getpixel((0, 0)))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    big = Image.fromarray(PIXELS).resize((40, 24), Image.Resampling.BOX)
    made = np.array(load_image(saved(big, kind, exif=exif)))
    turn = {1: 0, 2: 0, 3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}[orientation]
    shown = np.rot90(np.array(load_image(saved(big, kind))), k=turn)
    if orientation in (2, 4, 5, 7):
        shown = shown[:, ::-1]
    assert np.array_equal(made, shown)


def test_a_broken_orientation_is_ignored() -> None:
    content = saved(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\x12\x01" * 9)
    plain = saved(Image.fromarray(PIXELS), "JPEG")
    assert np.array_equal(np.array(load_image(content)), np.array(load_image(plain)))


SIXTEEN = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
EIGHT = [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("form", ["png", "tiff", "big-endian tiff", "pgm", "picture", "jpeg 2000"])
def test_sixteen_bits_are_scaled(form: str) -> None:
    """Pillow's own conversion cuts off at 255, which turns nearly all of it white."""
    picture = Image.fromarray(SIXTEEN)
    forms: dict[str, Callable[[], Any]] = {
        "png": lambda: saved(picture, "PNG"),
        "tiff": lambda: saved(picture, "TIFF"),
        "big-endian tiff": lambda: saved(
            Image.frombytes("I;16B", (6, 1), SIXTEEN.astype(">u2").tobytes()), "TIFF"
        ),
        "pgm": lambda: b"P5 6 1 65535\n" + SIXTEEN.astype(">u2").tobytes(),
        "picture": lambda: picture,
        "jpeg 2000": lambda: saved(picture, "JPEG2000"),
    }
    made = np.array(load_image(forms[form]()))
    assert made.shape == (1, 6, 3)
    assert made[0, :, 0].tolist() == EIGHT
    assert (made == made[..., :1]).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_deeper_pictures_state_no_range(dtype: Any) -> None:
    deep = Image.fromarray(np.ones((2, 2), dtype))
    for source in (deep, saved(deep, "TIFF")):
        with pytest.raises(
            MediaError, match=r"mode [IF] \(32 bits per pixel\) has no stated range; scale it"
        ):
            load_image(source)


COLOURS = {
    "1": (255, 255, 255), "L": (77, 77, 77), "P": (204, 51, 102), "RGB": RED, "RGBA": RED, "RGBX": RED, "CMYK": RED,
    "YCbCr": RED, "HSV": RED, "LA": (77, 77, 77), "PA": (204, 51, 102), "RGBa": RED, "La": (77, 77, 77),
}  # fmt: skip


@pytest.mark.parametrize("mode", COLOURS)
def test_every_mode(mode: str) -> None:
    grey = Image.new("L", (3, 2), 77)
    base = grey if mode in ("L", "LA", "La") else Image.new("RGB", (3, 2), COLOURS[mode])
    steps = {"PA": ("P", "PA"), "RGBa": ("RGBA", "RGBa"), "La": ("LA", "La")}.get(mode, (mode,))
    for step in steps:
        base = base.convert(step)
    made = load_image(base)
    assert (made.mode, made.size) == ("RGB", (3, 2))
    np.testing.assert_allclose(first(base), COLOURS[mode], atol=3)


def test_lab_has_no_transparency() -> None:
    """The A in its name is a colour."""
    profile = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(Image.new("RGB", (3, 2), RED), profile)
    assert lab is not None
    for source in (lab, saved(lab, "TIFF")):
        np.testing.assert_allclose(first(source), RED, atol=3)


def test_cmyk_files() -> None:
    """JPEG stores it inverted, as Adobe does, and Pillow knows; TIFF does not."""
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        np.testing.assert_allclose(first(saved(cmyk, kind)), (255, 0, 0), atol=3)
        assert first(saved(cmyk, kind)) == Image.open(io.BytesIO(saved(cmyk, kind))).convert("RGB").getpixel(
            (0, 0)
        )


def test_transparency_lies_over_white() -> None:
    """In every way a file can state it; transformers 5.23 does the same, older versions drop it."""
    from transformers.image_transforms import convert_to_rgb

    half = Image.new("RGBA", (2, 2), (*RED, 128))
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, *RED])
    grey = Image.new("L", (2, 2), 77)
    table: list[tuple[bytes, tuple[int, ...], int]] = [  # file, colour, alpha
        (saved(half, "PNG"), RED, 128),
        (saved(half, "WEBP", lossless=True), RED, 128),
        (saved(Image.new("LA", (2, 2), (77, 128)), "PNG"), (77, 77, 77), 128),
        (saved(palette, "PNG", transparency=bytes([255, 64])), RED, 64),
        (saved(palette, "GIF", transparency=1), RED, 0),
        (saved(palette, "GIF", transparency=0), RED, 255),
        (saved(grey, "PNG", transparency=77), (77, 77, 77), 0),
        (saved(grey, "PNG", transparency=78), (77, 77, 77), 255),
        (saved(Image.new("RGB", (2, 2), RED), "PNG", transparency=RED), RED, 0),
    ]
    for content, colour, alpha in table:
        expected = [255 - (255 - level) * alpha / 255 for level in colour]
        np.testing.assert_allclose(first(content), expected, atol=1)
        if "return_numpy" in inspect.signature(convert_to_rgb).parameters:
            theirs = convert_to_rgb(Image.open(io.BytesIO(content))).getpixel((0, 0))
            np.testing.assert_allclose(first(content), theirs, atol=1)


def test_profiles_are_ignored() -> None:
    """As transformers does: the numbers in the file are the numbers the encoder sees."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    picture = Image.fromarray(PIXELS)
    assert np.array_equal(np.array(load_image(saved(picture, "PNG", icc_profile=profile))), PIXELS)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_and_pages_give_the_first_with_a_note(kind: str) -> None:
    frames = [Image.new("RGB", (8, 6), (60 * i, 0, 0)) for i in range(4)]
    content = saved(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        **({} if kind != "WEBP" else {"lossless": True}),
    )
    for source in (content, Image.open(io.BytesIO(content))):
        made = load_image(source)
        assert made.getpixel((0, 0)) == (0, 0, 0)
        assert (
            made.info[NOTE]
            == "the first frame of several was taken; pass the file as video= to show them all"
        )
    assert NOTE not in load_image(saved(frames[1], kind)).info
    still = frames[1]
    assert NOTE not in load_image(still).info and load_image(still) is still


def test_stereo_jpeg_is_its_main_picture() -> None:
    frames = [Image.new("RGB", (16, 16), (100 * i, 50, 50)) for i in range(2)]
    made = load_image(saved(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    np.testing.assert_allclose(made.getpixel((0, 0)), (0, 50, 50), atol=6)  # type: ignore[arg-type]
    assert NOTE not in made.info


def test_progressive_and_truncated_jpeg() -> None:
    big = Image.fromarray(PIXELS).resize((90, 70))
    content = saved(big, "JPEG", progressive=True)
    assert load_image(content).size == (90, 70)
    for part in (content[: len(content) // 2], content[:-20]):
        with pytest.raises(MediaError, match=r"bytes>' is damaged or cut short \(.*\); fetch it again"):
            load_image(part)
    late = Image.open(io.BytesIO(content[: len(content) // 2]))
    with pytest.raises(MediaError, match="image is damaged or cut short"):
        load_image(late)


def test_avif_if_pillow_reads_it() -> None:
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    np.testing.assert_allclose(first(saved(Image.new("RGB", (16, 16), RED), "AVIF")), RED, atol=8)


STRANGERS: dict[str, tuple[bytes, str]] = {
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "is HEIC, which Pillow reads with pillow-heif only"),
    "svg": (b"<?xml version='1.0'?><svg xmlns='x'/>", "is an SVG drawing, not pixels; render it to PNG first"),
    "pdf": (b"%PDF-1.7\n", "is a PDF document; render its page"),
    "mp4": (b"\0\0\0\x20ftypisom" + bytes(99), r"is a video, not a picture; pass it as video= \(--video\)"),
    "mkv": (b"\x1aE\xdf\xa3" + bytes(99), "is a video, not a picture"),
    "avi": (b"RIFF\0\0\0\0AVI LIST" + bytes(99), "is a video, not a picture"),
    "ts": ((b"G" + bytes(187)) * 3, "is a video, not a picture"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture in a known format"),
    "ico": (b"\0\0\x01\0\x01\0" + bytes(99), "is not a picture in a known format"),
    "text": (b"hello", r"is not a picture in a known format \(PNG, JPEG"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_picture_is_told_what_it_is(name: str, tmp_path: Path) -> None:
    content, message = STRANGERS[name]
    path = tmp_path / f"x.{name}"
    path.write_bytes(content)
    for source in (content, path, io.BytesIO(content)):
        with pytest.raises(MediaError, match=f"image='.*' {message}"):
            load_image(source)


def png(width: int, height: int) -> bytes:
    """A PNG whose header promises that size and whose data are a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded before its size was checked"))
    table = {
        png(20_000, 20_000): "is larger than Pillow accepts",
        png(9_000, 9_000): "9000 x 9000 is 81000000 pixels, more than max_pixels=67108864",
        png(1, MAX_SIDE + 1): "65536 x 1 has a side of more than 65535 pixels; cut it up",
        png(MAX_SIDE + 1, 1): "1 x 65536 has a side of more than 65535",
    }
    for content, message in table.items():
        with pytest.raises(MediaError, match=message):
            load_image(content)


def test_a_frame_beyond_its_screen_is_measured() -> None:
    """A GIF's frame may be larger than the size in its header."""
    content = bytearray(saved(Image.new("P", (60, 60), 1), "GIF"))
    content[6:10] = struct.pack("<HH", 2, 2)
    with pytest.raises(MediaError, match="60 x 60 is 3600 pixels, more than max_pixels=99"):
        load_image(bytes(content), max_pixels=99)


# File objects -------------------------------------------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """A stream that cannot seek, as a socket's."""

    def __init__(self, content: bytes) -> None:
        self.content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.content.read(size)


def test_file_objects_are_put_back(tmp_path: Path) -> None:
    content = saved(Image.fromarray(PIXELS), "PNG")
    stream = io.BytesIO(content)
    stream.seek(5)
    assert np.array_equal(np.array(load_image(stream)), PIXELS), "read from the beginning"
    assert stream.tell() == 5
    (tmp_path / "a.png").write_bytes(content)
    with open(tmp_path / "a.png", "rb") as file:
        load_image(file)
        assert file.tell() == 0 and not file.closed
    with pytest.raises(MediaError, match="damaged"):
        load_image(bad := io.BytesIO(content[:60]))
    assert bad.tell() == 0


def test_what_cannot_seek_is_buffered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.fromarray(PIXELS), "PNG")
    assert np.array_equal(np.array(load_image(Pipe(content))), PIXELS)
    monkeypatch.setattr("vidcompress.media.files.MAX_BUFFERED_BYTES", 99)
    with pytest.raises(MediaError, match="cannot seek and holds more than 99 bytes"):
        load_image(Pipe(content))


def test_bad_file_objects(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(PIXELS), "PNG"))
    with (
        open(tmp_path / "a.png", encoding="latin-1") as text,
        pytest.raises(MediaError, match="opened as text"),
    ):
        load_image(text)
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(MediaError, match=r"cannot be read \(I/O operation on closed file"):
        load_image(closed)
    with pytest.raises(MediaError, match=r"empty \(0 bytes\)"):
        load_image(io.BytesIO())
    for form in (bytearray, memoryview):
        assert first(form((tmp_path / "a.png").read_bytes())) == tuple(PIXELS[0, 0])


# Arrays -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("array, message", [
    (np.zeros((4, 4, 3), np.float32), r"dtype float32; pass uint8 .*\(x \* 255\).round\(\).astype\('uint8'\)"),
    (np.zeros((4, 4), np.uint16), r"dtype uint16; .*\(x // 257\)"),
    (np.zeros((4, 4), bool), r"dtype bool; .*x.astype\('uint8'\) \* 255"),
    (np.zeros((4, 4), np.int64), "dtype int64; pass uint8 with values 0 to 255$"),
    (np.zeros((4, 4), complex), "dtype complex128; pass uint8"),
    (np.array([["a"]]), "dtype <U1; pass uint8"),
    (np.array([[None]]), "dtype object; pass uint8"),
    (torch.zeros(4, 4, dtype=torch.bfloat16), r"dtype bfloat16; pass uint8 .*x \* 255"),
    (torch.zeros(3, 4, 4, requires_grad=True), "dtype float32"),
    (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\).*a clip is passed as video"),
    (np.zeros((5, 4, 6), np.uint8), r"shape \(5, 4, 6\); pass \(height, width\)"),
    (np.zeros(5, np.uint8), r"shape \(5,\)"),
    (np.uint8(3), r"shape \(\)"),
])  # fmt: skip
def test_bad_arrays_say_what_to_do(array: Any, message: str) -> None:
    with pytest.raises(MediaError, match=f"image: array of {message}"):
        load_image(array)


def test_arrays_in_odd_memory() -> None:
    assert np.array_equal(np.array(load_image(PIXELS[::-1, ::-2])), PIXELS[::-1, ::-2])
    assert first(np.dstack([PIXELS, np.full((7, 11), 255, np.uint8)])) == tuple(PIXELS[0, 0])
    assert first(np.dstack([PIXELS, np.zeros((7, 11), np.uint8)])) == (255, 255, 255)


# Extreme shapes, from the picture to an answer ---------------------------------------------------------------------


SHAPES = [(1, 1), (1, 10_000), (10_000, 1), (2, 3), (1, MAX_SIDE), (MAX_SIDE, 1)]


@pytest.mark.parametrize("family", ["llava_next", "llava_next_video", "llava_onevision", "llava_video"])
def test_extreme_shapes_get_an_answer(family: str, asked: Any) -> None:
    qa = asked(family)
    for height, width in SHAPES:
        picture = np.zeros((height, width, 3), np.uint8)
        answer = qa.ask("what is this ?", image=picture, max_new_tokens=1)
        assert answer.report.total == qa.processor.image_tokens((height, width)), (height, width)
        assert answer.report.kept == answer.report.budget > 0
        two = qa.ask("what is this ?", images=[picture, PIXELS], max_new_tokens=1)
        assert len(two.report.visuals) == 2
        if family != "llava_next" and height < 100:
            assert qa.ask("what ?", video=picture[None].repeat(2, 0), max_new_tokens=1).report.kept > 0


@pytest.mark.parametrize("shape", [(3, 40), (1, 200), (40, 3), (200, 1)])
def test_long_pictures_are_padded_as_short_ones_are(
    shape: tuple[int, int], onevision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resizing the long side first is the same for wide pictures, and within a grey level or two for tall ones."""
    from vidcompress.media.preprocessing import transforms as pixels

    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = onevision("<image> <image>", images=[[noise, noise]])["pixel_values"]
    monkeypatch.setattr(pixels, "MAX_SQUARE_PIXELS", 1)
    made = onevision("<image> <image>", images=[[noise, noise]])["pixel_values"]
    levels = (made - expected).abs() * 255 / 2
    assert float(levels.max()) <= (0.01 if shape[1] > shape[0] else 2.01)
    assert float(levels.mean()) <= 0.25


@pytest.fixture(scope="module")
def onevision(make_config: Callable[..., Any], make_processor: Callable[..., Any]) -> Any:
    return make_processor(make_config("llava_onevision", 28, [[28, 28], [28, 56], [56, 56]]))

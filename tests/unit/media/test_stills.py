"""Still pictures that are passed as clips: one rule for every format and backend."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image, features

from vidcompress.errors import MediaError
from vidcompress.media.images.image import NOTE, load_image
from vidcompress.media.kind import media_kind
from vidcompress.media.video.frames import whole
from vidcompress.media.video.read import read_video
from vidcompress.media.video.streaming import read_parts

STILL = r"is a still picture, not a video; pass it as image= \(--image\)"
EXAMPLES = Path(__file__).parents[3] / "examples"
BACKENDS = ("auto", "pyav", "pillow")


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (64, 48), (50 * number, 90, 200)) for number in range(1, count + 1)]


def saved(kind: str, count: int = 1) -> bytes:
    stream = io.BytesIO()
    first, *others = frames(count)
    several = {"save_all": True, "append_images": others} if others else {}
    first.save(stream, kind, **several)
    return stream.getvalue()


def box(kind: bytes, *parts: bytes, full: bool = False) -> bytes:
    content = (bytes(4) if full else b"") + b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def heic(*, sequence: bool) -> bytes:
    """A HEIC of one picture; with `sequence` of four more in a track, as bursts are stored."""
    if "libx265" not in av.codecs_available:
        pytest.skip("this FFmpeg build cannot make HEVC")
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        track = container.add_stream(
            "libx265", rate=10, options={"x265-params": "log-level=none", "tag": "hvc1"}
        )
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for picture in frames(4):
            container.mux(track.encode(av.VideoFrame.from_image(picture)))
        container.mux(track.encode())
    made = stream.getvalue()
    sizes = made.index(b"stsz")
    (length,) = struct.unpack_from(">I", made, sizes + 16)
    start = made.index(b"mdat") + 4
    place = made.index(b"hvcC") - 4
    settings = made[place : place + struct.unpack_from(">I", made, place)[0]]
    properties = box(b"ipco", settings, box(b"ispe", struct.pack(">II", 64, 48), full=True))
    links = box(b"ipma", struct.pack(">IHBBB", 1, 1, 2, 0x81, 2), full=True)
    meta = box(
        b"meta",
        box(b"hdlr", bytes(4), b"pict", bytes(13), full=True),
        box(b"pitm", struct.pack(">H", 1), full=True),
        box(b"iloc", struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, start, length), full=True),
        box(b"iinf", struct.pack(">H", 1), _entry(), full=True),
        box(b"iprp", properties, links),
        full=True,
    )
    made = made.replace(made[8:12], b"heic", 1) + meta
    return made if sequence else made.replace(b"moov", b"free")


def _entry() -> bytes:
    content = b"\2\0\0\0" + struct.pack(">HH", 1, 0) + b"hvc1\0"
    return struct.pack(">I", 8 + len(content)) + b"infe" + content


def with_thumbnail() -> bytes:
    """A JPEG as cameras write it: another one lies in its EXIF block."""
    plain, small = saved("JPEG"), saved("JPEG")
    content = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + small
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content + plain[2:]


def marked_png() -> bytes:
    """A PNG with the marks of an animation, of one frame."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    plain = saved("PNG")
    place = plain.index(b"IDAT") - 4
    control = chunk(b"acTL", struct.pack(">II", 1, 0))
    control += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 10, 0, 0))
    return plain[:place] + control + plain[place:]


STILLS: dict[str, Callable[[], bytes]] = {
    **{kind: (lambda kind=kind: saved(kind)) for kind in ("PNG", "JPEG", "BMP", "TIFF", "PPM", "JPEG2000")},  # type: ignore[misc]
    "AVIF": lambda: saved("AVIF"),
    "HEIC": lambda: heic(sequence=False),
    "PNG with marks": marked_png,
    "stereo JPEG": lambda: saved("MPO", 2),
    "JPEG with a thumbnail": lambda: with_thumbnail(),
}


@pytest.mark.parametrize("kind, backend", [(kind, backend) for kind in STILLS for backend in BACKENDS])
def test_a_still_is_no_clip(kind: str, backend: str, tmp_path: Any) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    content = STILLS[kind]()
    (tmp_path / "still").write_bytes(content)
    for source in (content, tmp_path / "still", io.BytesIO(content)):
        with pytest.raises(MediaError, match=STILL):
            read_video(source, backend=backend)
    with pytest.raises(MediaError, match=STILL):
        whole(read_parts(content, backend=backend))


@pytest.mark.parametrize("backend", ["auto", "pillow"])
def test_a_still_webp_is_no_clip(backend: str) -> None:
    with pytest.raises(MediaError, match=STILL):
        read_video(saved("WEBP"), backend=backend)
    assert len(read_video(saved("WEBP", 2), backend=backend)) == 2


def test_a_still_heic_is_known_as_one_picture_by_ffmpeg() -> None:
    """The file of these tests is what a camera writes: without the rule it is a clip of one frame."""
    with av.open(io.BytesIO(heic(sequence=False))) as container:
        (frame,) = container.decode(video=0)
    np.testing.assert_allclose(frame.to_ndarray(format="rgb24")[20, 20], (50, 90, 200), atol=8)


@pytest.mark.parametrize("kind, backend", [
    ("PNG", "auto"), ("PNG", "pillow"), ("GIF", "auto"), ("GIF", "pillow"), ("AVIF", "auto"), ("AVIF", "pyav"),
    ("TIFF", "auto"), ("TIFF", "pillow"), ("HEIC", "auto"),
])  # fmt: skip
def test_several_pictures_are_a_clip(kind: str, backend: str) -> None:
    """Of HEIF's several streams the track is read, not the still that stands for it."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    made = read_video(heic(sequence=True) if kind == "HEIC" else saved(kind, 4), backend=backend)
    assert made.total_frames == 4
    np.testing.assert_allclose(made.frames[:, 20, 20, 0], [50, 100, 150, 200], atol=10)


@pytest.mark.parametrize("gap", [b"", bytes(17)])
def test_raw_motion_jpeg_is_a_clip(gap: bytes) -> None:
    content = b""
    for picture in frames(4):
        stream = io.BytesIO()
        picture.save(stream, "JPEG")
        content += stream.getvalue() + gap
    made = read_video(content)
    assert made.total_frames == 4
    np.testing.assert_allclose(made.frames[:, 20, 20, 0], [50, 100, 150, 200], atol=10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gif_of_one_frame_is_a_clip_of_one(backend: str) -> None:
    assert len(read_video(saved("GIF"), backend=backend)) == 1


def test_a_still_in_a_list_is_the_frame_of_a_clip() -> None:
    made = read_video([saved("PNG")])
    assert made.frames.shape == (1, 48, 64, 3)
    assert torch.equal(made.frames[0], torch.from_numpy(np.array(load_image(saved("PNG")))))


def test_what_the_note_of_a_picture_advises_works() -> None:
    """A file of several pages passed as a picture gives the first, and a note to pass it as a clip."""
    for kind in ("PNG", "GIF", "WEBP", "TIFF"):
        assert "pass the file as video= to show them all" in load_image(saved(kind, 3)).info[NOTE]
        assert len(read_video(saved(kind, 3))) == 3


def test_pages_of_different_sizes_are_no_clip() -> None:
    stream = io.BytesIO()
    first, second = Image.new("L", (8, 6)), Image.new("L", (4, 3))
    first.save(stream, "TIFF", save_all=True, append_images=[second])
    with pytest.raises(MediaError, match=r"page 1 is \(3, 4\), the first one \(6, 8\) .*pass it as image="):
        read_video(stream)
    with pytest.raises(MediaError, match=f"{STILL}, or leave backend on 'auto' if it has several pages"):
        read_video(stream, backend="pyav")


@pytest.mark.parametrize("kind", list(STILLS))
def test_a_still_is_an_image_whatever_it_is_called(kind: str, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow build reads no AVIF")
    path = tmp_path / "clip.mp4"
    path.write_bytes(STILLS[kind]())
    if kind == "HEIC" and "HEIF" not in Image.OPEN:
        with pytest.raises(
            MediaError, match=r"media=.*clip.mp4' is HEIC, which Pillow reads with pillow-heif only"
        ):
            media_kind(path)
        return
    assert media_kind(path) == "image"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_a_clip_and_one_is_an_image(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    for count, expected in ((3, "video"), (1, "image")):
        path.write_bytes(saved(kind, count))
        assert media_kind(path) == expected
    assert len(read_video(saved(kind, 3))) == 3, "what is called a clip can be read as one"


def test_pages_of_two_sizes_are_an_image(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (64, 48)), Image.new("RGB", (32, 48))]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    assert media_kind(tmp_path / "scan.tif") == "image"


def test_clips_are_clips_whatever_they_are_called(tmp_path: Path) -> None:
    example = EXAMPLES / "clip.mp4"
    (tmp_path / "photo.jpg").write_bytes(example.read_bytes())
    (tmp_path / "motion.jpg").write_bytes(saved("JPEG") * 3)
    (tmp_path / "frames.png").mkdir()
    for name in ("photo.jpg", "motion.jpg", "frames.png"):
        assert media_kind(tmp_path / name) == "video", name
    if "libx265" in av.codecs_available:
        (tmp_path / "burst.heic").write_bytes(heic(sequence=True))
        assert media_kind(str(tmp_path / "burst.heic")) == "video"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"this is no picture" * 99,
            "is neither a picture nor a clip in a known format; check it, or convert",
        ),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "is an SVG drawing, not pixels; render it to PNG first",
        ),
        (b"%PDF-1.7 and so on", "is a PDF document; render its page to PNG first"),
        (b"#EXTM3U\nhttp://example.org/a.ts\n", "is a play list, not a video in a known format"),
        (b"PK\x03\x04" + bytes(99), "is a ZIP archive, not a video in a known format; unpack it"),
        (b"\0\0\0\x18ftypisom" + bytes(99), "is not a video in a known format, or is damaged or cut short"),
        (b"", "is empty"),
    ],
)
def test_what_is_neither_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        media_kind(path)
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_sound_is_neither(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(track.encode(frame))
        container.mux(track.encode())
    with pytest.raises(MediaError, match="holds no video, only sound or pictures"):
        media_kind(path)


def test_a_damaged_picture_is_an_image_and_loading_says_why(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(saved("PNG")[:60])
    assert media_kind(path) == "image"
    with pytest.raises(MediaError, match="damaged or cut short"):
        load_image(path)

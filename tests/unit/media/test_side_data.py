"""Frames with side data that PyAV has no name for (EXIF), and what a reader raises that is no error of ours."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from odd_media import animated, photo, write_pictures
from vidcompress.media import MediaError, read_video
from vidcompress.media.orientation import IDENTITY, display_matrix
from vidcompress.media.video import backends as backends_module
from vidcompress.media.video.streaming import read_parts

COUNT = 5


def shown(picture: bytes) -> Any:
    """The picture as Pillow shows it: uint8 (height, width, 3)."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(picture))).convert("RGB"))


@pytest.mark.parametrize("ending", ["avi", "mov", "mkv"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_motion_jpeg_is_shown_as_its_pictures_say(ending: str, orientation: int, tmp_path: Path) -> None:
    pictures = [photo(number, orientation) for number in range(COUNT)]
    path = write_pictures(tmp_path / f"camera.{ending}", pictures)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        with pytest.raises(ValueError, match="is not a valid Type"):
            list(frame.side_data)  # PyAV's own way; when it knows EXIF, this test has nothing to show
        assert (display_matrix(frame) == IDENTITY) == (orientation == 1)
    made = read_video(path, num_frames=COUNT)
    for number, picture in enumerate(pictures):
        expected = shown(picture).astype(int)
        assert made.frames[number].shape == expected.shape
        assert np.abs(made.frames[number].numpy() - expected).max() <= 4, "two JPEG decoders"
    stored = np.asarray(Image.open(io.BytesIO(pictures[0])).convert("RGB"))
    assert (orientation == 1) == np.array_equal(stored, shown(pictures[0])), "the others are turned"


@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
def test_animated_png_with_exif(orientation: int, tmp_path: Path) -> None:
    content = animated(orientation)
    assert b"eXIf" in content
    made = read_video(content, num_frames=COUNT)
    assert (made.total_frames, made.backend) == (COUNT, "pyav")
    for number in range(COUNT):
        page = Image.open(io.BytesIO(content))
        page.seek(number)
        turned = Image.fromarray(np.asarray(page.convert("RGB")))
        turned.getexif()[0x0112] = orientation
        assert np.array_equal(made.frames[number].numpy(), np.asarray(ImageOps.exif_transpose(turned)))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_turns_animations_too(orientation: int, kind: str) -> None:
    """As it does AVIF, whose writer in Pillow 13 crashes when it is given several frames and an orientation."""
    made = read_video(animated(orientation, kind=kind), num_frames=COUNT, backend="pillow")
    plain = read_video(animated(1, kind=kind), num_frames=COUNT, backend="pillow")
    for number in range(COUNT):
        picture = Image.fromarray(plain.frames[number].numpy())
        picture.getexif()[0x0112] = orientation
        assert np.array_equal(made.frames[number].numpy(), np.asarray(ImageOps.exif_transpose(picture)))
    assert torch.equal(made.frames, plain.frames) == (orientation == 1)


def test_pictures_that_are_turned_each_otherwise(tmp_path: Path) -> None:
    """Photos of one camera, held upright and not: each is shown upright, in the size of the first."""
    pictures = [photo(number, orientation) for number, orientation in enumerate((6, 1, 8))]
    made = read_video(write_pictures(tmp_path / "mixed.avi", pictures), num_frames=3)
    assert made.frames.shape == (3, 64, 48, 3)
    assert made.notes == ("frames of other sizes were scaled to that of the first",)
    for number in (0, 2):
        assert np.abs(made.frames[number].numpy().astype(int) - shown(pictures[number])).max() <= 4
    resized = np.asarray(Image.fromarray(shown(pictures[1])).resize((48, 64), Image.Resampling.BILINEAR))
    assert np.abs(made.frames[1].numpy().astype(int) - resized).mean() < 6
    assert np.abs(made.frames[1].numpy().astype(int) - resized[:, ::-1]).mean() > 20


def test_other_readers_do_not_turn_pictures(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    turned = write_pictures(tmp_path / "turned.avi", [photo(number, 6) for number in range(COUNT)])
    with pytest.raises(MediaError, match="clips that their pictures' EXIF turns.*use backend='pyav'"):
        read_video(turned, backend="decord")
    plain = write_pictures(tmp_path / "plain.avi", [photo(number, 1) for number in range(COUNT)])
    one, two = (read_video(plain, num_frames=3, backend=backend) for backend in ("pyav", "decord"))
    assert np.array_equal(one.frames, two.frames)


def test_colours_that_cannot_be_converted_are_named(write_clip: Any, tmp_path: Path) -> None:
    """YCgCo, which FFmpeg's scaler does not take from such a pixel format."""
    path = tmp_path / "ycgco.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=5)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = 8
        for number in range(3):
            picture = np.full((64, 64, 3), 60 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(
        MediaError,
        match=r"its frames \(pixel format yuv420p, colour space 8\) cannot be converted to RGB .*H\.264",
    ):
        read_video(path, num_frames=2)


# -- whatever a reader raises -----------------------------------------------------------------------------------------

FOREIGN = [
    (
        ValueError("31 is not a valid Type"),
        r"its reader failed \(ValueError: 31 is not a valid Type\); convert it",
    ),
    (KeyError("palette"), r"its reader failed \(KeyError: 'palette'\); convert it"),
    (RuntimeError("no\ndecoder"), r"its reader failed \(RuntimeError: no decoder\); convert it"),
    (AssertionError(), r"its reader failed \(AssertionError\); convert it"),
    (ZeroDivisionError("x"), r"its reader failed \(ZeroDivisionError: x\); convert it"),
    (MemoryError(), "asks for more memory than there is; it is damaged or too large, fetch it again"),
    (OSError(5, "Input/output error"), r"cannot be read \(\[Errno 5\] Input/output error\)"),
]


@pytest.mark.parametrize("error, message", FOREIGN, ids=[type(error).__name__ for error, _ in FOREIGN])
@pytest.mark.parametrize("by", ["path", "bytes"])
def test_whatever_a_reader_raises_is_one_error(
    error: Exception, message: str, by: str, write_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def read(self, clip: Any, request: Any) -> Any:
            raise error

    backends_module.backend_names()
    monkeypatch.setitem(backends_module._BACKENDS, "failing", Failing)
    path = write_clip("foreign.mp4", 4)
    source = path if by == "path" else path.read_bytes()
    for read in (
        lambda: read_video(source, backend="failing"),
        lambda: list(read_parts(source, backend="failing")),
    ):
        with pytest.raises(MediaError, match=f"video='.*' ?:? ?.*{message}") as caught:
            read()
        assert caught.value.__cause__ is error and "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["decode", "packets", "matrix"])
def test_errors_of_pyav_on_the_way(where: str, write_clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it fails: while packets are listed, while frames are decoded, or while one is looked at."""
    from vidcompress.media.video import container
    from vidcompress.media.video import frame_decoder as decoding
    from vidcompress.media.video.readers import pyav_reader

    def fail(*arguments: Any) -> Any:
        raise TypeError("an enumeration without this number")

    target = {
        "decode": (decoding.Decoder, "decode"),
        "packets": (container, "_carries_state"),
        "matrix": (pyav_reader, "display_matrix"),
    }
    path = write_clip("foreign.mp4", 4)
    assert len(read_video(path)) == 4
    monkeypatch.setattr(*target[where], fail)
    with pytest.raises(
        MediaError, match=r"its reader failed \(TypeError: .*enumeration.*\); convert it to H\.264"
    ):
        read_video(path)

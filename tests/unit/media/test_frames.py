"""Clips that are frames already, and clips that are pictures' formats: folders, lists, arrays, GIF, WebP, AVIF."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features

from vidcompress.errors import MediaError
from vidcompress.media import read_video
from vidcompress.media.video.frames import VideoFrames
from vidcompress.media.video.in_memory import natural

FRAMES = np.random.default_rng(0).integers(0, 256, (12, 8, 10, 3), dtype=np.uint8)


def write(folder: Path, names: list[str], frames: Any = FRAMES) -> Path:
    for name, frame in zip(names, frames, strict=False):
        Image.fromarray(frame).save(folder / name, format="PNG")
    return folder


# Folders and lists ---------------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_natural_order_and_its_other_files_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, ["shot 1.png", "shot 2.PNG", "shot 10.jpg", "shot 010b.webp"])
    for name in ("._shot 1.png", ".hidden.png", "notes.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"no picture")
    (tmp_path / "deeper").mkdir()
    made = read_video(tmp_path)
    assert np.array_equal(made.frames.numpy(), FRAMES[[0, 1, 2, 3]])
    assert made.times == (0.0, 1.0, 2.0, 3.0)
    assert sorted(["f²3", "f10", "f9", "f٣", "f"], key=natural) == ["f", "f9", "f10", "f²3", "f٣"]


def test_only_sampled_pictures_are_opened(tmp_path: Path) -> None:
    write(tmp_path, [f"{i}.png" for i in range(12)])
    (tmp_path / "3.png").write_bytes(b"broken")
    made = read_video(tmp_path, num_frames=2, source_fps=2)
    assert np.array_equal(made.frames.numpy(), FRAMES[[0, 11]])
    assert (made.times, made.total_frames, made.duration) == ((0.0, 5.5), 12, 6.0)
    with pytest.raises(MediaError, match="video: frame 3: image='.*3.png' is not a picture"):
        read_video(tmp_path)


def test_folders_that_do_not_serve(tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(MediaError, match=message):
            read_video(tmp_path)

    refused("is a folder without pictures; pass a video file or a folder of frames")
    (tmp_path / "b.mp4").touch()
    (tmp_path / "a.webm").touch()
    refused("is a folder without pictures; pass one of its videos, such as 'a.webm'")
    write(tmp_path, ["0.png"])
    Image.new("RGB", (3, 4)).save(tmp_path / "1.png")
    refused(r"frame 1 is \(4, 3\), the first one \(8, 10\) \(height, width\); resize them to one size")
    (tmp_path / "1.png").unlink()
    (tmp_path / "1.png").symlink_to(tmp_path / "1.png")
    refused("1.png' is a link that leads nowhere")
    (tmp_path / "1.png").unlink()
    (tmp_path / "1.png").mkdir()
    refused("1.png' is a folder; pass a file inside it")


def test_lists_of_anything_that_is_a_picture(tmp_path: Path) -> None:
    write(tmp_path, ["0.png"])
    mixed = [
        tmp_path / "0.png",
        Image.fromarray(FRAMES[1]),
        FRAMES[2],
        torch.from_numpy(FRAMES[3]).permute(2, 0, 1),
    ]
    mixed += [io.BytesIO((tmp_path / "0.png").read_bytes()), (tmp_path / "0.png").read_bytes()]
    assert np.array_equal(read_video(mixed).frames.numpy(), FRAMES[[0, 1, 2, 3, 0, 0]])
    assert np.array_equal(read_video(tuple(mixed[:2])).frames.numpy(), FRAMES[:2])
    with pytest.raises(MediaError, match="video: frame 1: image: array of dtype float64; pass uint8"):
        read_video([FRAMES[0], FRAMES[1] / 255])
    with pytest.raises(MediaError, match="video: frame 1: image: got NoneType"):
        read_video([FRAMES[0], None])


def test_more_pictures_than_max_frames(tmp_path: Path) -> None:
    for source in (list(FRAMES), FRAMES, write(tmp_path, [f"{i}.png" for i in range(12)])):
        made = read_video(source, max_frames=3)
        assert np.array_equal(made.frames.numpy(), FRAMES[[0, 5, 11]])
        assert made.notes == ("3 (max_frames) of 12 frames were taken, spread over all",)
    assert read_video(FRAMES, num_frames=3).notes == ()
    assert read_video(FRAMES, fps=4, source_fps=2).notes == (
        "fps=4 is more than the clip's own 2; every frame was taken",
    )


# Arrays --------------------------------------------------------------------------------------------------------------


def test_arrays_of_every_library_and_layout() -> None:
    first_channels = FRAMES.transpose(0, 3, 1, 2)
    forms = [
        FRAMES,
        first_channels,
        torch.from_numpy(FRAMES),
        torch.from_numpy(first_channels),
        FRAMES[::-1][::-1],
    ]
    for form in forms:
        made = read_video(form, num_frames=3)
        assert np.array_equal(made.frames.numpy(), FRAMES[[0, 5, 11]])
        assert made.backend == "memory"
    assert read_video(np.zeros((2, 3, 5, 3), np.uint8)).frames.shape == (2, 3, 5, 3), (
        "channels last where both fit"
    )


@pytest.mark.parametrize("array, message", [
    (FRAMES / 255, r"array of dtype float64; pass uint8 with values 0 to 255, for example \(x \* 255\).round\(\)"),
    (torch.zeros(2, 4, 4, 3), r"array of dtype float32; pass uint8 .*x \* 255"),
    (torch.zeros(2, 4, 4, 3, dtype=torch.bfloat16), "array of dtype bfloat16; pass uint8"),
    (FRAMES.astype(np.uint16), r"array of dtype uint16; .*x // 257"),
    (FRAMES.astype(object), "array of dtype object; pass uint8"),
    (FRAMES[0], r"array of shape \(8, 10, 3\); .*x\[None\] makes one frame of it, or pass it as image="),
    (FRAMES[..., 0], r"array of shape \(12, 8, 10\); .*grey frames need x\[..., None\].repeat\(3, -1\)"),
    (FRAMES[..., :1], r"array of shape \(12, 8, 10, 1\); .*x.repeat\(3, -1\) in numpy"),
    (np.zeros((2, 4, 5, 4), np.uint8), r"array of shape \(2, 4, 5, 4\); .*x\[..., :3\] leaves transparency out"),
    (np.moveaxis(FRAMES, -1, 0), r"array of shape \(3, 12, 8, 10\); .*numpy.moveaxis\(x, 0, -1\)"),
    (FRAMES[None], r"array of shape \(1, 12, 8, 10, 3\); .*pass one clip at a time"),
    (FRAMES[..., :2], r"array of shape \(12, 8, 10, 2\); .*the last axis is red, green and blue"),
    (FRAMES[:, :0], r"array of shape \(12, 0, 10, 3\) holds no pixel"),
])  # fmt: skip
def test_bad_arrays_say_what_to_do(array: Any, message: str) -> None:
    with pytest.raises(MediaError, match=f"video: {message}"):
        read_video(array)


def test_a_single_picture_is_no_clip() -> None:
    with pytest.raises(MediaError, match="video: got Image; .*a single picture is passed as image"):
        read_video(Image.fromarray(FRAMES[0]))


# Files and file objects -----------------------------------------------------------------------------------------------


def test_buffers_and_streams(write_clip: Any) -> None:
    path = write_clip("objects.mp4", 12, g="4")
    content, expected = path.read_bytes(), read_video(path, num_frames=3).frames
    for source in (content, bytearray(content), memoryview(content)):
        assert torch.equal(read_video(source, num_frames=3).frames, expected)
    stream = io.BytesIO(content)
    stream.seek(77)
    assert torch.equal(read_video(stream, num_frames=3).frames, expected)
    assert stream.tell() == 77
    with open(path, "rb") as file:
        assert torch.equal(read_video(file, num_frames=3).frames, expected)
        assert file.tell() == 0 and not file.closed
    broken = io.BytesIO(content[:500])
    with pytest.raises(MediaError, match="damaged or cut short"):
        read_video(broken)
    assert broken.tell() == 0


def test_bad_streams(write_clip: Any) -> None:
    path = write_clip("objects.mp4", 12, g="4")
    with (
        open(path, encoding="latin-1") as text,
        pytest.raises(MediaError, match="was opened as text; .*'rb'"),
    ):
        read_video(text)
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(MediaError, match="cannot be read .*closed file"):
        read_video(closed)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if size and self.tell() > 100:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(MediaError, match=r"cannot be read \(.*Input/output error\)"):
        read_video(Failing(path.read_bytes()))


# Animated pictures --------------------------------------------------------------------------------------------------


def animation(kind: str, delays: list[int], **options: Any) -> bytes:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (16, 12), (40 * i, 10, 10)) for i in range(len(delays))]
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], duration=delays, **options)
    return stream.getvalue()


DELAYS = [100, 40, 300, 60]


@pytest.mark.parametrize(
    "kind, backend", [("GIF", "pyav"), ("PNG", "pyav"), ("WEBP", "pillow"), ("AVIF", "pillow")]
)
def test_animations_are_clips(kind: str, backend: str, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    content = animation(kind, DELAYS, **({"lossless": True} if kind == "WEBP" else {}))
    path = tmp_path / "moving.bin"
    path.write_bytes(content)
    for source in (path, content, io.BytesIO(content)):
        made = read_video(source)
        assert (made.backend, made.total_frames) == (backend, 4)
        assert made.times == pytest.approx((0.0, 0.1, 0.14, 0.44), abs=0.011)
        assert made.duration == pytest.approx(0.5, abs=0.06)
        reds = made.frames[..., 0].float().mean((1, 2)).tolist()
        assert reds == pytest.approx([0, 40, 80, 120], abs=8)
    assert np.array_equal(
        read_video(path, num_frames=2).frames.numpy(), read_video(path).frames.numpy()[[0, 3]]
    )
    assert len(read_video(path, fps=1)) == 1
    other = read_video(path, backend="pillow")
    assert other.times == pytest.approx(read_video(path).times, abs=0.011)
    assert int((other.frames.int() - read_video(path).frames.int()).abs().max()) <= 8


def test_animations_within_limits_and_damaged() -> None:
    content = animation("WEBP", DELAYS)
    for options, message in {
        ("max_pixels", 99): "frames of 12 x 16 are over max_pixels=99",
        ("max_source_frames", 3): "more than max_source_frames=3 frames",
        ("max_bytes", 99): "max_bytes=99",
    }.items():
        with pytest.raises(MediaError, match=message):
            read_video(content, **dict([options]))
    with pytest.raises(MediaError, match="is not an animation that Pillow reads, or is damaged or cut short"):
        read_video(content[: len(content) * 2 // 3])
    with pytest.raises(MediaError, match="is a WebP picture; .*leave backend on 'auto' if it is animated"):
        read_video(content, backend="pyav")


def test_transparency_of_animations_lies_over_white() -> None:
    frames = [Image.new("RGBA", (16, 12), (0, 0, 40 * i, 0)) for i in (1, 2)]
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True, exact=True)
    assert (read_video(stream).frames == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_a_still_picture_is_no_clip(kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(FRAMES[0]).save(stream, kind)
    with pytest.raises(MediaError, match=r"is a still picture, not a video; pass it as image= \(--image\)"):
        read_video(stream)


def test_a_gif_of_one_frame_is_a_clip_of_one() -> None:
    stream = io.BytesIO()
    Image.fromarray(FRAMES[0]).save(stream, "GIF")
    assert len(read_video(stream)) == 1


def test_frames_keep_their_notes_when_sampled_again() -> None:
    clip = VideoFrames(
        torch.zeros(4, 2, 2, 3, dtype=torch.uint8), (0.0, 1.0, 2.0, 3.0), 4.0, 1.0, 4, "pyav", "x", ("n",)
    )
    assert read_video(clip, num_frames=2).notes == ("n",)
    assert read_video(clip, max_frames=2) is clip, "what was sampled once is not cut again"

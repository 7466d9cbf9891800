"""Bad media: one clear error each, that names the source and what to do; hostile input stays in bounds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vidcompress.errors import MediaError
from vidcompress.media.video.backends import backend_names, get_backend, register_backend
from vidcompress.media.video.read import read_video

BACKENDS = ["pyav", "decord"]


@pytest.fixture(scope="module")
def good(write_clip: Callable[..., Path]) -> Path:
    return write_clip("good.mp4", 40, g="10")


def refused(source: Any, message: str, **options: Any) -> None:
    with pytest.raises(MediaError, match=message) as caught:
        read_video(source, **options)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_files_that_are_no_clips(backend: str, tmp_path: Path, good: Path) -> None:
    if backend == "decord":
        pytest.importorskip("decord")
    empty, words, cut, tail = (tmp_path / name for name in ("empty.mp4", "words.mp4", "cut.mp4", "tail.mp4"))
    empty.touch()
    words.write_text("this is not a video " * 100)
    cut.write_bytes(good.read_bytes()[:2000])
    tail.write_bytes(good.read_bytes()[3000:])
    options = {"backend": backend}
    refused(tmp_path / "none.mp4", r"video='.*none.mp4': no such file", **options)
    refused(empty, r"empty.mp4' is empty \(0 bytes\)", **options)
    refused(words, "words.mp4' is not a video in a known format", **options)
    refused(cut, "cut.mp4' is not a video in a known format, or is damaged or cut short", **options)
    refused(tail, "tail.mp4' is not a video in a known format, or is damaged or cut short", **options)
    refused(tmp_path / "folder", "no such file", **options)
    refused(b"", r"empty \(0 bytes\)", **options)
    refused("http://127.0.0.1:1/a.mp4", "URLs are not opened; download", **options)
    refused("concat:a.mp4|b.mp4", "no such file", **options)


def test_a_clip_cut_short_behind_its_header(tmp_path: Path, good: Path) -> None:
    """With the table of contents in front, the header reads well and announces frames that are not there."""
    front = tmp_path / "front.mp4"
    with av.open(str(good)) as old, av.open(str(front), "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert len(read_video(front, num_frames=40)) == 40
    content = front.read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(content[: len(content) * 2 // 3])
    refused(short, r"short.mp4'.*cut short", num_frames=4)
    refused(short.read_bytes(), "cut short", num_frames=4)


@pytest.mark.parametrize(
    "name, codec", [("cut.mkv", "libx264"), ("cut.flv", "libx264"), ("cut.avi", "mpeg4")]
)
def test_other_containers_cut_short(
    name: str, codec: str, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    content = write_clip(f"whole_{name}", 120, codec=codec, g="10").read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    refused(tmp_path / name, rf"{name}' is cut short: it announces \d", num_frames=4)


def test_damage_inside(tmp_path: Path, good: Path) -> None:
    """Zeroes over the coded pictures: an error or the right number of frames, never a crash or a half result."""
    content = bytearray(good.read_bytes())
    start = content.index(b"mdat") + 4
    content[start + 900 : len(content) * 3 // 4] = bytes(len(content) * 3 // 4 - start - 900)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(bytes(content))
    refused(damaged, "damaged", num_frames=40)


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    refused(path, "holds no video, only sound")


def test_play_lists_open_nothing(tmp_path: Path, good: Path) -> None:
    """A play list could name any file or address; it is refused as a format, whatever it is called."""
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nfile:{good}\n#EXT-X-ENDLIST\n"
    for name, text in {
        "list.m3u8": hls,
        "list.mp4": hls,
        "list.txt": f"ffconcat version 1.0\nfile '{good}'\n",
    }.items():
        path = tmp_path / name
        path.write_text(text)
        refused(path, "is a play list, not a video in a known format")
        refused(io.BytesIO(text.encode()), "is a play list, not a video in a known format")


def test_names_with_protocols_are_files(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "concat:a|b %d.mp4"
    odd.write_bytes(good.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(read_video("concat:a|b %d.mp4", num_frames=3)) == 3


def test_limits(good: Path) -> None:
    refused(good, "48 x 64 are over max_pixels=1000", max_pixels=1000)
    refused(good, "more than max_source_frames=39", max_source_frames=39)
    refused(good, r"4 frames of 48 x 64 take .* max_bytes=36863", num_frames=4, max_bytes=4 * 48 * 64 * 3 - 1)
    assert (
        len(
            read_video(
                good, num_frames=4, max_bytes=4 * 48 * 64 * 3, max_pixels=48 * 64, max_source_frames=40
            )
        )
        == 4
    )
    refused([np.zeros((4, 4, 3), np.uint8)] * 3, "max_source_frames=2", max_source_frames=2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_frames": 0}, "num_frames=0: must be from 1 to 300"),
        ({"num_frames": 301}, "num_frames=301: must be from 1 to 300"),
        ({"num_frames": 2.0}, "num_frames=2.0: must be a whole number"),
        ({"fps": 0}, "fps=0: must be a positive"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"fps": 1, "num_frames": 1}, "num_frames=1 and fps=1 exclude each other"),
        ({"max_frames": 0}, "max_frames=0"),
        ({"backend": "ffmpeg"}, r"backend='ffmpeg'.*\['auto', 'decord', 'pillow', 'pyav', 'torchcodec'\]"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str, good: Path) -> None:
    refused(good, message, **options)


@pytest.mark.parametrize(
    "source, message",
    [
        (5, "video: got int"),
        ([], "video: got an empty list"),
        (
            [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)],
            r"frame 1 is \(4, 5\), the first one \(4, 4\)",
        ),
        (np.zeros((4, 4, 3), np.uint8), r"shape \(4, 4, 3\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"shape \(0, 4, 4, 3\)"),
        (np.zeros((2, 4, 4, 3)), "float64"),
    ],
)
def test_bad_frames(source: Any, message: str) -> None:
    refused(source, message)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    refused(tmp_path, "folder without pictures")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    refused(tmp_path, "b.png' is not a picture")
    refused(np.zeros((2, 4, 4, 3), np.uint8), "source_fps=0", source_fps=0)


def test_a_stream_must_seek(good: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    refused(Pipe(good.read_bytes()), "cannot seek; read it into io.BytesIO")


def test_decord_names_the_backend_that_would_serve(good: Path, write_clip: Callable[..., Path]) -> None:
    pytest.importorskip("decord")
    refused(
        good.read_bytes(), "backend='decord' reads local files only; use backend='pyav'", backend="decord"
    )
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this FFmpeg build cannot make an AV1 clip")
    path = write_clip("modern.mp4", 8, height=64, width=64, codec="libsvtav1", preset="12")
    refused(path, "backend='decord' cannot read av1; use backend='pyav'", backend="decord")
    assert len(read_video(path, num_frames=8)) == 8


def test_backends_are_registered_once() -> None:
    assert backend_names() == ["auto", "decord", "pillow", "pyav", "torchcodec"]
    assert type(get_backend("auto")) is type(get_backend("pyav"))
    for taken in ("auto", "pyav"):
        with pytest.raises(MediaError, match=f"'{taken}' is taken"):
            register_backend(taken)(type(get_backend("pyav")))

"""The torchcodec backend: what it asks of the library and checks in return, on a stand-in; the library, if it loads.

torchcodec needs FFmpeg's shared libraries and a build for the installed torch, which few machines that run these tests
have. `StandIn` has the documented interface of its `VideoDecoder`, and PyAV behind it.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

from odd_media import joined, photo, write_pictures
from vidcompress.errors import MediaError
from vidcompress.media import read_video
from vidcompress.media.files import ReadOnlyFile


class StandIn:
    """A `VideoDecoder` that decodes everything at once; `slip` and `lost` make it err."""

    slip, lost, asked = 0, 0, SimpleNamespace()

    def __init__(self, source: Any, **options: Any) -> None:
        type(self).asked = SimpleNamespace(source=source, **options)
        with av.open(source) as container:
            frames = list(container.decode(container.streams[options["stream_index"]]))
        self.frames = frames[: len(frames) - self.lost]
        turned = [np.rot90(f.to_ndarray(format="rgb24"), k=f.rotation // 90) for f in self.frames]
        self.pixels = torch.from_numpy(np.stack(turned))
        self.metadata = SimpleNamespace(begin_stream_seconds=self.frames[0].time)

    def __len__(self) -> int:
        return len(self.frames)

    def get_frames_at(self, indices: list[int]) -> Any:
        at = [max(0, min(len(self) - 1, i + (self.slip if i else 0))) for i in indices]
        times = torch.tensor([self.frames[i].time for i in at], dtype=torch.float64)
        return SimpleNamespace(data=self.pixels[at], pts_seconds=times)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    package, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = type("VideoDecoder", (StandIn,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    return decoders.VideoDecoder  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def clip(write_clip: Callable[..., Path]) -> Path:
    return write_clip("torchcodec.mp4", 24, g="8", bf="2")


def same(path: Any, **options: Any) -> None:
    one, two = read_video(path, **options), read_video(path, backend="torchcodec", **options)
    assert (one.backend, two.backend) == ("pyav", "torchcodec")
    assert torch.equal(one.frames, two.frames)
    assert (one.times, one.fps, one.duration) == (two.times, two.fps, two.duration)
    assert (one.total_frames, one.notes) == (two.total_frames, two.notes)


def test_same_frames_at_the_same_times(clip: Path, write_clip: Any, stand_in: Any) -> None:
    same(clip, num_frames=5)
    assert stand_in.asked.dimension_order == "NHWC"
    assert (stand_in.asked.seek_mode, stand_in.asked.device, stand_in.asked.stream_index) == (
        "exact",
        "cpu",
        0,
    )
    same(clip, fps=100)
    same(write_clip("torchcodec_turned.mp4", 3, rotation=90))


def test_streams_are_handed_over_and_put_back(clip: Path, stand_in: Any) -> None:
    stream = io.BytesIO(clip.read_bytes())
    stream.seek(7)
    assert len(read_video(stream, num_frames=3, backend="torchcodec")) == 3
    assert isinstance(stand_in.asked.source, ReadOnlyFile), "torchcodec gets nothing to write to"
    assert stream.tell() == 7


def test_other_frames_than_asked_for_are_refused(clip: Path, stand_in: Any, write_clip: Any) -> None:
    message = "torchcodec finds 24 frames where 24 are shown, or returned one 0.033 s .*use backend='pyav'"
    stand_in.slip = 1
    with pytest.raises(MediaError, match=message):
        read_video(clip, num_frames=5, backend="torchcodec")
    stand_in.slip, stand_in.lost = 0, 2
    with pytest.raises(MediaError, match="torchcodec finds 22 frames where 24 are shown"):
        read_video(clip, num_frames=1, backend="torchcodec")
    with pytest.raises(MediaError, match="shows mirrored clips as stored; use backend='pyav'"):
        read_video(write_clip("torchcodec_mirror.mp4", 2, mirror=True), backend="torchcodec")


@pytest.mark.parametrize("pix_fmt, levels, reason", [
    ("bgra", 2, "does not lay transparency over white, which the pixel format bgra may hold"),
    ("yuv420p", 2, "takes full-range colours of yuv420p for limited ones"),
    ("yuv420p", 1, None),
])  # fmt: skip
def test_colours_that_it_gets_wrong_are_refused(
    pix_fmt: str, levels: int, reason: str | None, stand_in: Any, tmp_path: Path
) -> None:
    path = tmp_path / "colours.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pix_fmt
        stream.codec_context.color_range = levels
        for number in range(4):
            picture = np.full((48, 64, 3), 60 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.color_range = levels
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if reason is None:
        same(path, num_frames=4)
        return
    stand_in.asked = None
    with pytest.raises(MediaError, match=f"backend='torchcodec' {reason}; use backend='pyav'"):
        read_video(path, backend="torchcodec")
    assert stand_in.asked is None, "it is not even asked"


def test_parts_and_turned_pictures_are_refused(stand_in: Any, tmp_path: Path) -> None:
    parts = joined(tmp_path, "mpg", [12, 12])
    with pytest.raises(MediaError, match="mixes the frames of files whose time stamps start again; use"):
        read_video(parts, backend="torchcodec")
    turned = write_pictures(tmp_path / "turned.avi", [photo(number, 6) for number in range(3)])
    with pytest.raises(MediaError, match="does not turn clips as their pictures' EXIF says; use"):
        read_video(turned, backend="torchcodec")
    plain = write_pictures(tmp_path / "plain.avi", [photo(number, 1) for number in range(3)])
    same(plain, num_frames=3)


@pytest.mark.parametrize("error", [RuntimeError("Could not seek\nsecond line"), KeyError("Could not seek")])
def test_its_errors_name_another_backend(
    error: Exception, clip: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, indices: list[int]) -> Any:
        raise error

    monkeypatch.setattr(stand_in, "get_frames_at", fail)
    with pytest.raises(MediaError, match=r"torchcodec failed \('?Could not seek'?\); use backend='pyav'"):
        read_video(clip, backend="torchcodec")


def test_limits_hold_before_it_is_asked(clip: Path, stand_in: Any, tmp_path: Path) -> None:
    stand_in.asked = None
    with pytest.raises(MediaError, match="over max_pixels=99"):
        read_video(clip, backend="torchcodec", max_pixels=99)
    with pytest.raises(MediaError, match="max_bytes=99"):
        read_video(clip, backend="torchcodec", max_bytes=99)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n")
    with pytest.raises(MediaError, match="is a play list"):
        read_video(tmp_path / "list.mp4", backend="torchcodec")
    assert stand_in.asked is None


def test_what_is_missing_is_said(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.delitem(sys.modules, "torchcodec.decoders", raising=False)
    with pytest.raises(
        MediaError, match="torchcodec does not import .*pip install 'torchcodec.*FFmpeg's shared"
    ):
        read_video(clip, backend="torchcodec")


def test_the_library_itself(clip: Path, write_clip: Any) -> None:
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        pytest.skip("torchcodec does not import here: it needs a build for this torch and FFmpeg's libraries")
    same(clip, num_frames=7)
    same(clip.read_bytes(), num_frames=7)
    for turn in (90, 180, -90):
        same(write_clip(f"torchcodec_turned_{turn}.mp4", 3, rotation=turn))
    same(write_clip("torchcodec_open.mkv", 40, g="12", x264_params="open-gop=1:bframes=3"), num_frames=9)
    same(write_clip("torchcodec_gif.gif", 8, codec="gif", pix_fmt="rgb8", rate=10))
    with pytest.raises(MediaError, match="use backend='pyav'"):
        read_video(write_clip("torchcodec.ts", 24, g="8", bf="2"), num_frames=5, backend="torchcodec")

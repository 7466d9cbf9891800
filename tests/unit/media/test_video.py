"""Decoding: seeking gives the very frames that reading everything gives, on every kind of clip."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vidcompress.media.video.frames import Reread, VideoFrames
from vidcompress.media.video.packets import PacketIndex, Segment, plan_segments
from vidcompress.media.video.read import read_video
from vidcompress.media.video.readers import pyav_reader
from vidcompress.media.video.sampling import choose_indices, sample_indices

GAPS = np.random.default_rng(1).integers(10, 90, 120)
CLIPS: dict[str, dict[str, Any]] = {
    "long_gop.mp4": {"count": 300, "g": "250", "bf": "3"},
    "short_gop.mp4": {"count": 120, "g": "12", "bf": "2"},
    "open_gop.mp4": {"count": 120, "g": "24", "x264_params": "open-gop=1:scenecut=0:bframes=5:b-pyramid=2"},
    "refresh.mp4": {"count": 120, "g": "24", "x264_params": "intra-refresh=1"},
    "variable.mp4": {"count": 120, "g": "24", "bf": "2", "stamps": np.cumsum(GAPS).tolist()},
    "matroska.mkv": {"count": 120, "g": "24", "bf": "2"},
    "transport.ts": {"count": 120, "g": "24", "bf": "2"},
    "flash.flv": {"count": 120, "g": "24"},
    "old.avi": {"count": 120, "codec": "mpeg4", "g": "24", "bf": "2"},
    "raw.h264": {"count": 60, "g": "24", "bf": "2"},
    "vp9.webm": {"count": 60, "codec": "libvpx-vp9", "g": "20", "deadline": "realtime", "cpu_used": "8"},
    "one.mp4": {"count": 1},
    "two.mp4": {"count": 2, "bf": "0"},
    "odd_size.mp4": {"count": 30, "height": 35, "width": 51, "pix_fmt": "yuv444p"},
}


@pytest.fixture(scope="module")
def clip(write_clip: Callable[..., Path]) -> Callable[[str], Path]:
    return lambda name: write_clip(
        name, CLIPS[name]["count"], **{k: v for k, v in CLIPS[name].items() if k != "count"}
    )


def indexed(rows: list[tuple[int, int, bool, bool]]) -> PacketIndex | None:
    """An index of (pts, dts, key, hidden) rows."""
    pts, dts, key, hidden = (np.array(column) for column in zip(*rows, strict=True))
    return PacketIndex.build(pts, dts, key, hidden)


@pytest.mark.parametrize("name", CLIPS)
def test_sampling_gives_the_frames_of_a_full_decode(name: str, clip: Any, decode_all: Any) -> None:
    path = clip(name)
    everything = decode_all(path)
    assert len(everything) == CLIPS[name]["count"]
    for wanted in (1, 2, 5, 8, 33):
        made = read_video(path, num_frames=wanted)
        assert made.total_frames == len(everything)
        expected = everything[sample_indices(len(everything), wanted)]
        assert np.array_equal(made.frames.numpy(), expected), f"num_frames={wanted}"


@pytest.mark.parametrize("name", ["open_gop.mp4", "variable.mp4", "matroska.mkv", "refresh.mp4"])
def test_every_single_frame_can_be_reached(name: str, clip: Any, decode_all: Any) -> None:
    """Each frame on its own, so that each is once the first after a seek."""
    path = clip(name)
    everything = decode_all(path)
    request = pyav_reader.Request(None, None, 300)
    source = pyav_reader.Clip(str(path), str(path))
    index, _ = pyav_reader.read_index(source, request)
    assert index is not None
    for wanted in range(0, len(everything), 5):
        segments = plan_segments(index, [wanted])
        assert len(segments) == 1
        made = _read_frame(source, request, index, wanted)
        if made is not None:
            assert np.array_equal(made, everything[wanted]), f"frame {wanted}"
        else:
            assert name == "refresh.mp4", "only a stream without clean key frames may need its start"


def _read_frame(source: Any, request: Any, index: PacketIndex, wanted: int) -> Any:
    try:
        (frame,) = pyav_reader._indexed(source, request, index, [wanted])
    except Reread:
        return None
    return frame.to_ndarray(format="rgb24")


def test_frames_hidden_by_an_edit_list(clip: Any, tmp_path: Path, decode_all: Any, monkeypatch: Any) -> None:
    """A cut that starts between key frames: the frames before it are decoded and never shown."""
    path = tmp_path / "edited.mp4"
    with (
        av.open(str(clip("short_gop.mp4"))) as old,
        av.open(
            str(path), "w", container_options={"avoid_negative_ts": "disabled", "use_editlist": "1"}
        ) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                shift = int(0.5 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                new.mux(packet)
    everything = decode_all(path)
    assert len(everything) < 120, "the edit list hides frames"
    monkeypatch.setattr(pyav_reader, "_read_all", lambda *a: pytest.fail("the index was not used"))
    made = read_video(path, num_frames=9)
    assert made.total_frames == len(everything)
    assert made.times[0] == 0.0
    assert np.array_equal(made.frames.numpy(), everything[sample_indices(len(everything), 9)])


def test_sparse_samples_do_not_decode_everything(clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    original = pyav_reader._packets_from

    def counted(*args: Any) -> Any:
        for packet in original(*args):
            decoded.append(packet.pts)
            yield packet

    monkeypatch.setattr(pyav_reader, "_packets_from", counted)
    read_video(clip("short_gop.mp4"), num_frames=4)
    assert 4 <= len(decoded) < 70, "120 would be all"


@given(
    groups=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    wanted=st.integers(1, 30),
    gap=st.integers(0, 30),
)
@settings(max_examples=200, deadline=None)
def test_plans_start_at_or_before_their_targets(groups: list[int], wanted: int, gap: int) -> None:
    rows: list[tuple[int, int, bool, bool]] = []
    for group in groups:
        # As in an open group, the two packets after a key packet are shown before it, unless it is the first.
        shift = {0: 2, 1: -1, 2: -1} if group > 2 and rows else {}
        for place in range(group):
            rows.append(((len(rows) + shift.get(place, 0)) * 10, len(rows) * 10, place == 0, False))
    index = indexed(rows)
    assert index is not None
    frames = sample_indices(len(index), wanted)
    segments = plan_segments(index, frames, seek_gap=gap)
    targets = [pts for segment in segments for pts in segment.targets]
    assert targets == [int(index.pts[index.shown[frame]]) for frame in frames]
    for segment in segments:
        assert index.key[segment.start]
        if segment.start:
            assert int(index.pts[segment.start]) <= min(segment.targets), (
                "a leading frame leans on the group before"
            )
    starts = [segment.start for segment in segments]
    assert starts == sorted(set(starts))


def test_key_packets_shown_out_of_order_start_earlier() -> None:
    times = {0: True, 50: True, 30: True, 40: False, 60: True}  # pts: key, in the order of the file
    index = indexed([(pts, place, key, False) for place, (pts, key) in enumerate(times.items())])
    assert index is not None
    assert plan_segments(index, [2], seek_gap=0) == [Segment(0, (40,))]
    assert plan_segments(index, [3], seek_gap=0) == [Segment(2, (50,))]


class FakeContainer:
    """Seeks always land on the packet with this time stamp."""

    def __init__(self, landing: int) -> None:
        self.landing, self.asked = landing, []

    def seek(self, stamp: int, **options: Any) -> None:
        self.asked.append(stamp)

    def demux(self, stream: Any) -> Any:
        frame = SimpleNamespace(pts=self.landing, interlaced_frame=False, is_corrupt=True)
        yield SimpleNamespace(pts=self.landing, decode=lambda: [frame])


def test_a_seek_that_lands_too_late_is_noticed() -> None:
    index = indexed([(i * 10, i * 10 - 5, i % 5 == 0, False) for i in range(20)])
    assert index is not None
    late, early = FakeContainer(150), FakeContainer(50)
    own = SimpleNamespace(decode=lambda packet: packet.decode(), flush=lambda: None)
    with pytest.raises(Reread, match="did not lead to its frames"):
        next(pyav_reader._packets_from(late, None, own, index, 10))
    assert late.asked == [100, 95], "by presentation time, then by decode time"
    assert next(pyav_reader._packets_from(early, None, own, index, 10)).pts == 50
    with pytest.raises(Reread, match="did not lead to its frames"):
        next(pyav_reader._decode_segment(early, None, own, index, Segment(10, (50,))))  # corrupt: not kept


@pytest.mark.parametrize("name", ["long_gop.mp4", "short_gop.mp4", "matroska.mkv", "odd_size.mp4", "one.mp4"])
def test_both_backends_agree(name: str, clip: Any) -> None:
    pytest.importorskip("decord")
    path = clip(name)
    one, two = (read_video(path, num_frames=6, backend=backend) for backend in ("pyav", "decord"))
    assert (one.backend, two.backend) == ("pyav", "decord")
    assert one.frames.shape == two.frames.shape
    assert torch.equal(one.frames, two.frames)
    assert one.total_frames == two.total_frames
    np.testing.assert_allclose(one.times, two.times, atol=2e-3)
    np.testing.assert_allclose((one.duration, one.fps), (two.duration, two.fps), rtol=0.02, atol=0.04)


def test_times_and_rates(clip: Any) -> None:
    ten_seconds = read_video(clip("long_gop.mp4"), num_frames=2)
    assert ten_seconds.times == pytest.approx((0.0, 299 / 30))
    assert ten_seconds.duration == pytest.approx(10.0, abs=1e-3)
    assert ten_seconds.fps == pytest.approx(30.0)
    variable = read_video(clip("variable.mp4"), num_frames=120)
    assert variable.times == pytest.approx(tuple((np.cumsum(GAPS) - GAPS[0]) / 1000), abs=1e-3)
    assert read_video(clip("long_gop.mp4"), fps=2).times == pytest.approx(
        tuple(i / 2 for i in range(20)), abs=1e-3
    )
    assert len(read_video(clip("long_gop.mp4"), fps=30, max_frames=7)) == 7
    assert len(read_video(clip("long_gop.mp4"))) == 32


def test_decord_turns_clips_the_same_way(write_clip: Any) -> None:
    """An opinion from outside on which way is up."""
    pytest.importorskip("decord")
    path = write_clip("turned_wide.mp4", 3, height=64, width=128, rotation=90)
    one, two = (read_video(path, num_frames=3, backend=backend) for backend in ("pyav", "decord"))
    assert one.frames.shape == two.frames.shape == (3, 128, 64, 3)
    assert torch.equal(one.frames, two.frames)


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_rotation_in_the_file_is_applied(turn: int, write_clip: Any, decode_all: Any) -> None:
    path = write_clip(f"turned_{turn}.mp4", 3, rotation=turn)
    stored = decode_all(path)
    made = read_video(path, num_frames=3).frames.numpy()
    assert made.shape == ((3, 64, 48, 3) if turn % 180 else (3, 48, 64, 3))
    assert np.array_equal(made, np.rot90(stored, k=turn // 90, axes=(1, 2)))


def test_bytes_streams_and_paths_are_the_same(clip: Any) -> None:
    path = clip("short_gop.mp4")
    expected = read_video(path, num_frames=5)
    for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), open(path, "rb")):
        assert torch.equal(read_video(source, num_frames=5).frames, expected.frames)
        getattr(source, "close", lambda: None)()


def test_pictures_as_a_clip(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 8, 10, 3), dtype=np.uint8)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame_{i}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    made = read_video(tmp_path, source_fps=4)
    assert np.array_equal(made.frames.numpy(), frames), "frame_2 comes before frame_10"
    assert made.times[:3] == (0.0, 0.25, 0.5)
    assert (made.duration, made.backend, made.total_frames) == (3.0, "memory", 12)
    assert np.array_equal(read_video(list(frames), num_frames=3).frames.numpy(), frames[[0, 5, 11]])
    assert read_video(made, fps=2).times == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)


@given(total=st.integers(1, 5000), wanted=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_indices_are_those_of_the_papers(total: int, wanted: int) -> None:
    made = sample_indices(total, wanted)
    if wanted >= total:
        assert made == list(range(total))
    else:
        assert made == np.linspace(0, total - 1, wanted, dtype=int).tolist()
    assert made == sorted(set(made))


def test_rate_sampling() -> None:
    options: dict[str, Any] = {"num_frames": None, "max_frames": 10}
    assert choose_indices(100, 29.97, fps=1, **options) == [0, 30, 60, 90]
    assert choose_indices(100, 29.97, fps=10, **options) == sample_indices(100, 10)
    assert choose_indices(5, 25.0, fps=100, **options) == [0, 1, 2, 3, 4]
    assert choose_indices(20, 0.0, num_frames=None, fps=None, max_frames=10) == sample_indices(20, 10)


def test_frames_are_checked() -> None:
    with pytest.raises(ValueError, match="pass one per frame"):
        VideoFrames(torch.zeros(2, 4, 4, 3, dtype=torch.uint8), (0.0,), 1.0, 1.0, 2, "memory", "x")

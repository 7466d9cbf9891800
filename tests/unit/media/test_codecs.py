"""Every codec and container people have: the frames of a full decode, and the same from every backend that reads it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vidcompress.errors import MediaError
from vidcompress.media import read_video
from vidcompress.media.video.frames import Timeline
from vidcompress.media.video.sampling import sample_indices

X265 = {"codec": "libx265", "x265_params": "log-level=none:keyint=8"}
VP9 = {"codec": "libvpx-vp9", "deadline": "realtime", "cpu_used": "8"}
AV1 = {"codec": "libsvtav1", "preset": "12", "g": "8"}
CLIPS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"g": "8", "bf": "2"},
    "h264.mov": {"g": "8", "bf": "2"},
    "h264.mkv": {"g": "8", "bf": "2"},
    "h264.flv": {"g": "8"},
    "h264.ts": {"g": "8", "bf": "2"},
    "hevc.mp4": X265,
    "hevc.mkv": X265,
    "hevc.ts": X265,
    "vp8.webm": {**VP9, "codec": "libvpx"},
    "vp9.webm": {**VP9, "g": "8"},
    "vp9.mp4": {**VP9, "g": "8"},
    "av1.mp4": AV1,
    "av1.webm": AV1,
    "mpeg4.avi": {"codec": "mpeg4", "g": "8", "bf": "2"},
    "mpeg4.mp4": {"codec": "mpeg4", "g": "8", "bf": "2"},
    "mpeg2.mpg": {"codec": "mpeg2video", "g": "8", "bf": "2"},
    "mpeg2.ts": {"codec": "mpeg2video", "g": "8", "bf": "2"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "lossless.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "windows.wmv": {"codec": "wmv2"},
    "phone.3gp": {"codec": "h263", "height": 96, "width": 128},
    "ten_bits.mp4": {"pix_fmt": "yuv420p10le"},
    "ten_bits_hevc.mp4": {**X265, "pix_fmt": "yuv420p10le"},
    "odd.mp4": {"height": 35, "width": 51, "pix_fmt": "yuv444p"},
    "fields.mp4": {"x264_params": "tff=1:interlaced=1"},
    "moving.gif": {"codec": "gif", "pix_fmt": "rgb8", "rate": 10},
    "moving.png": {"codec": "apng", "pix_fmt": "rgb24", "rate": 10, "container_format": "apng"},
    "raw.hevc": {**X265, "container_format": "hevc"},
    "raw.ivf": VP9,
    "raw.y4m": {"codec": "wrapped_avframe", "container_format": "yuv4mpegpipe"},
}
COUNT = 18
DECORD_CANNOT = {
    **dict.fromkeys(("h264.ts", "hevc.ts", "mpeg2.ts"), "cannot read transport streams"),
    **dict.fromkeys(("av1.mp4", "av1.webm"), "cannot read av1"),
    **dict.fromkeys(("moving.png", "raw.hevc", "raw.ivf"), "decord failed"),
    **dict.fromkeys(("ten_bits.mp4", "ten_bits_hevc.mp4"), "cannot read the pixel format yuv420p10le"),
    "prores.mov": "cannot read the pixel format yuv422p10le",
    "moving.gif": "cannot read the pixel format bgra",
    "fields.mp4": "cannot read fields of interlaced video",
}


@pytest.fixture(scope="module")
def clip(write_clip: Callable[..., Path]) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        return write_clip(f"codecs_{name}", COUNT, **{"height": 48, "width": 64, **CLIPS[name]})

    return make


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_of_a_full_decode(name: str, clip: Any, decode_all: Any) -> None:
    everything = decode_all(clip(name))
    assert len(everything) == COUNT
    for wanted in (1, 4, 7):
        made = read_video(clip(name), num_frames=wanted)
        assert (made.backend, made.total_frames, made.notes) == ("pyav", COUNT, ())
        assert np.array_equal(made.frames.numpy(), everything[sample_indices(COUNT, wanted)])
    rate = CLIPS[name].get("rate", 25 if name.startswith("raw.hevc") else 30)
    assert made.fps == pytest.approx(rate, rel=0.01)
    np.testing.assert_allclose(made.times, np.array(sample_indices(COUNT, 7)) / rate, atol=2e-3)
    assert made.duration == pytest.approx(COUNT / rate, abs=0.05)


@pytest.mark.parametrize("name", CLIPS)
def test_decord_returns_the_same_or_says_what_it_cannot(name: str, clip: Any) -> None:
    pytest.importorskip("decord")
    if name in DECORD_CANNOT:
        with pytest.raises(MediaError, match=f"{DECORD_CANNOT[name]}.*use backend='pyav'"):
            read_video(clip(name), num_frames=5, backend="decord")
        return
    same(clip(name), "decord")


def same(path: Path, backend: str) -> None:
    """The very same numbers: FFmpeg's decoders of these codecs, and the conversions of these pixel formats, are exact
    to the bit in every version."""
    one, two = read_video(path, num_frames=5), read_video(path, num_frames=5, backend=backend)
    assert (two.backend, two.times, two.total_frames) == (backend, one.times, one.total_frames)
    assert (two.fps, two.duration, two.notes) == (one.fps, one.duration, one.notes)
    assert np.array_equal(one.frames.numpy(), two.frames.numpy())
    assert len(np.unique(one.frames.numpy().mean(axis=(1, 2, 3)))) == len(one), "its frames can be told apart"


TURNS = [(0, True), (90, False), (90, True), (180, False), (180, True), (-90, False), (-90, True)]


@pytest.mark.parametrize("turn, mirror", TURNS)
def test_turned_and_mirrored_clips(turn: int, mirror: bool, write_clip: Any, decode_all: Any) -> None:
    size = {"height": 64, "width": 128}  # decord garbles others when they are turned
    path = write_clip(f"display_{turn}_{mirror}.mp4", 3, rotation=turn, mirror=mirror, **size)
    expected = np.rot90(decode_all(path), k=turn // 90, axes=(1, 2))
    expected = expected[:, :, ::-1] if mirror else expected
    assert np.array_equal(read_video(path).frames.numpy(), expected)
    pytest.importorskip("decord")
    if not mirror:
        same(path, "decord")
        return
    with pytest.raises(MediaError, match="cannot read mirrored clips.*use backend='pyav'"):
        read_video(path, backend="decord")


def test_decord_refuses_what_it_garbles(write_clip: Any) -> None:
    pytest.importorskip("decord")
    with pytest.raises(MediaError, match="backend='decord' garbles clips of this width; use .*'pyav'"):
        read_video(write_clip("turned_small.mp4", 3, rotation=90), backend="decord")


# Sizes of 2, 1 and 3 more than a multiple of 16: conversions by vector instructions have edges.
ROWS = {"even": [(48, 64), (50, 66), (48, 63)], "odd": [(47, 64), (49, 67)]}
FORMATS = {
    **dict.fromkeys(("yuv420p", "yuv422p"), ("even",)),
    **dict.fromkeys(
        ("yuv444p", "yuv444p10le", "yuv444p12le", "gray", "gray10le", "gray16le", "bgr0"), ("even", "odd")
    ),
    **dict.fromkeys(("gbrp", "rgb24", "bgr24", "yuvj444p"), ("even", "odd")),
    **dict.fromkeys(
        ("yuv420p10le", "yuv420p12le", "yuv422p10le", "yuv440p", "yuv410p", "gbrp10le", "gbrp12le"), ()
    ),
    **dict.fromkeys(("yuva420p", "yuva444p", "bgra"), ()),
}
"""Pixel format -> the heights at which decord makes PyAV's colours."""
HOLDERS = {
    "rgb24": ("png", "mov"),
    "bgr24": ("rawvideo", "avi"),
    "gbrp": ("utvideo", "avi"),
    "yuvj444p": ("mjpeg", "mkv"),
}
"""Codec and container of the pixel formats that FFV1 does not hold."""


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_decord_reads_a_pixel_format_rightly_or_not_at_all(pix_fmt: str, rows: str, write_clip: Any) -> None:
    """A texture with hard edges, which shows every filter of the colour planes."""
    pytest.importorskip("decord")
    codec, ending = HOLDERS.get(pix_fmt, ("ffv1", "mkv"))
    for height, width in ROWS[rows]:
        path = write_clip(
            f"format_{pix_fmt}_{height}_{width}.{ending}",
            5,
            codec=codec,
            pix_fmt=pix_fmt,
            height=height,
            width=width,
        )
        if rows in FORMATS[pix_fmt]:
            same(path, "decord")
            continue
        with pytest.raises(MediaError, match=f"cannot read the pixel format {pix_fmt}.*use backend='pyav'"):
            read_video(path, backend="decord")


@pytest.mark.parametrize("stated", [0, 1, 2], ids=["unstated", "limited", "full"])
@pytest.mark.parametrize("pix_fmt, depth", [("gray", 8), ("gray10le", 10), ("gray16le", 16)])
def test_decord_reads_no_deep_grey_of_limited_range(
    pix_fmt: str, depth: int, stated: int, tmp_path: Path
) -> None:
    pytest.importorskip("decord")
    path = tmp_path / "ramp.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.height, stream.width, stream.pix_fmt = 32, 64, pix_fmt
        stream.codec_context.color_range = stated
        for number in range(3):
            ramp = np.linspace(0, 2**depth - 1, 64).astype("<u2" if depth > 8 else "u1") // (1 + number)
            frame = av.VideoFrame.from_ndarray(
                np.tile(ramp, (32, 1)), format="gray16le" if depth > 8 else "gray"
            )
            made = av.VideoFrame(64, 32, pix_fmt)
            made.planes[0].update(bytes(frame.planes[0]))
            made.color_range = stated
            container.mux(stream.encode(made))
        container.mux(stream.encode())
    if stated != 1 or depth == 8:
        same(path, "decord")
        return
    with pytest.raises(MediaError, match=f"{pix_fmt} of limited range.*use backend='pyav'"):
        read_video(path, backend="decord")


def test_decord_refuses_a_size_that_changes_among_the_wanted_frames(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = tmp_path / "growing.mjpeg.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        container.start_encoding()
        for number in range(6):
            picture = Image.new("RGB", (64, 48) if number < 3 else (96, 64), (40 * number, 80, 9))
            data = io.BytesIO()
            picture.save(data, "JPEG")
            packet = av.Packet(data.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 5)
            packet.is_keyframe = True
            container.mux(packet)
    assert read_video(path, num_frames=6).notes == ("frames of other sizes were scaled to that of the first",)
    with pytest.raises(MediaError, match="cannot read clips whose frames change their size or pixel format"):
        read_video(path, num_frames=6, backend="decord")


def test_open_groups_and_last_frames_in_decord(write_clip: Any) -> None:
    """decord's own seeking returns frame 20 for 22 here."""
    pytest.importorskip("decord")
    same(write_clip("open_end.mp4", 23, g="3", bf="1", x264_params="open-gop=1"), "decord")


def test_other_angles_are_left_alone(write_clip: Any, decode_all: Any) -> None:
    path = write_clip("askew.mp4", 2, rotation=30)
    assert np.array_equal(read_video(path).frames.numpy(), decode_all(path))


SPACES = [("libx264", "yuv420p"), ("libx264", "yuv420p10le"), ("libvpx-vp9", "yuv420p")]


@pytest.mark.parametrize("matrix, tag", [("ITU709", 1), ("ITU601", 6), ("ITU601", 2)])
@pytest.mark.parametrize("levels, mark", [("MPEG", 1), ("JPEG", 2)])
@pytest.mark.parametrize("codec, pix_fmt", SPACES)
def test_colours_follow_the_stated_matrix_and_range(
    matrix: str, tag: int, levels: str, mark: int, codec: str, pix_fmt: str, tmp_path: Path
) -> None:
    """Tag 2 states none: BT.601. A wrong matrix or range is off by 8 levels or more in some channel."""
    from av.video.reformatter import ColorRange, Colorspace

    colour = (200, 40, 90)
    frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), colour, np.uint8), format="rgb24").reformat(
        format=pix_fmt, dst_colorspace=Colorspace[matrix], dst_color_range=ColorRange[levels]
    )
    frame.colorspace, frame.color_range = tag, mark
    path = tmp_path / "colour.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5, options={"crf": "1"})
        stream.height = stream.width = 32
        stream.pix_fmt = pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, mark
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    made = read_video(path).frames[0].numpy().reshape(-1, 3).mean(0)
    np.testing.assert_allclose(made, colour, atol=4)


def remux(source: Path, target: Path, *, shift: float = 0.0, copies: int = 1, **options: Any) -> Path:
    """Copy a clip's packets into another container, later or earlier by `shift` seconds, into several streams."""
    with av.open(str(source)) as old, av.open(str(target), "w", **options) as new:
        streams = [new.add_stream_from_template(old.streams.video[0]) for _ in range(copies)]
        for stream in streams:
            for packet in old.demux(video=0):
                if packet.dts is not None:
                    ticks = int(shift / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                    packet.stream = stream
                    new.mux(packet)
            old.seek(0)
    return target


@pytest.mark.parametrize("name", ["later.mp4", "later.mkv", "later.mov"])
def test_times_count_from_the_first_frame(name: str, tmp_path: Path, clip: Any, decode_all: Any) -> None:
    path = remux(
        clip("h264.mp4"), tmp_path / name, shift=3.0, container_options={"avoid_negative_ts": "disabled"}
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time > 0
    made = read_video(path, num_frames=6)
    assert np.array_equal(made.frames.numpy(), decode_all(path)[sample_indices(COUNT, 6)])
    np.testing.assert_allclose(made.times, np.array(sample_indices(COUNT, 6)) / 30, atol=2e-3)
    assert made.duration == pytest.approx(COUNT / 30, abs=0.05)
    pytest.importorskip("decord")
    same(path, "decord")


def test_one_key_frame_in_six_hundred(write_clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip is decoded once from its start, however many frames are wanted."""
    from vidcompress.media.video.readers import pyav_reader

    path = write_clip(
        "one_key.mp4", 600, height=16, width=16, g="600", bf="3", x264_params="scenecut=0", preset="ultrafast"
    )
    decoded, kept = [], []
    packets, keep = pyav_reader._packets_from, pyav_reader._Keeper.keep
    monkeypatch.setattr(
        pyav_reader, "_packets_from", lambda *a: (decoded.append(p.pts) or p for p in packets(*a))
    )
    monkeypatch.setattr(pyav_reader._Keeper, "keep", lambda self, f: (kept.append(f.pts), keep(self, f)))
    read_video(path, num_frames=40)
    assert len(decoded) == len(set(decoded)), "no packet is decoded twice"
    assert 590 <= len(decoded) <= 601, "the last one is the end of the stream"
    assert len(kept) == 40, "frames in between are not converted"


def test_several_video_streams(tmp_path: Path, clip: Any, write_clip: Any, decode_all: Any) -> None:
    """The default stream is read and a note says so; decord chooses by itself and is not asked."""
    path = remux(clip("h264.mp4"), tmp_path / "two.mkv", copies=2)
    made = read_video(path, num_frames=5)
    assert np.array_equal(made.frames.numpy(), decode_all(clip("h264.mp4"))[sample_indices(COUNT, 5)])
    assert made.notes == ("the file has several video streams; number 0 was read",)
    pytest.importorskip("decord")
    with pytest.raises(MediaError, match="several video streams .*use backend='pyav'"):
        read_video(path, backend="decord")


def test_sound_and_cover_beside_the_video(tmp_path: Path, clip: Any, decode_all: Any) -> None:
    """The cover comes first in the file and is passed over; sound is not decoded."""
    path = tmp_path / "album.mp4"
    with av.open(str(clip("h264.mp4"))) as old, av.open(str(path), "w") as new:
        cover = new.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = 0x400
        video = new.add_stream_from_template(old.streams.video[0])
        sound = new.add_stream("aac", rate=16000)
        new.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        new.mux(cover.encode())
        hush = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.float32), format="fltp", layout="mono")
        hush.sample_rate = 16000
        new.mux(sound.encode(hush))
        new.mux(sound.encode())
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                new.mux(packet)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    made = read_video(path, num_frames=5)
    assert np.array_equal(made.frames.numpy(), decode_all(clip("h264.mp4"))[sample_indices(COUNT, 5)])
    assert made.notes == ()


def test_a_size_that_changes_on_the_way(tmp_path: Path) -> None:
    """Frames are scaled to the first one's size, and a note says so."""
    path = tmp_path / "growing.ts"
    with open(path, "wb") as joined:
        for number, (height, width) in enumerate([(48, 64), (64, 96)]):
            part = tmp_path / f"{number}.ts"
            with av.open(str(part), "w") as container:
                stream = container.add_stream("libx264", rate=30, options={"bf": "0"})
                stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
                stream.codec_context.time_base = Fraction(1, 30)
                for i in range(6):
                    frame = av.VideoFrame.from_ndarray(
                        np.full((height, width, 3), 40 + 100 * number, np.uint8), format="rgb24"
                    )
                    frame.pts = i + 6 * number
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
            joined.write(part.read_bytes())
    made = read_video(path, num_frames=12)
    assert made.frames.shape == (12, 48, 64, 3)
    assert made.notes == ("frames of other sizes were scaled to that of the first",)
    means = made.frames.float().mean((1, 2, 3)).round().tolist()
    assert means == pytest.approx([40] * 6 + [140] * 6, abs=3)


def test_stated_rates_that_the_times_contradict(tmp_path: Path, clip: Any) -> None:
    """An AVI header that claims two thousand million frames a second: its times follow, so `fps` has no meaning."""
    content = bytearray(clip("mjpeg.avi").read_bytes())
    place = content.index(b"strh") + 8 + 20
    content[place : place + 8] = (1).to_bytes(4, "little") + (0x7FFFFFFF).to_bytes(4, "little")
    assert len(read_video(bytes(content), num_frames=4)) == 4
    with pytest.raises(
        MediaError, match="fps=1: the clip claims 2.15e\\+09 frames per second.*pass num_frames"
    ):
        read_video(bytes(content), fps=1)


@pytest.mark.parametrize(
    "stated, believed", [(30.0, 30.0), (25.0, 25.0), (0.0, 30.0), (60_000.0, 30.0), (1.0, 30.0)]
)
def test_rates_that_the_times_contradict_are_not_believed(stated: float, believed: float) -> None:
    """DV files come with 60,000 frames a second; a rate that is a little off is the author's business."""
    facts = SimpleNamespace(fps=stated, tick=1 / 90_000, last_duration=1 / 30, container="dv")
    made = Timeline.from_stamps([5 + 3000 * i for i in range(10)], facts, "x")  # type: ignore[arg-type]
    assert made.fps == pytest.approx(believed)
    assert made.at([0, 9]) == pytest.approx((0.0, 0.3))
    assert made.duration == pytest.approx(1 / 3)
    unknown = Timeline.from_stamps([None, 3, None], facts, "x")  # type: ignore[arg-type]
    assert unknown.at([0, 1, 2]) == pytest.approx(tuple(i / (stated or 1.0) for i in range(3)))
    with pytest.raises(
        MediaError, match="video='x' is damaged: its time stamps run from -9223372036854775807 to"
    ):
        Timeline.from_stamps([-(2**63) + 1, 2**63 - 1], facts, "x")  # type: ignore[arg-type]


def test_a_tiny_fps_is_one_frame(clip: Any) -> None:
    assert len(read_video(clip("h264.mp4"), fps=5e-324)) == 1


@pytest.mark.parametrize("fps, max_frames, count, note", [
    (100, 300, COUNT, "fps=100 is more than the clip's own 30; every frame was taken"),
    (30, 5, 5, "fps=30 makes 18 frames of this clip; max_frames=5 of them were taken, spread over all"),
    (10, 300, 6, None),
])  # fmt: skip
def test_a_rate_that_cannot_be_met_is_noted(
    fps: float, max_frames: int, count: int, note: str | None, clip: Any
) -> None:
    made = read_video(clip("h264.mp4"), fps=fps, max_frames=max_frames)
    assert (len(made), made.notes) == (count, () if note is None else (note,))


def test_names_of_any_kind(tmp_path: Path, clip: Any) -> None:
    content = clip("h264.mp4").read_bytes()
    for name in ("a b%03d.mp4", "x\ny.mp4", "-i.mp4", "é漢字😀.mp4", "n" * 251 + ".mp4", "http:x.mp4"):
        (tmp_path / name).write_bytes(content)
        assert len(read_video(tmp_path / name, num_frames=3)) == 3
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.mp4"
    with open(odd, "wb") as file:
        file.write(content)
    assert len(read_video(os.fsdecode(odd), num_frames=3)) == 3

"""Clips that are read in a thread: pixels and errors are those of a clip read whole, and nothing is left running."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vidcompress.errors import MediaError, SamplingError
from vidcompress.media import read_video
from vidcompress.media.preprocessing.pixel_config import PixelRecipe
from vidcompress.media.preprocessing.transforms import frame_views
from vidcompress.media.video import streaming as arriving_module
from vidcompress.media.video.frames import (
    FileFrames,
    FrameBlock,
    PartialClip,
    PartialClips,
    Reread,
    VideoFrames,
    whole,
)
from vidcompress.media.video.readers import pyav_reader
from vidcompress.media.video.streaming import STEP, FrameViews, StreamingClip, open_streaming_clip, read_parts

CPU = torch.device("cpu")
SQUARE = PixelRecipe((28, 28), None, None, "bicubic", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28), 1 / 255)
CROPPED = replace(SQUARE, size=None, shortest_edge=32, crop=(28, 28))
LONG = 30.0
"""Seconds after which a test gives up waiting."""


pytestmark = pytest.mark.usefixtures("running")


def clip_of(count: int) -> VideoFrames:
    frames = torch.randint(0, 256, (count, 20, 36, 3), generator=torch.Generator().manual_seed(count)).byte()
    return VideoFrames(frames, tuple(map(float, range(count))), float(count), 1.0, count, "memory", "drawn")


def stepwise(
    clip: VideoFrames, steps: list[int], gate: Callable[[int], None] = lambda ready: None
) -> PartialClips:
    """A reader that fills a block of its own as it goes."""
    block = torch.zeros_like(clip.frames)
    known = replace(clip, frames=block)
    ready = 0
    for step in steps:
        gate(ready)
        block[ready : ready + step] = clip.frames[ready : ready + step]
        ready = min(ready + step, len(clip))
        yield PartialClip(known, ready)


def views_of(
    parts: PartialClips, recipe: PixelRecipe = SQUARE, dtype: torch.dtype = torch.float32
) -> FrameViews:
    return FrameViews(next(parts), parts, recipe, resize_device=CPU, device=CPU, dtype=dtype)


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 2 * STEP + 1), min_size=1, max_size=5),
    st.sampled_from([SQUARE, CROPPED]),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.integers(1, 20),
)
def test_views_are_those_of_the_whole_clip(
    steps: list[int], recipe: PixelRecipe, dtype: torch.dtype, chunk: int
) -> None:
    clip = clip_of(sum(steps))
    expected = frame_views(clip.frames, recipe, CPU).to(dtype)
    views = views_of(stepwise(clip, steps), recipe, dtype)
    try:
        assert (views.shape, views.dtype, views.device, views.ndim) == (expected.shape, dtype, CPU, 4)
        for start in range(0, len(clip), chunk):
            assert torch.equal(views[start : start + chunk], expected[start : start + chunk])
        some = torch.tensor([len(clip) - 1, 0])
        assert torch.equal(views[some], expected[some]) and torch.equal(views[:], expected)
        assert torch.equal(views.whole().frames, clip.frames)
    finally:
        views.close()


def test_a_slice_waits_for_its_own_frames_only() -> None:
    clip, go_on = clip_of(40), Event()

    def gate(ready: int) -> None:
        assert ready < 24 or go_on.wait(LONG)

    views = views_of(stepwise(clip, [1] * 40, gate))
    expected = frame_views(clip.frames, SQUARE, CPU)
    assert torch.equal(views[:16], expected[:16]) and torch.equal(views[16:24], expected[16:24])
    asked: list[Any] = []
    waiting = threading.Thread(target=lambda: asked.append(views[24:25]))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive() and not asked, "frame 24 is not there yet"
    go_on.set()
    waiting.join(LONG)
    assert torch.equal(asked[0], expected[24:25]) and views.waited_ms >= 90
    views.close()


def test_what_goes_wrong_is_raised_for_the_frames_that_are_missing() -> None:
    clip = clip_of(20)

    def break_off(ready: int) -> None:
        if ready == 18:
            raise MediaError("frame 18 is damaged")

    views = views_of(stepwise(clip, [1] * 20, break_off))
    assert torch.equal(views[:16], frame_views(clip.frames[:16], SQUARE, CPU))
    for _ in range(2):
        with pytest.raises(MediaError, match="frame 18 is damaged"):
            views[16:20]
    with pytest.raises(MediaError, match="frame 18 is damaged"):
        views.whole()
    views.close()


def test_closing_stops_the_reader_where_it_is(running: Any) -> None:
    at, closed = Event(), Event()

    def endless() -> PartialClips:
        try:
            yield PartialClip(clip_of(9), 1)
            while True:
                at.set()
                time.sleep(0.001)
                yield PartialClip(clip_of(9), 1)
        finally:
            closed.set()

    views = views_of(endless())
    assert at.wait(LONG)
    views.close()
    assert closed.is_set() and running() == []
    with pytest.raises(RuntimeError, match="a clip was closed before its frames were read"):
        views[:1]


def test_a_reader_that_ends_too_early_is_a_mistake() -> None:
    views = views_of(stepwise(clip_of(9), [4, 4]))
    with pytest.raises(RuntimeError, match="a reader ended before its clip was there"):
        views[:]
    views.close()
    with pytest.raises(RuntimeError, match="a reader ended before its clip was there"):
        whole(())


@pytest.mark.parametrize("mode", [True, False])
def test_in_inference_mode(mode: bool) -> None:
    """What the reader began in that mode it may go on with; a tensor of it is not to be written outside."""
    clip = clip_of(20)
    with torch.inference_mode(mode):
        views = views_of(stepwise(clip, [5] * 4))
        assert torch.equal(views[:], frame_views(clip.frames, SQUARE, CPU))
        assert views[:].is_inference() == mode
        views.close()


# -- few frames in memory at once -----------------------------------------------------------------------------


def ring_steps(clip: VideoFrames, room: int) -> PartialClips:
    """A reader that holds `room` frames, and fills each place with noise before it is used again."""
    block = FrameBlock(len(clip), room, *clip.frames.shape[1:3])
    known = replace(clip, frames=block.frames)
    for number in range(len(clip)):
        block.put((number + 1) % room, torch.full_like(clip.frames[0], 99))
        block.put(number, clip.frames[number])
        yield PartialClip(known, number + 1, block.ring)


@settings(max_examples=25)
@given(
    st.integers(1, 70),
    st.sampled_from([SQUARE, CROPPED]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(1, 40),
)
def test_views_that_are_not_held_are_those_of_the_whole_clip(
    count: int, recipe: PixelRecipe, dtype: torch.dtype, chunk: int
) -> None:
    clip = clip_of(count)
    expected = frame_views(clip.frames, recipe, CPU).to(dtype)
    parts = stepwise(clip, [1] * count)
    views = FrameViews(next(parts), parts, recipe, resize_device=CPU, device=CPU, dtype=dtype, held=2 * STEP)
    try:
        for start in range(0, count, chunk):
            assert torch.equal(views[start : start + chunk], expected[start : start + chunk])
        assert views._views is not None and len(views._views) == min(count, 2 * STEP)
    finally:
        views.close()


def test_frames_that_are_not_held_reach_their_views() -> None:
    """The reader's ring is overwritten on purpose; a ring that is one step too short for its reader shows it."""
    clip = clip_of(50)
    expected = frame_views(clip.frames, SQUARE, CPU)
    for room, right in ((2 * STEP, True), (STEP // 2, False)):
        parts = ring_steps(clip, room)
        views = FrameViews(
            next(parts), parts, SQUARE, resize_device=CPU, device=CPU, dtype=torch.float32, held=2 * STEP
        )
        try:
            got = torch.cat([views[start : start + STEP] for start in range(0, 50, STEP)]) if right else None
            assert got is None or torch.equal(got, expected)
            if not right:
                with pytest.raises(RuntimeError):
                    views[0:50]
        finally:
            views.close()


def test_views_that_are_not_held_come_once_and_in_order() -> None:
    clip = clip_of(50)
    parts = stepwise(clip, [1] * 50)
    views = FrameViews(
        next(parts), parts, SQUARE, resize_device=CPU, device=CPU, dtype=torch.float32, held=2 * STEP
    )
    try:
        first = views[0:20]
        for wrong in (slice(0, 4), slice(24, 28), slice(20, 40, 2), torch.tensor([20])):
            with pytest.raises(RuntimeError, match="asked for after 20 of a clip that is not held"):
                views[wrong]
        assert torch.equal(torch.cat((first, views[20:50])), frame_views(clip.frames, SQUARE, CPU))
    finally:
        views.close()


def test_a_thread_that_waits_for_room_ends_with_the_clip(running: Any) -> None:
    parts = stepwise(clip_of(60), [1] * 60)
    views = FrameViews(
        next(parts), parts, SQUARE, resize_device=CPU, device=CPU, dtype=torch.float32, held=2 * STEP
    )
    views[0:3]
    views.close()
    assert running() == []


@pytest.mark.parametrize("kind", ["h264", "bytes", "vp8", "folder", "list", "webp", "array"])
def test_every_source_that_is_not_held_arrives_as_it_is_read(
    kind: str, write_clip: Any, tmp_path: Path
) -> None:
    (tmp_path / "frames").mkdir()
    source, backend = sources(write_clip, tmp_path / "frames")[kind]
    if kind == "folder":
        (source / "animated.webp").unlink()
        for number in range(12, 30):
            Image.fromarray(np.full((20, 30, 3), 7 * number, np.uint8)).save(source / f"frame_{number}.png")
    options = {"num_frames": 30 if kind in ("h264", "bytes", "vp8", "folder") else 12, "backend": backend}
    expected = read_video(source, **options)
    with open_streaming_clip(source, CPU, torch.float32, held=False, **options) as clip:
        views = clip.views(SQUARE, CPU)
        got = torch.cat([views[start : start + 5] for start in range(0, len(clip), 5)])
        assert torch.equal(got, frame_views(expected.frames, SQUARE, CPU))
        whole_clip = clip.whole()
    passed = kind not in ("webp", "array")  # whose readers hand out all frames at once
    assert isinstance(whole_clip, FileFrames) == passed
    assert (len(whole_clip), whole_clip.times, whole_clip.notes) == (
        len(expected),
        expected.times,
        expected.notes,
    )
    assert repr(whole_clip) == repr(expected)
    assert torch.equal(whole_clip.frames, expected.frames), "read again"
    assert torch.equal(read_video(whole_clip, num_frames=3).frames, read_video(expected, num_frames=3).frames)


def test_only_the_frames_in_memory_count_for_the_limit(write_clip: Any, monkeypatch: Any) -> None:
    path = write_clip("arriving.mp4", 40, height=48, width=64, g="8", bf="2")
    small = arriving_module.Request
    most = 10 * 48 * 64 * 3
    monkeypatch.setattr(
        arriving_module, "Request", lambda *args, **rest: replace(small(*args, **rest), max_bytes=most)
    )
    with (
        pytest.raises(MediaError, match="over max_bytes=92160"),
        open_streaming_clip(path, CPU, torch.float32),
    ):
        pass
    with open_streaming_clip(path, CPU, torch.float32, held=False, num_frames=40) as clip:
        assert len(clip.whole()) == 40


def test_fields_are_decoded_from_the_start_where_they_are_not_held(write_clip: Any) -> None:
    path = write_clip("arriving_fields.mp4", 20, height=48, width=64, x264_params="tff=1:interlaced=1")
    with pytest.raises(Reread), open_streaming_clip(path, CPU, torch.float32, held=False):
        pass
    expected = read_video(path, num_frames=20)
    with open_streaming_clip(path, CPU, torch.float32, held=False, decode_all=True, num_frames=20) as clip:
        assert torch.equal(clip.views(SQUARE, CPU)[0:20], frame_views(expected.frames, SQUARE, CPU))


# -- readers --------------------------------------------------------------------------------------------------


def sources(write_clip: Any, folder: Path) -> dict[str, tuple[Any, str]]:
    """Every kind of source, and the backend that is asked for it."""
    small = {"height": 48, "width": 64, "g": "8", "bf": "2"}
    path = write_clip("arriving.mp4", 40, **small)
    drawn = [Image.fromarray(np.full((20, 30, 3), 12 * n, np.uint8)) for n in range(12)]
    for number, picture in enumerate(drawn):
        picture.save(folder / f"frame_{number}.png")
    animated = folder / "animated.webp"
    drawn[0].save(animated, save_all=True, append_images=drawn[1:], lossless=True)
    return {
        "h264": (path, "auto"),
        "bytes": (path.read_bytes(), "pyav"),
        "stream": (io.BytesIO(path.read_bytes()), "auto"),
        "vp8": (write_clip("arriving.webm", 40, codec="libvpx", height=48, width=64), "pyav"),
        "decord": (path, "decord"),
        "webp": (animated, "auto"),
        "folder": (folder, "auto"),
        "list": (drawn, "auto"),
        "array": (np.stack([np.asarray(picture) for picture in drawn]), "auto"),
        "frames": (read_video(path, num_frames=20), "auto"),
    }


@pytest.mark.parametrize(
    "kind", ["h264", "bytes", "stream", "vp8", "decord", "webp", "folder", "list", "array", "frames"]
)
@pytest.mark.parametrize("sampling", [{}, {"num_frames": 11}, {"fps": 40.0, "max_frames": 12}])
def test_every_source_arrives_as_it_is_read(
    kind: str, sampling: dict[str, Any], write_clip: Any, tmp_path: Path
) -> None:
    if kind == "decord":
        pytest.importorskip("decord")
    (tmp_path / "frames").mkdir()
    source, backend = sources(write_clip, tmp_path / "frames")[kind]
    if kind == "folder":
        (source / "animated.webp").unlink()
    options = {**sampling, "backend": backend, "default_frames": 10}
    expected = read_video(source, **options)
    *_, last = read_parts(source, **options)
    with open_streaming_clip(source, CPU, torch.float32, **options) as clip:
        assert isinstance(clip, StreamingClip) and len(clip) == len(expected)
        told = ("times", "duration", "fps", "total_frames", "backend", "source")
        assert [getattr(clip, name) for name in told] == [getattr(expected, name) for name in told]
        views = clip.views(SQUARE, CPU)
        assert clip.views(SQUARE, CPU) is views
        assert torch.equal(views[:], frame_views(expected.frames, SQUARE, CPU))
        for made in (clip.whole(), last.clip):
            assert torch.equal(made.frames, expected.frames) and made.notes == expected.notes


@pytest.mark.parametrize("kind", ["h264", "folder"])
def test_frames_come_one_by_one(kind: str, write_clip: Any, tmp_path: Path) -> None:
    source, _ = sources(write_clip, tmp_path)[kind]
    ready = [part.ready for part in read_parts(source, num_frames=6)]
    assert ready[:6] == [1, 2, 3, 4, 5, 6]


def test_a_clip_may_be_read_without_views(write_clip: Any) -> None:
    path = write_clip("arriving.mp4", 40, height=48, width=64, g="8", bf="2")
    with open_streaming_clip(path, CPU, torch.float32) as clip:
        assert torch.equal(clip.whole().frames, read_video(path).frames) and clip.waited_ms == 0


def interrupted(stream: Any, begin: bool) -> None:
    with open_streaming_clip(stream, CPU, torch.float32, num_frames=40) as clip:
        if begin:
            clip.views(SQUARE, CPU)[:8]
        raise KeyboardInterrupt("in the block")


def test_a_file_object_is_put_back_and_a_container_closed(write_clip: Any, monkeypatch: Any) -> None:
    path = write_clip("arriving.mp4", 40, height=48, width=64, g="8", bf="2")
    opened: list[Any] = []
    av_open = pyav_reader.open_clip

    def watched(*args: Any) -> Any:
        manager = av_open(*args)
        opened.append(manager)
        return manager

    monkeypatch.setattr(pyav_reader, "open_clip", watched)
    for begin in (False, True):
        stream = io.BytesIO(path.read_bytes())
        stream.seek(7)
        with pytest.raises(KeyboardInterrupt, match="in the block"):
            interrupted(stream, begin)
        assert stream.tell() == 7
    assert opened and all(manager.gen.gi_frame is None for manager in opened), "every container was closed"


def test_damage_is_told_as_when_the_clip_is_read_whole(damaged_clip: Path) -> None:
    with pytest.raises(MediaError, match="is damaged") as expected:
        read_video(damaged_clip, num_frames=40)
    with open_streaming_clip(damaged_clip, CPU, torch.float32, num_frames=40) as clip:
        views = clip.views(SQUARE, CPU)
        assert torch.equal(views[:16], frame_views(clip.frames[:16], SQUARE, CPU)), "before the damage"
        with pytest.raises(MediaError, match="is damaged") as found:
            views[16:40]
    assert str(found.value) == str(expected.value)
    assert type(found.value.__cause__) is type(expected.value.__cause__)


def test_limits_and_wrong_arguments_are_refused_before_a_thread_is_there(
    running: Any, write_clip: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path = write_clip("arriving.mp4", 40, height=48, width=64, g="8", bf="2")
    with pytest.raises(SamplingError, match="num_frames=5 and fps=2 exclude each other"):
        next(read_parts(path, num_frames=5, fps=2))
    (tmp_path / "none.mp4").write_bytes(b"nothing")
    with (
        pytest.raises(MediaError, match=r"none\.mp4"),
        open_streaming_clip(tmp_path / "none.mp4", CPU, torch.float32),
    ):
        pass
    small = arriving_module.Request
    monkeypatch.setattr(
        arriving_module, "Request", lambda *args, **rest: replace(small(*args, **rest), max_bytes=100)
    )
    with pytest.raises(MediaError, match="over max_bytes=100"), open_streaming_clip(path, CPU, torch.float32):
        pass
    assert running() == []


def test_packets_that_mislead_ask_for_another_reading(write_clip: Any) -> None:
    """Fields: two packets may make one frame, so nothing that the packets told may hold."""
    path = write_clip("arriving_fields.mp4", 20, height=48, width=64, x264_params="tff=1:interlaced=1")
    with (
        pytest.raises(Reread, match="did not lead to its frames"),
        open_streaming_clip(path, CPU, torch.float32),
    ):
        pass
    assert len(read_video(path, num_frames=5)) == 5

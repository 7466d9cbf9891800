"""Animations: a frame of the clip each, dropped tokens dark, the count below; as GIF and as MP4 that is read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidcompress.adapters.layouts import video_layout
from vidcompress.core.layout import Layout
from vidcompress.core.report import Report, VisualReport
from vidcompress.errors import ArgumentError, MediaError
from vidcompress.qa import animation
from vidcompress.qa.animation import Animation, draw_animation

FRAMES, ROWS = 5, 4
LAYOUT: Layout = video_layout(FRAMES, (ROWS, ROWS), times=tuple(0.25 * number for number in range(FRAMES)))
WHITE = [Image.new("RGB", (96, 72), "white")] * FRAMES
TOP = 20  # pixels of the heading, at least


def report_of(positions: list[int], layout: Layout = LAYOUT) -> Report:
    """A report of one clip of which these positions were sent."""
    source = torch.tensor(positions, dtype=torch.int64)
    return Report("vidcom2", visuals=[VisualReport.from_selection(layout, source, budget=len(positions))])


def left_half(frame: int) -> list[int]:
    """The positions of the left half of one frame."""
    return [frame * ROWS**2 + row * ROWS + col for row in range(ROWS) for col in range(ROWS // 2)]


def brightness(picture: Image.Image) -> tuple[float, float]:
    """Median grey level of the left and of the right half of the clip's picture, away from its borders."""
    grey = np.asarray(picture.convert("L"))[TOP + 60 : TOP + 260]
    middle = grey.shape[1] // 2
    return float(np.median(grey[:, 40 : middle - 20])), float(np.median(grey[:, middle + 20 : -40]))


def read(path: Path) -> list[Image.Image]:
    """The frames of a GIF or of an MP4."""
    if path.suffix == ".gif":
        with Image.open(path) as picture:
            frames = []
            for number in range(getattr(picture, "n_frames", 1)):
                picture.seek(number)
                frames.append(picture.convert("RGB"))
            return frames
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_a_file_has_a_frame_of_the_clip_each_and_dropped_tokens_are_dark(ending: str, tmp_path: Path) -> None:
    drawn = draw_animation(report_of([*left_half(0), *left_half(2), *range(3 * 16, 4 * 16)]), WHITE)
    path = tmp_path / f"kept{ending}"
    drawn.save(path)
    frames = read(path)
    assert len(frames) == FRAMES == len(drawn.frames)
    assert {frame.size for frame in frames} == {drawn.frames[0].size}
    assert all(side % 2 == 0 for side in frames[0].size)
    expected = [(255, 76), (76, 76), (255, 76), (255, 255), (76, 76)]
    for frame, (left, right) in zip(frames, expected, strict=True):
        assert brightness(frame) == pytest.approx((left, right), abs=6)


def test_frames_are_shown_as_long_as_they_are_apart_within_limits(tmp_path: Path) -> None:
    drawn = draw_animation(report_of([0]), WHITE)
    assert drawn.seconds == 0.25
    drawn.save(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 4
    drawn.save(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as picture:
        assert (picture.info["duration"], picture.info["loop"]) == (250, 0)
    for times, seconds in (
        ([0.0, 9.0, 18.0, 27.0, 36.0], 0.5),
        ([0, 0.01, 0.02, 0.03, 0.04], 0.1),
        (None, 0.5),
    ):
        layout = video_layout(FRAMES, (ROWS, ROWS), times=times and tuple(times))
        assert draw_animation(report_of([0], layout), WHITE).seconds == seconds


def test_the_bars_below_say_how_many_tokens_each_frame_keeps() -> None:
    """The orange bar is that of the frame; twice the tokens make it twice as high."""
    drawn = draw_animation(report_of([0, 1, *range(16, 20), 32]), WHITE)
    heights = []
    for frame in drawn.frames:
        pixels = np.asarray(frame)
        heights.append(int((pixels == animation._MARK).all(-1).any(1).sum()))
    assert heights[1] == pytest.approx(2 * heights[0] - 1, abs=1) == pytest.approx(4 * heights[2] - 3, abs=3)
    assert heights[3] == heights[4] == 1  # nothing is a line


def test_a_long_heading_is_broken_and_stays_inside() -> None:
    short = draw_animation(report_of([0]), WHITE, heading="words")
    long = draw_animation(report_of([0]), WHITE, heading="some more words " * 12)
    assert long.frames[0].width == short.frames[0].width
    assert long.frames[0].height > short.frames[0].height + 40
    border = np.asarray(long.frames[0])[:, -10:]
    assert len(np.unique(border.reshape(-1, 3), axis=0)) == 1


def test_clips_of_any_shape_fit() -> None:
    for size in ((30, 400), (400, 30), (1, 1)):
        frame = draw_animation(report_of([0]), [Image.new("RGB", size)] * FRAMES).frames[0]
        assert 300 < frame.width <= 560 and frame.height <= 640


def test_many_frames_have_bars_too() -> None:
    layout = video_layout(700, (1, 1))
    drawn = draw_animation(report_of(list(range(0, 700, 2)), layout), np.zeros((700, 4, 4, 3), np.uint8))
    assert len(drawn.frames) == 700


@pytest.mark.parametrize(
    ("report", "frames", "message"),
    [
        (None, WHITE, "must be a Report"),
        (report_of([0]), WHITE[:2], "5 frames were encoded, got 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(report: Any, frames: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        draw_animation(report, frames)


def test_other_endings_are_refused_with_what_to_do(tmp_path: Path) -> None:
    drawn = Animation((Image.new("RGB", (32, 32)),), 0.5)
    with pytest.raises(ArgumentError, match=r"kept.png'.*is written as .gif or .mp4; .*answer.overlay\(\)"):
        drawn.save(tmp_path / "kept.png")
    assert not list(tmp_path.iterdir())


def test_where_there_is_no_h264_it_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_animation(report_of(left_half(1)), WHITE)
    monkeypatch.setattr(animation, "_CODECS", ("no-such-codec", "mpeg4"))
    drawn.save(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert brightness(read(tmp_path / "a.mp4")[1]) == pytest.approx((255, 76), abs=10)
    monkeypatch.setattr(animation, "_CODECS", ("no-such-codec",))
    with pytest.raises(MediaError, match=r"no encoder for MP4 here; save a .gif instead"):
        drawn.save(tmp_path / "b.mp4")


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    drawn = draw_animation(report_of([0]), WHITE)
    for name in ("a.gif", "a.mp4"):
        with pytest.raises(OSError, match="No such file"):
            drawn.save(tmp_path / "no" / name)

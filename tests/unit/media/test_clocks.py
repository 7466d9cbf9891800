"""Files joined end to end, whose time stamps start again: each part's own clock, one after the other, and a note."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odd_media import KINDS, RATE, joined
from vidcompress.adapters.families import time_instruction
from vidcompress.media import MediaError, read_video
from vidcompress.media.video.clock_resets import goes_back, join
from vidcompress.media.video.frames import Timeline

WRAP = 2**33 / 90_000
"""Seconds after which the clock of MPEG streams starts again by itself: 26.5 hours."""


def check(path: Path, parts: int, total: int) -> None:
    """Times, length and rate of one clip of `total` frames, each frame once and in its place."""
    made = read_video(path, num_frames=total)
    assert (len(made), made.total_frames) == (total, total)
    np.testing.assert_allclose(made.times, np.arange(total) / RATE, atol=2e-3)
    assert made.duration == pytest.approx(total / RATE, abs=2e-3)
    assert made.fps == pytest.approx(RATE, rel=0.01)
    shades = made.frames.float().mean((1, 2, 3))
    np.testing.assert_allclose(shades, 20 + 2 * np.arange(total), atol=4)
    note = f"the file holds {parts} parts with time stamps of their own; each part follows the one before it"
    assert made.notes == ((note,) if parts > 1 else ())
    assert len(read_video(path, fps=5)) == -(-total // 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [[40, 40], [30, 12, 41], [40, 3, 2]])
def test_parts_follow_one_another(kind: str, counts: list[int], tmp_path: Path) -> None:
    """Of Matroska files FFmpeg reads two parts."""
    counts = counts[:2] if kind in ("mkv", "webm") else counts
    check(joined(tmp_path, kind, counts), len(counts), sum(counts))


@pytest.mark.parametrize("kind", ["ts", "vob", "mkv"])
def test_llava_video_is_told_the_joined_times(kind: str, tmp_path: Path) -> None:
    """Its sentence, of 105 frames at 25 a second of which 5 are taken."""
    made = read_video(joined(tmp_path, kind, [45, 60]), num_frames=5)
    assert time_instruction(made.duration, made.times).startswith(
        "The video lasts for 4.20 seconds, and 5 frames are uniformly sampled from it. "
        "These frames are located at 0.00s,1.04s,2.08s,3.12s,4.16s."
    )


@pytest.mark.parametrize("kind", KINDS)
def test_one_part_has_no_note(kind: str, tmp_path: Path) -> None:
    check(joined(tmp_path, kind, [40]), 1, 40)


@pytest.mark.parametrize("kind", ["ts", "mpg"])
@pytest.mark.parametrize(
    "starts", [[30, 1], [1000, 1], [1, 100], [50_000, 100], [1, 95_000], [95_400, 1], [7, 7]]
)
def test_parts_that_start_anywhere(kind: str, starts: list[float], tmp_path: Path) -> None:
    """FFmpeg adds 26.5 hours to stamps that lie more than a minute before those of the first part."""
    check(joined(tmp_path, kind, [40, 40], starts), 2, 80)


@pytest.mark.parametrize("kind", ["ts", "mpg"])
def test_a_clock_that_wraps_by_itself_is_no_new_part(kind: str, tmp_path: Path) -> None:
    path = joined(tmp_path, kind, [50], [WRAP - 1])
    with av.open(str(path)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert min(stamps) < 0 < max(stamps), "the clock wraps in the middle"
    check(path, 1, 50)
    (tmp_path / "twice").mkdir()
    check(joined(tmp_path / "twice", kind, [50, 50], [WRAP - 1, WRAP - 1]), 2, 100)


def test_silence_in_a_file_with_one_clock_is_kept(tmp_path: Path) -> None:
    """Matroska's clock has a beginning, so a later part may have been recorded later."""
    made = read_video(joined(tmp_path, "mkv", [20, 20], [0, 100]), num_frames=40)
    assert made.notes == () and made.times[20] == pytest.approx(100, abs=0.1)
    made = read_video(joined(tmp_path, "ts", [20, 20], [1, 6]), num_frames=40)
    assert made.notes == () and made.times[20] == pytest.approx(5, abs=0.1), (
        "FFmpeg's tools keep 10 s as well"
    )


def test_other_readers_refuse_parts(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = joined(tmp_path, "mpg", [20, 20])
    with pytest.raises(MediaError, match="several parts whose time stamps start again.*use backend='pyav'"):
        read_video(path, backend="decord")
    (tmp_path / "one").mkdir()
    assert len(read_video(joined(tmp_path / "one", "mpg", [20]), num_frames=4, backend="decord")) == 4


# -- the rule itself --------------------------------------------------------------------------------------------------


def test_a_slide_show_is_no_row_of_parts() -> None:
    slides = np.arange(12) * 15.0
    assert join(slides, 0.04, ahead=True)[1] == 1
    assert join(np.concatenate([np.arange(30) * 0.04, 60 + np.arange(30) * 0.04]), 0.04, ahead=True)[1] == 2


def test_jitter_is_no_new_part() -> None:
    """A step back of one tick is held flat, as before."""
    times, parts = join(np.array([0.0, 0.04, 0.08, 0.07, 0.16]), 0.04, ahead=True)
    assert parts == 1 and times.tolist() == [0.0, 0.04, 0.08, 0.08, 0.16]
    assert not goes_back(0.07, 0.08, 0.0) and goes_back(0.0, 0.04, 0.0) and goes_back(1.0, 2.0, 0.0)
    assert not goes_back(0.0, 0.0, 0.0), "stamps that stand still"


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.floats(0.001, 3.0), min_size=0, max_size=6), min_size=1, max_size=5), st.booleans()
)
def test_joined_times_do_not_decrease(parts: list[list[float]], ahead: bool) -> None:
    own = [np.concatenate([[0.0], np.cumsum(steps)]) for steps in parts]
    times, found = join(np.concatenate(own), 0.04, ahead=ahead)
    assert len(times) == sum(map(len, own)) and times[0] == 0
    assert (np.diff(times) >= 0).all() and 1 <= found <= len(own)


def test_the_rate_of_joined_parts_is_believed() -> None:
    facts = SimpleNamespace(fps=25.0, tick=1 / 90_000, last_duration=0.04, container="mpegts")
    made = Timeline.from_stamps([3600 * i for i in range(50)] * 3, facts, "x")  # type: ignore[arg-type]
    assert (made.parts, made.fps, made.duration) == (3, 25.0, pytest.approx(6.0))

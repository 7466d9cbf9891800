"""Bars of loading and decoding: on stderr, on a terminal only, and gone when done."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import logging

from vidcompress import progress
from vidcompress.cli.library_output import loading
from vidcompress.media import read_video
from vidcompress.progress import ON_FRAME, decoding_progress, loading_progress

CLIP = Path(__file__).parents[3] / "examples" / "clip.mp4"
GONE = "\x1b[2K"
"""What clears a line of a terminal."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in the place of stderr; called in the test, as pytest puts its own stderr there before."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return made


def test_loading_names_the_checkpoint_and_its_tensors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = a_terminal(monkeypatch)
    with loading_progress("owner/name[1]") as report:
        report(3, 8)
    shown = terminal.getvalue()
    assert "loading owner/name[1], 3 of 8 tensors" in shown
    assert shown.rstrip("\r\n").endswith(GONE)
    assert capsys.readouterr().out == ""


def test_the_loop_of_transformers_is_counted_and_other_loops_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = a_terminal(monkeypatch)
    if not hasattr(logging, "set_tqdm_hook"):
        pytest.skip("this version of transformers has no hook")
    with loading("name"):
        assert list(logging.tqdm({"a": 1, "b": 2}.items(), desc="Loading weights")) == [("a", 1), ("b", 2)]
        time.sleep(0.2)  # the display is drawn ten times a second
        assert "2 of 2 tensors" in terminal.getvalue()
        with logging.tqdm([5], desc="Other", disable=True) as other:
            assert list(other) == [5]
    assert "of 1 tensors" not in terminal.getvalue()
    before = logging.set_tqdm_hook(None)
    assert before is None, "the hook is gone"


def test_nothing_is_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with loading("name"), loading_progress("name") as report, decoding_progress():
        report(1, 2)
        assert ON_FRAME.get() is None
        read_video(CLIP, num_frames=3)
    assert capsys.readouterr() == ("", "")


def test_a_long_clip_has_a_bar_of_its_frames(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_BAR", 0.0)
    with decoding_progress():
        read_video(CLIP, num_frames=3)
        shown = terminal.getvalue()
    assert "decoding frames" in shown and "/3" in shown
    assert shown.rstrip("\r\n").endswith(GONE), "gone before the block ends: all frames are there"
    assert ON_FRAME.get() is None
    assert capsys.readouterr().out == ""


def test_a_short_clip_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_BAR", 60.0)
    with decoding_progress():
        read_video(CLIP, num_frames=3)
    assert terminal.getvalue() == ""


def test_readers_report_each_frame_with_the_number_of_all() -> None:
    seen: list[tuple[int, int]] = []
    token = ON_FRAME.set(lambda done, of: seen.append((done, of)))
    try:
        frames: Any = read_video(CLIP, num_frames=4)
    finally:
        ON_FRAME.reset(token)
    assert seen == [(number, 4) for number in range(1, 5)]
    assert len(frames) == 4


def test_a_bar_that_was_stopped_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_BAR", 0.0)
    with decoding_progress():
        report = ON_FRAME.get()
        assert report is not None
        report(1, 9)
    shown = terminal.getvalue()
    report(2, 9)  # from a thread that decodes on
    assert terminal.getvalue() == shown and "decoding frames" in shown

"""decord may crash, hang or fail over a file: the caller gets an error, and the next clip a new process."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from vidcompress.media import MediaError, read_video
from vidcompress.media.video.readers import decord_process
from vidcompress.media.video.readers.decord_process import PROCESS, DecordProcess

CHILD = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    path = os.path.basename(request.get("path", ""))
    if "abort" in path: os.abort()
    if "hang" in path: time.sleep(60)
    if "quit" in path: sys.exit(0)
    if "half" in path: print('{"fra', end="", flush=True); os.abort()
    if "refuse" in path: answer, body = {"error": "no such codec"}, b""
    elif path: answer, body = {"frames": os.getpid()}, b""
    else: answer, body = {"shape": [2, 1, 1, 3]}, bytes(range(6))
    if request.get("frames") == [9]: body = b"abc"
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\\n" + body)
    sys.stdout.buffer.flush()
    if request.get("frames") == [9]: os.abort()
"""


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DecordProcess:
    monkeypatch.setattr(decord_process, "LEAST_SECONDS", 2.0)
    (tmp_path / "child.py").write_text(CHILD)
    for name in ("good", "abort", "hang", "quit", "half", "refuse"):
        (tmp_path / name).write_bytes(b"x")
    return DecordProcess(tmp_path / "child.py")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("abort", "abort': decord crashed, as on some damaged files; use backend='pyav'"),
        ("half", "half': decord crashed, as on some damaged files; use backend='pyav'"),
        ("quit", "quit': decord crashed, as on some damaged files; use backend='pyav'"),
        ("hang", "hang': decord does not come to an end, as on some damaged files; use backend='pyav'"),
        ("refuse", r"refuse': decord failed \(no such codec\); use backend='pyav'"),
    ],
)
def test_its_death_is_an_error_and_it_lives_again(
    name: str, message: str, process: DecordProcess, tmp_path: Path
) -> None:
    good = str(tmp_path / "good")
    first = process.open(good)
    start = time.perf_counter()
    with pytest.raises(MediaError, match=message):
        process.open(str(tmp_path / name))
    assert time.perf_counter() - start < 10
    assert (process.open(good) == first) is (name == "refuse")
    assert process.take(good, [0, 1]).tolist() == np.arange(6).reshape(2, 1, 1, 3).tolist()
    process.close()


def test_frames_that_stop_half_way_are_an_error(process: DecordProcess, tmp_path: Path) -> None:
    good = str(tmp_path / "good")
    process.open(good)
    with pytest.raises(MediaError, match="decord crashed"):
        process.take(good, [9])
    process.close()


def test_a_forked_process_starts_its_own(process: DecordProcess, tmp_path: Path) -> None:
    good = str(tmp_path / "good")
    first = process.open(good)
    process._owner += 1  # as it looks from a process that was forked off
    assert process.open(good) != first
    process.close()


def test_clips_share_one_process(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    clip = Path(__file__).parents[2] / "examples" / "clip.mp4"
    frames = read_video(clip, num_frames=3, backend="decord").frames
    process = PROCESS._process
    assert process is not None
    assert process.pid != os.getpid()
    assert frames.equal(read_video(clip, num_frames=3, backend="decord").frames)
    assert PROCESS._process is process
    process.kill()
    process.wait()
    assert frames.equal(read_video(clip, num_frames=3, backend="decord").frames)


def test_decord_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidcompress.media.video.readers.decord_reader.find_spec", lambda name: None)
    clip = Path(__file__).parents[2] / "examples" / "clip.mp4"
    with pytest.raises(MediaError, match="decord is not installed; pip install decord, or use 'pyav'"):
        read_video(clip, backend="decord")

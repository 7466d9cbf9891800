"""Hostile and mistaken input: one clear error each, bounded time and memory. The files are in `hostile_media.py`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import hostile_media as hostile
import vidcompress
from vidcompress.errors import MediaError
from vidcompress.media import load_image, read_video
from vidcompress.media.video.mp4_guard import check_tables

CASES = [("video", case) for case in hostile.VIDEOS] + [("image", case) for case in hostile.IMAGES]
READERS = {"video": read_video, "image": load_image}


def run(*arguments: str, typed: str | None = None) -> str:
    """What a Python process with this very package prints."""
    place = {**os.environ, "PYTHONPATH": str(Path(vidcompress.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, *arguments], input=typed, capture_output=True, text=True, timeout=300, env=place
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("argument, case", CASES, ids=[f"{argument}-{case.name}" for argument, case in CASES])
def test_bad_files_get_one_clear_error(argument: str, case: Any, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.make())
    for source, name in ((path, str(path)), (path.read_bytes(), "bytes>")):
        try:
            READERS[argument](source)
        except MediaError as error:
            message = str(error)
        else:
            assert case.message == hostile.ANY, "this was read"
            continue
        assert message.startswith(f"{argument}=") and name in message
        assert len(message.splitlines()) == 1
        if case.message:
            with pytest.raises(MediaError, match=case.message):
                READERS[argument](source)


def test_refusing_costs_little(tmp_path: Path) -> None:
    """All of them in one process, by every backend: none takes long, needs much memory, hangs or ends the process."""
    count = sum(1 for _ in hostile.write_all(tmp_path))
    costs = [json.loads(line) for line in run(hostile.__file__, str(tmp_path)).splitlines()]
    assert len({entry["file"] for entry in costs}) == count
    slow = [entry for entry in costs if entry["seconds"] > 2.0]
    large = [entry for entry in costs if entry["grown"] > 64.0 and "within" not in entry["file"]]
    assert not slow and not large
    within = [entry for entry in costs if "within" in entry["file"]]
    assert all(entry["grown"] < 3 * 64 * 3 + 64 for entry in within), (
        "a picture of 64 Mpx is allowed its pixels"
    )


def test_tables_of_sound_are_no_promise_of_frames(tmp_path: Path) -> None:
    """Uncompressed sound counts points in time, thousands to a kilobyte; the check lets good files through."""
    for kind, codec in (("mov", "pcm_s16le"), ("mp4", "aac")):
        content = hostile.sound(kind, codec)
        check_tables(hostile.BytesIO(content), "sound")
    content = hostile.sound("mov", "pcm_s16le")
    tiny = hostile.patched(content, b"stsz", 8, ">II", 1, 4096)  # one byte each, as QuickTime writes it
    check_tables(hostile.BytesIO(tiny + bytes(9)), "sound")
    for hoax in (
        hostile.patched(content, b"stsc", 12, ">III", 1, 0xFFFFFFFF, 1),
        hostile.patched(
            hostile.patched(content, b"stts", 12, ">II", 4096, 2), b"stsz", 8, ">II", 1, 90_000_000
        ),
    ):
        with pytest.raises(MediaError, match=hostile.PROMISES):
            check_tables(hostile.BytesIO(hoax), "sound")


# Names that are no files ----------------------------------------------------------------------------------------------

URLS = [
    "http://127.0.0.1:1/a.mp4",
    "https://127.0.0.1:1/a.mp4",
    "HTTP://127.0.0.1:1/a.mp4",
    "rtsp://127.0.0.1:1/a",
    "file:///etc/passwd",
    "data:video/mp4;base64,AAAA",
    "ftp://127.0.0.1/a.mp4",
    "concat://a|b",
]


@pytest.mark.parametrize("argument", READERS)
@pytest.mark.parametrize("url", URLS)
def test_urls_are_not_opened(argument: str, url: str) -> None:
    with pytest.raises(
        MediaError, match=f"{argument}='.*': URLs are not opened; download it and pass the local"
    ):
        READERS[argument](url)


@pytest.mark.parametrize("argument", READERS)
@pytest.mark.parametrize("name", [
    "none.mp4", "concat:a.mp4|b.mp4", "file:/etc/passwd", "pipe:0", "subfile,,start,0,end,9,,:a.mp4", "", "a\0b",
    "\ud800.mp4", "n" * 5000, "a/" * 3000, "frame_%03d.png", "*.mp4", "lavfi:testsrc", "-",
])  # fmt: skip
def test_names_without_files(argument: str, name: str) -> None:
    with pytest.raises(MediaError, match=f"{argument}=.*: no such file; check the path"):
        READERS[argument](name)


@pytest.mark.parametrize("argument", READERS)
def test_things_that_are_not_files(argument: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "to_pipe").symlink_to(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    table: dict[Any, str] = {
        tmp_path / "pipe": "is not a regular file; copy its content to a file",
        tmp_path / "to_pipe": "is not a regular file",
        "/dev/zero": "is not a regular file",
        "/dev/null": "is not a regular file",
        tmp_path / "loop": "is a link that leads nowhere",
        tmp_path / "dangling": "is a link that leads nowhere",
        tmp_path / "empty": r"is empty \(0 bytes\); fetch or write it again",
    }
    for source, message in table.items():
        with pytest.raises(MediaError, match=f"{argument}='.*' {message}"):
            READERS[argument](source)
    for source in (3, None, 2.5, object(), {"a": 1}, {1, 2}):
        with pytest.raises(MediaError, match=f"{argument}: got {type(source).__name__}; pass a path"):
            READERS[argument](source)


def test_standard_input_does_not_hang() -> None:
    code = (
        "from vidcompress.media import read_video, MediaError\n"
        "try: read_video('/dev/stdin')\n"
        "except MediaError as error: print(error)"
    )
    assert "video='/dev/stdin' is not a regular file" in run("-c", code, typed="x")


def test_files_that_only_others_may_read() -> None:
    """Root may read everything, so it becomes nobody for a moment."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "locked.mp4"
        path.write_bytes(hostile.clip())
        path.chmod(0)
        Path(folder).chmod(0o755)
        if root:
            os.seteuid(65534)
        try:
            for argument, read in READERS.items():
                with pytest.raises(
                    MediaError, match=rf"{argument}='.*locked.mp4' cannot be opened \(Permission"
                ):
                    read(path)
        finally:
            if root:
                os.seteuid(0)


@pytest.mark.parametrize("backend", ["auto", "decord", "torchcodec", "pillow"])
def test_nothing_is_fetched(backend: str, tmp_path: Path) -> None:
    """Lists that name an address where somebody listens: nobody calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        address = f"127.0.0.1:{server.getsockname()[1]}".encode()
        for case in (c for c in hostile.VIDEOS if c.message == hostile.PLAY_LIST or c.name == "session.sdp"):
            path = tmp_path / case.name
            path.write_bytes(case.make().replace(b"127.0.0.1:1", address))
            for source in (path, path.read_bytes(), f"http://{address.decode()}/{case.name}"):
                with pytest.raises(MediaError):
                    read_video(source, backend=backend)
        with pytest.raises(TimeoutError):
            server.accept()

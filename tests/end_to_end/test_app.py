"""The app without a browser: line, uploads, panes, the address it binds to, and what it asks of the network."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vidcompress
from vidcompress.errors import ArgumentError, MediaError, UnsupportedInputError
from vidcompress.loading.resources import find, roots
from vidcompress.media.video.frames import VideoFrames
from vidcompress.tools.app import render, server, uploads
from vidcompress.tools.app.cost_pane import cost_pane, devices, models
from vidcompress.tools.app.desk import MOST_METHODS, Asking, Desk, State, serving
from vidcompress.tools.app.uploads import open_upload, small_pictures
from vidcompress.tools.cost import estimate

QUESTION = "where is the white square?"


def cards(state: State) -> str:
    return render.CardPane().html(state)


@pytest.fixture
def desk(qa: vidcompress.VisualQA) -> Desk:
    return Desk(qa, max_new_tokens=8)


@pytest.fixture
def asking(image: Path) -> Asking:
    return Asking(QUESTION, str(image), ["globalcom2", "random"], retention_ratio=0.25)


@pytest.fixture
def slow(qa: vidcompress.VisualQA) -> Iterator[threading.Event]:
    """A model whose steps wait until the event is set."""
    go = threading.Event()
    handle = qa.model.register_forward_hook(lambda *_: go.wait(30) and None)
    yield go
    go.set()
    handle.remove()


# the line of questions


def test_states_lead_from_running_to_done(desk: Desk, asking: Asking, qa: vidcompress.VisualQA) -> None:
    states = list(desk.ask(asking))
    assert [state.phase for state in states[:-1]] == ["running"] * (len(states) - 1)
    last = states[-1]
    assert last.phase == "done" and last.labels == (
        ("none", "all"),
        ("globalcom2", "0.25"),
        ("random", "0.25"),
    )
    assert [len(state.rows) for state in states] == sorted(len(state.rows) for state in states)
    assert any(state.words and not state.rows for state in states)  # the first answer is streamed
    assert last.comparison is not None and last.comparison.rows == last.rows
    assert (
        last.rows[0].text
        == qa.using(method="none", retention_ratio=1.0).ask(QUESTION, image=asking.path).text
    )


def test_a_budget_of_tokens(desk: Desk, asking: Asking) -> None:
    *_, last = desk.ask(replace(asking, retention_ratio=None, max_tokens=64))
    assert [row.kept for row in last.rows] == [464, 64, 64]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": None}, "There is no picture and no clip yet"),
        ({"question": "  "}, "There is no question yet"),
        ({"methods": []}, "No method is chosen"),
        ({"methods": ["none"]}, "No method is chosen"),
        ({"methods": ["random"] * (MOST_METHODS + 1)}, f"choose at most {MOST_METHODS}"),
        ({"methods": ["globalcom3"]}, "did you mean 'globalcom2'?"),
        ({"methods": ["vidcom2"]}, "serves video inputs only"),
        ({"retention_ratio": 0.0}, "retention_ratio must be a number with 0 < R <= 1, got 0.0"),
        ({"question": "<image> what?"}, "stands for a picture or clip in a prompt"),
    ],
)
def test_what_is_wrong_is_one_line(desk: Desk, asking: Asking, changes: dict[str, Any], message: str) -> None:
    *_, last = desk.ask(replace(asking, **changes))
    assert last.phase == "failed" and message in last.message and "\n" not in last.message
    assert 'role="alert"' in render.status(last)
    *_, again = desk.ask(asking)  # the line goes on
    assert again.phase == "done"


def test_a_method_that_fails_has_a_card(desk: Desk, asking: Asking) -> None:
    *_, last = desk.ask(replace(asking, methods=["pdrop", "pool"], retention_ratio=0.1))
    assert last.phase == "done" and [row.answer is None for row in last.rows] == [False, True, False]
    assert "pdrop&#39; cannot keep 46 of 464" in cards(last)


def test_questions_wait_for_one_another(desk: Desk, asking: Asking, slow: threading.Event) -> None:
    first: list[State] = []
    reader = threading.Thread(target=lambda: first.extend(desk.ask(asking, "one")))
    reader.start()
    second = desk.ask(asking, "two")
    waiting = next(second)
    while waiting.phase == "running":  # the thread was not there yet
        second.close()
        second = desk.ask(asking, "two")
        waiting = next(second)
    assert waiting.phase == "waiting" and waiting.before == 1
    assert "Another tab is asking. Your question is number 2" in render.status(waiting)
    assert not first or first[-1].phase == "running"
    slow.set()
    states = list(second)
    reader.join(60)
    assert first[-1].phase == states[-1].phase == "done"
    assert not any(state.phase == "waiting" for state in first)


def test_a_waiting_question_can_be_stopped(desk: Desk, asking: Asking, slow: threading.Event) -> None:
    first = desk.ask(asking, "one")
    assert next(first).phase == "running"
    second = desk.ask(asking, "two")
    assert next(second).phase == "waiting"
    desk.stop("two")
    assert next(second).phase == "stopped"
    slow.set()
    *_, last = first
    assert last.phase == "done"  # another tab's


def test_stop_ends_a_running_question_of_that_tab(desk: Desk, asking: Asking, slow: threading.Event) -> None:
    states = desk.ask(asking, "one")
    assert next(states).phase == "running" and next(states).labels
    desk.stop("two")
    slow.set()
    assert next(states).phase == "running"
    desk.stop("one")
    *_, last = states
    assert last.phase == "stopped" and len(last.rows) < 3
    assert re.search(r"Stopped after \d of 3 answers", render.status(last))


# uploads


def test_kinds_are_told_by_content(tmp_path: Path, image: Path, clip: Path) -> None:
    picture = open_upload(str(shutil.copy(image, tmp_path / "picture.mp4")), {})
    moving = open_upload(str(shutil.copy(clip, tmp_path / "clip.png")), {"num_frames": 4})
    assert (picture.kind, moving.kind) == ("image", "video")
    assert isinstance(picture.content, Image.Image) and isinstance(moving.content, VideoFrames)
    assert [caption for _, caption in small_pictures(picture)] == ["336 x 224 pixels"]
    assert len(small_pictures(moving)) == 4 and len(small_pictures(moving, most=2)) == 2
    assert all(uri.startswith("data:image/jpeg;base64,") for uri, _ in small_pictures(moving))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.mp4", b"these are no frames\n" * 50, "'notes.mp4' is neither a picture nor a clip"),
        ("empty.png", b"", "'empty.png' is empty"),
        ("page.html", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "'page.html' is an SVG drawing"),
    ],
)
def test_other_files_are_refused_without_their_folder(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError) as caught:
        open_upload(str(tmp_path / name), {})
    assert message in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="'gone.png' is not on the server any more; upload it again"):
        open_upload(str(tmp_path / "gone.png"), {})


@pytest.mark.parametrize(
    ("limit", "value", "of", "message"),
    [
        ("MAX_BYTES", 10_000, "image", "has more than 0 MiB"),
        ("MAX_PIXELS", 336 * 224 - 1, "image", "224 x 336 is 75264 pixels, more than max_pixels=75263"),
        ("MAX_FRAME_PIXELS", 100, "clip", "max_pixels=100"),
        ("MAX_CLIP_FRAMES", 3, "clip", "max_source_frames=3"),
        ("MAX_CLIP_BYTES", 100, "clip", "max_bytes=100"),
        ("MAX_SECONDS", 2, "clip", "lasts 0 minutes, more than 2"),
    ],
)
def test_limits_hold(
    limit: str,
    value: int,
    of: str,
    message: str,
    image: Path,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = str({"image": image, "clip": clip}[of])
    assert open_upload(path, {}).kind  # within the limits as they are
    monkeypatch.setattr(uploads, limit, value)
    with pytest.raises(MediaError, match=re.escape(message) if "lasts" not in message else "lasts 0 minutes"):
        open_upload(path, {})


# panes


def test_texts_are_never_html(desk: Desk, asking: Asking) -> None:
    evil = "<img src=x onerror=alert(1)>"
    state = State("running", labels=(("none", "all"), (evil, "0.25")), words=evil)
    for pane in (
        cards(state),
        render.status(state),
        render.status(State("failed", evil)),
        render.preview(None, evil),
        cost_pane(evil, "picture", 64, 64, 1, "globalcom2", 0.5, 1, "H100"),
    ):
        assert "<img" not in pane
    assert "&lt;img src=x" in cards(state)


def test_cards_say_same_or_differs(desk: Desk, asking: Asking) -> None:
    *_, last = desk.ask(asking)
    pane = cards(last)
    same = sum(row.text == last.rows[0].text for row in last.rows[1:])
    assert pane.count("same as all tokens") == same and pane.count(">differs<") == 2 - same
    assert pane.count("<article") == pane.count("<img") == 3
    assert "116 of 464 (25.0 %)" in pane and "464 of 464 (100.0 %)" in pane
    first, *rest = last.rows
    assert first.answer is not None
    other = replace(first.answer, text="something else")
    differs = replace(last, rows=(first, replace(rest[0], answer=other)))
    assert cards(differs).count(">differs<") == 1


def test_a_pane_grows_as_a_new_one_would(desk: Desk, asking: Asking) -> None:
    pane, panes = render.CardPane(), []
    for state in desk.ask(asking):
        assert pane.html(state) == cards(state)
        panes.append(cards(state))
    assert len(set(panes)) >= 5 and panes == sorted(panes, key=len)  # the first words, then a card at a time


def test_the_viewer_is_the_comparisons_own(desk: Desk, asking: Asking) -> None:
    *_, last = desk.ask(asking)
    assert "<iframe" in render.viewer(last) and "globalcom2" in render.viewer(last)
    assert render.viewer(State("stopped")) == ""


def test_the_cost_pane_says_what_the_estimate_says() -> None:
    pane = cost_pane("llava-next-7b", "picture", 672, 672, 1, "globalcom2", 0.1, 1, "H200")
    rows = [
        estimate("llava-next-7b", size=(672, 672)),
        estimate("llava-next-7b", size=(672, 672), method="globalcom2", retention_ratio=0.1),
    ]
    for row in rows:
        assert f"{row.prefill_flops['everything'] / 1e12:.1f} TFLOPs" in pane
    assert f"{rows[1].visual['sent']:,} of {rows[1].visual['total']:,} visual tokens" in pane
    wide = cost_pane("llava-next-7b", "picture", 672, 672, 1, "globalcom2", 0.5, 1, "H200")
    assert wide != pane
    clip = cost_pane("qwen3-vl-8b", "clip", 640, 480, 8, "globalcom2", 0.1, 1, devices()[0])
    assert (
        f"{estimate('qwen3-vl-8b', frames=8, frame_size=(480, 640)).visual['total']:,} visual tokens" in clip
    )
    fixed = cost_pane("llava-onevision-7b", "clip", 640, 480, 8, "globalcom2", 0.1, 1, devices()[0])
    assert f"{estimate('llava-onevision-7b', frames=8).visual['total']:,} visual tokens" in fixed
    assert "have one size" in fixed and "have one size" not in clip + pane
    assert "llava-next-7b" in models()
    assert 'role="alert"' in cost_pane("llava-next-7b", "picture", 672, 672, 1, "globalcom2", 0.0, 1, "H200")
    assert 'role="alert"' not in pane


def test_methods_are_those_that_serve_the_file() -> None:
    assert "vidcom2" in serving("video") and "vidcom2" not in serving("image")
    assert {*serving("image"), *serving("video")} <= {*serving(None)} and "none" not in serving(None)


def test_the_examples_come_with_the_package() -> None:
    assert find("examples/scene.png").is_file() and find("examples/clip.mp4").is_file()
    assert roots("examples")


# the server


def test_a_port_that_is_taken_and_hosts_that_are_not_here() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"port={port} is taken on 127.0.0.1; pass another"):
            server.check_address("127.0.0.1", port)
    assert server.check_address("127.0.0.1", port) == ("127.0.0.1", port)
    with pytest.raises(ArgumentError, match=r"host='192\.0\.2\.1': is no address of this machine"):
        server.check_address("192.0.2.1", None)
    with pytest.raises(ArgumentError, match=r"host='\.a': no address of that name"):
        server.check_address(".a", port)
    assert server.check_address("localhost", None)[1] in server.PORTS


def test_which_hosts_are_local() -> None:
    assert all(map(server.is_local, ("127.0.0.1", "localhost", "::1", "127.8.0.1")))
    assert not any(map(server.is_local, ("0.0.0.0", "192.168.1.4", "::", "example.org")))


@pytest.mark.parametrize(
    ("installed", "message"),
    [(None, "needs gradio, which is not installed"), ("3.18.0", "and 3.18.0 is installed")],
)
def test_without_gradio(monkeypatch: pytest.MonkeyPatch, installed: str | None, message: str) -> None:
    def version(name: str) -> str:
        if installed is None:
            raise server.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(server, "version", version)
    with pytest.raises(UnsupportedInputError, match=message) as caught:
        server.check_gradio()
    assert "[app]" in str(caught.value)


GUARDED = """
import socket, sys
ask, looked = socket.getaddrinfo, sys.argv[1]
def guarded(host, *rest, **named):
    name = host.decode() if isinstance(host, bytes) else host
    if name not in (None, "", "127.0.0.1", "localhost", "::1", "0.0.0.0"):
        open(looked, "a").write(f"{name}\\n")
        raise socket.gaierror(-2, "guarded")
    return ask(host, *rest, **named)
socket.getaddrinfo = guarded
if len(sys.argv) == 2:  # the control: what the guard is for
    import urllib.request
    try:
        urllib.request.urlopen("http://example.org/", timeout=5)
    except OSError:
        sys.exit(7)
from vidcompress.cli import main
main(sys.argv[2:])
"""


def test_the_guard_sees_a_request(tmp_path: Path) -> None:
    looked = tmp_path / "looked"
    done = subprocess.run([sys.executable, "-c", GUARDED, str(looked)], env=_environment(tmp_path))
    assert done.returncode == 7 and looked.read_text() == "example.org\n"


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "TMPDIR": str(folder), "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}


def test_the_command_serves_asks_nothing_outside_and_leaves_nothing(
    tmp_path: Path, image: Path, clip: Path
) -> None:
    """A real process from start to SIGTERM, with its own folder for temporary files."""
    gradio_client = pytest.importorskip("gradio_client", reason="needs gradio: pip install '.[app]'")
    port = _free_port()
    folder, looked = tmp_path / "tmp", tmp_path / "looked"
    folder.mkdir()
    words = [sys.executable, "-c", GUARDED, str(looked), "app", "--port", str(port), "--max-new-tokens", "8"]
    with subprocess.Popen(words, env=_environment(folder), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            before: list[str] = []
            for line in process.stderr:
                if line.startswith("http"):
                    break
                before.append(line)
            else:
                pytest.fail("".join(before))
            url = line.split()[0]
            assert url == f"http://127.0.0.1:{port}"
            assert (own := _only(folder)).name.startswith("vidcompress-app-")
            client = gradio_client.Client(url, verbose=False, analytics_enabled=False)
            for media in (image, clip):
                arguments = (gradio_client.handle_file(str(media)), QUESTION, ["random"], "share", 0.25, 64)
                status, cards, viewer = client.predict(*arguments, api_name="/ask")
                assert "2 answers." in status and cards.count("<article") == 2 and "<iframe" in viewer
            text = tmp_path / "notes.mp4"
            text.write_text("no frames\n" * 100)
            refused = client.predict(
                gradio_client.handle_file(str(text)), QUESTION, ["random"], "share", 0.25, 64, api_name="/ask"
            )
            assert "notes.mp4" in refused[0] and "is neither a picture nor a clip" in refused[0]
            assert str(folder) not in refused[0]
            assert "visual tokens reach" in client.predict(
                "llava-next-7b", "picture", 672, 672, 1, "random", 0.1, 1, "H100", api_name="/cost"
            )
            assert _refused_upload(url, uploads.MAX_BYTES + 1) == 413
            assert _bytes_in(own) < 1_000_000  # what was refused is not kept
            client.close()
            process.send_signal(signal.SIGTERM)
            assert "ended; uploads are deleted" in process.stderr.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not own.exists()
    assert not looked.exists(), looked.read_text()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _only(folder: Path) -> Path:
    (own,) = folder.glob("vidcompress-app-*")
    return own


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _refused_upload(url: str, size: int) -> int:
    """Status of the answer to an upload, which is made up while it is sent."""
    edge = "edge"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="big.mp4"\r\n\r\n'.encode()
    tail = f"\r\n--{edge}--\r\n".encode()
    with tempfile.TemporaryFile() as body:
        body.write(head)
        body.seek(len(head) + size)
        body.write(tail)
        length = body.seek(0, os.SEEK_END)
        body.seek(0)
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}", "Content-Length": str(length)}
        request = urllib.request.Request(f"{url}/gradio_api/upload", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (ConnectionError, urllib.error.URLError):  # it hangs up on who goes on sending
            time.sleep(1)
            return 413

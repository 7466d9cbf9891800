"""`vidcompress ask "what?" photo.jpg clip.mp4`: words in their places, kinds by content, the answer alone on stdout."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vidcompress import VisualQA
from vidcompress.cli import main
from vidcompress.cli.ask import _print
from vidcompress.cli.question import read_asked
from vidcompress.qa.question import REMARK

ROOT = Path(__file__).parents[2]
QUESTION = "what digit is shown?"
SHORT = ("--max-new-tokens", "2")
PROGRAM = [sys.executable, "-c", "from vidcompress.cli import main; main()"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([*words])
    written = capsys.readouterr()
    return int(stop.value.code or 0), written.out, written.err


def entry(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The object that `ask --json` prints."""
    code, out, err = run(capsys, "ask", *words, *SHORT, "--json")
    assert code == 0, err
    made: dict[str, Any] = json.loads(out)
    made.pop("timing_ms")
    return made


def seen(made: dict[str, Any]) -> list[str]:
    """Kinds of what was asked about, in order."""
    return [visual["modality"] for visual in made["visuals"]]


@pytest.fixture
def disguised(image: Path, clip: Path, tmp_path: Path) -> tuple[str, str]:
    """The picture called like a clip, and the clip called like a picture."""
    return (
        str(shutil.copy(image, tmp_path / "picture.mp4")),
        str(shutil.copy(clip, tmp_path / "clip.png")),
    )


def test_the_words_say_what_the_options_say(
    capsys: pytest.CaptureFixture[str], image: Path, clip: Path
) -> None:
    for word, named in ((image, "--image"), (clip, "--video")):
        expected = entry(capsys, "-q", QUESTION, named, str(word), "-n", "4")
        assert entry(capsys, QUESTION, str(word), "-n", "4") == expected
        assert entry(capsys, str(word), "-q", QUESTION, "-n", "4") == expected
    assert seen(entry(capsys, QUESTION)) == []


def test_kinds_are_told_by_content_and_not_by_name(
    capsys: pytest.CaptureFixture[str], disguised: tuple[str, str]
) -> None:
    picture, clip = disguised
    assert seen(entry(capsys, QUESTION, picture)) == ["image"]
    assert seen(entry(capsys, QUESTION, clip, "-n", "2")) == ["video"]
    code, out, err = run(capsys, "ask", QUESTION, "--video", picture)
    assert (code, out) == (1, "") and "is a still picture" in err, "a named option says the kind"


def test_pictures_and_a_clip_stand_in_one_question(
    capsys: pytest.CaptureFixture[str], image: Path, clip: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (40, 300), "red").save(other)
    made = entry(capsys, QUESTION, str(clip), str(image), "--image", str(other), "-n", "2")
    assert seen(made) == ["image", "image", "video"]
    named = ("--image", str(other), "--image", str(image), "--video", str(clip))
    assert entry(capsys, "-q", QUESTION, *named, "-n", "2") == made
    asked = read_asked("ask", QUESTION, [str(clip), str(image)], None, [str(other)], None)
    assert asked == (QUESTION, [str(other), str(image)], str(clip)), "those of --image come first"
    asked = read_asked("ask", str(image), [str(clip)], [QUESTION], [str(other)], None)
    assert asked == (QUESTION, [str(other), str(image)], str(clip)), "with --question all words are media"


def test_stdout_holds_the_answer_alone(image: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "answer.txt").open("wb") as file:
        done = subprocess.run(
            [*PROGRAM, "ask", QUESTION, str(image), "-o", "kept.png"],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            cwd=tmp_path,
            env=environment,
        )
    assert (tmp_path / "answer.txt").read_text() == "6\n"
    assert done.stderr.startswith("globalcom2 (exact): 116 of 464")
    assert done.stderr.endswith("wrote kept.png\n") and "\x1b" not in done.stderr


def test_an_answer_without_words_is_an_empty_line(
    capsys: pytest.CaptureFixture[str], qa: VisualQA, image: Path
) -> None:
    answer = qa.ask(QUESTION, image=image, max_new_tokens=1)
    for text, said in (("", 1), (answer.text, 0)):
        _print(replace(answer, text=text), {"overlay": []}, [])
        out, err = capsys.readouterr()
        assert (out, err.count("(no words)")) == (f"{text}\n", said)


def test_the_note_on_the_model_is_said_once_of_words_too(
    capsys: pytest.CaptureFixture[str], image: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    Image.open(image).save(photo, compress_level=1)
    for words in ((QUESTION, str(photo)), (str(photo), "-q", QUESTION)):
        assert entry(capsys, *words)["notes"].count(REMARK) == 1
        _, out, err = run(capsys, "ask", *words, *SHORT)
        assert err.startswith(f"vidcompress: note: {REMARK}\n")
        assert err.count(REMARK) == 1 and REMARK not in out
    _, _, err = run(capsys, "ask", QUESTION, str(photo), "--model", "tiny-onevision", *SHORT)
    assert REMARK not in err
    assert REMARK not in run(capsys, "ask", QUESTION, str(image), *SHORT)[2]


def test_compare_takes_the_same_words(
    capsys: pytest.CaptureFixture[str], disguised: tuple[str, str], tmp_path: Path
) -> None:
    words = ("--methods", "frames", "--only", "-r", "0.5", "--repeats", "1", *SHORT)
    code, out, err = run(capsys, "compare", QUESTION, disguised[1], "-n", "4", *words, "--json")
    assert code == 0, err
    assert [row["method"] for row in json.loads(out)["rows"]] == ["none", "frames"]
    code, out, err = run(capsys, "compare", QUESTION, disguised[0], *words)
    assert (code, out) == (2, "") and "'frames' serves video inputs only" in err, "it is a picture"


def at_a_terminal(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    """A process whose stderr is a terminal, and the other end of that."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    return process, ours


def read_until(terminal: int, text: str = "\0", seconds: float = 120.0) -> str:
    """What is shown until a text, or until the terminal is closed."""
    shown, end = b"", time.monotonic() + seconds
    while text.encode() not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
    return shown.decode(errors="replace")


def test_bars_come_and_go_on_a_terminal(image: Path) -> None:
    process, terminal = at_a_terminal("ask", QUESTION, str(image), "--json")
    shown = read_until(terminal)
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert json.loads(out)["answer"] == "6" and out.count(b"\n") == 1
    assert "loading the embedded model" in shown
    assert shown.rstrip("\r\n").endswith(("\x1b[2K", "\x1b[?25h")), "nothing is left of the bar"


def test_ctrl_c_while_a_model_is_loaded(image: Path) -> None:
    process, terminal = at_a_terminal("ask", QUESTION, str(image))
    shown = read_until(terminal, "loading the embedded model")
    process.send_signal(signal.SIGINT)
    shown += read_until(terminal)
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert (process.returncode, out) == (130, b"")
    assert shown.count("vidcompress: interrupted\r\n") == 1 and "Traceback" not in shown


@pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x10\x00\x00\x00WEBPVP8 "])
def test_a_damaged_picture_is_called_a_picture(
    head: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(head + b"junk" * 40)
    with pytest.raises(SystemExit, match="^1$|^2$"):
        main(["ask", "what?", str(broken)])
    said = capsys.readouterr().err
    assert "--image" not in said and "picture" in said

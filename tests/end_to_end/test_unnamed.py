"""Without a named model, media that are not the package's own: the answer says what the model by default knows."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

import vidcompress
from vidcompress.cli import main
from vidcompress.media import read_video
from vidcompress.qa.question import EXAMPLE, REMARK, is_own
from vidcompress.tools.evaluation.suite import make

QUESTION = "what digit is shown?"


@pytest.fixture(scope="module")
def unnamed() -> vidcompress.VisualQA:
    return vidcompress.VisualQA.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of the suite."""
    return make("needle", tmp_path_factory.mktemp("drawn") / "needle", questions=2).folder


@pytest.fixture
def photo(tmp_path: Path, image: Path) -> Path:
    """Other bytes than those of the example, with the same pixels."""
    Image.open(image).save(tmp_path / "photo.png", compress_level=1)
    return tmp_path / "photo.png"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    written = capsys.readouterr()
    assert not stop.value.code, written.err
    return written.out, written.err


def test_the_remark_says_what_the_model_knows_and_what_to_pass() -> None:
    assert "tiny-onevision" in REMARK and "coloured shapes and digits only" in REMARK
    assert f"--model {EXAMPLE}" in REMARK and f"VisualQA.from_pretrained('{EXAMPLE}')" in REMARK
    assert "\n" not in REMARK and "/" in EXAMPLE


def test_what_is_the_packages_own(image: Path, clip: Path, drawn: Path, photo: Path, tmp_path: Path) -> None:
    media = next((drawn / "media").iterdir())
    with image.open("rb") as file:
        own = [
            image,
            str(image),
            image.parent / ".." / "examples" / "scene.png",
            file,
            Image.open(image),
            clip,
        ]
        assert [is_own(source) for source in [*own, read_video(str(clip)), [image, clip], media, drawn]] == [
            True
        ] * 10
    (tmp_path / "link.png").symlink_to(image)
    assert is_own(tmp_path / "link.png")
    copied = tmp_path / "copied.png"
    shutil.copy(image, copied)
    assert is_own(copied)  # an installed package has no examples beside it
    with copied.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")
    assert copied.stat().st_size == image.stat().st_size and not is_own(copied)
    with photo.open("rb") as file:
        pixels = [Image.new("RGB", (4, 4)), photo.read_bytes(), io.BytesIO(photo.read_bytes()), None, 5]
        foreign = [photo, str(photo), file, Image.open(photo), [image, photo], "", "a\0b", *pixels]
        assert [is_own(source) for source in foreign] == [False] * len(foreign)
    stranger = Path(shutil.copy(photo, drawn / "media" / "stranger.png"))
    assert not is_own(stranger)  # lies in a drawn folder and was not drawn
    stranger.unlink()
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {"photo.png": 1}, "revision": "1"}))
    assert not is_own(photo)  # the manifest of another program


def test_answers_say_it_once_and_only_of_what_is_not_own(
    unnamed: vidcompress.VisualQA, image: Path, clip: Path, photo: Path
) -> None:
    def notes(answer: vidcompress.Answer) -> int:
        assert answer.to_dict()["notes"] == answer.report.all_notes
        assert str(answer.report).count(REMARK) == answer.report.notes.count(REMARK)
        return answer.report.notes.count(REMARK)

    assert notes(unnamed.ask(QUESTION, image=image, max_new_tokens=1)) == 0
    assert notes(unnamed.ask(QUESTION, video=clip, max_new_tokens=1)) == 0
    assert notes(unnamed.ask(QUESTION, max_new_tokens=1)) == 0
    assert notes(unnamed.ask(QUESTION, images=[photo, photo], max_new_tokens=1)) == 1
    assert notes(unnamed.using(method="random").ask(QUESTION, image=photo, max_new_tokens=1)) == 1
    batch = [{"question": QUESTION, "image": source} for source in (photo, image)]
    assert [notes(answer) for answer in unnamed.ask_batch(batch, max_new_tokens=1)] == [1, 0]
    chat = unnamed.chat(image=photo)
    assert [notes(chat.ask(QUESTION, max_new_tokens=1)) for _ in range(2)] == [1, 1]
    compared = unnamed.compare(
        QUESTION,
        image=photo,
        methods="random",
        retention_ratios=0.5,
        controls=False,
        repeats=2,
        max_new_tokens=1,
    )
    assert [row.to_dict()["notes"].count(REMARK) for row in compared.rows] == [1, 1]
    assert " ".join(str(compared).split()).count(REMARK) == 1


def test_a_model_that_was_named_is_left_in_peace(photo: Path) -> None:
    named = vidcompress.VisualQA.from_pretrained("tiny-onevision", device="cpu")
    assert REMARK not in named.ask(QUESTION, image=photo, max_new_tokens=1).report.notes


@pytest.mark.parametrize("command", ["ask", "compare"])
def test_the_command_line_says_it_in_one_line_on_stderr(
    capsys: pytest.CaptureFixture[str], photo: Path, image: Path, command: str
) -> None:
    words = [command, "-q", QUESTION, "--max-new-tokens", "1", "--json"]
    words += (
        ["--methods", "random", "--retention-ratios", "0.5", "--repeats", "2"] if command == "compare" else []
    )
    out, err = run(capsys, *words, "--image", str(photo))
    assert err == f"vidcompress: note: {REMARK}\n"
    assert out.count(json.dumps(REMARK)) == (1 if command == "ask" else len(json.loads(out)["rows"]))
    for others in (("--image", str(image)), ("--image", str(photo), "--model", "tiny-onevision")):
        out, err = run(capsys, *words, *others)
        assert err == "" and REMARK not in out


def test_eval_says_it_of_data_that_were_not_drawn_here(
    capsys: pytest.CaptureFixture[str], drawn: Path, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "questions.jsonl").write_text(
        json.dumps({"id": "a", "question": QUESTION, "image": "photo.png", "answer": "6"}) + "\n"
    )
    words = ["eval", "--methods", "random", "--retention-ratios", "0.5", "--json"]
    for more, said in (
        (["--data", str(tmp_path), "--dry-run"], True),
        (["--data", str(tmp_path), "--out", str(tmp_path / "run")], True),
        (["--data", str(tmp_path), "--dry-run", "--model", "tiny-onevision"], False),
        (["--data", str(drawn), "--dry-run"], False),
        (["--data", str(drawn), "--data", str(tmp_path), "--dry-run"], True),
        (["--task", "shapes:image", "--dry-run"], False),
    ):
        out, err = run(capsys, *words, *more)
        assert err.count(f"vidcompress: note: {REMARK}\n") == said, more
        assert json.loads(out)["notes"] == [REMARK] * said

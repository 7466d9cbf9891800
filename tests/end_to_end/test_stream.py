"""Streaming: the pieces are the answer, errors reach the reader, leaving early stops the work."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import vidcompress
from vidcompress.errors import ArgumentError, UnsupportedInputError

QUESTION = "where is the white square?"


def test_pieces_join_to_the_answer(qa: vidcompress.VisualQA, image: Path, clip: Path) -> None:
    for media in ({"image": image}, {"video": clip}, {}):
        pieces = list(qa.stream(QUESTION, **media, max_new_tokens=8))
        assert "".join(pieces).strip() == qa.ask(QUESTION, **media, max_new_tokens=8).text
    assert len(list(qa.stream(QUESTION, image=image))) >= 2  # "bottom left" comes in two


def test_what_goes_wrong_reaches_the_reader(qa: vidcompress.VisualQA, image: Path) -> None:
    with pytest.raises(UnsupportedInputError, match="'vidcom2' serves video inputs only"):
        list(qa.using(method="vidcom2").stream(QUESTION, image=image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "num_beams=2: beams cannot be streamed"),
        ({"streamer": object()}, "stream brings its own"),
        ({"image": 3, "images": [3]}, "image"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    qa: vidcompress.VisualQA, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        qa.stream(QUESTION, **options)


def test_leaving_early_stops_the_generation(qa: vidcompress.VisualQA, image: Path) -> None:
    steps: list[int] = []

    def step(*_: object) -> None:
        steps.append(1)
        time.sleep(0.002)  # or a busy machine generates everything before the reader gets its turn

    handle = qa.model.register_forward_hook(step)
    try:
        for _ in qa.stream(QUESTION, image=image, max_new_tokens=2000, min_new_tokens=2000):
            break
    finally:
        handle.remove()
    assert "vidcompress-stream" not in {thread.name for thread in threading.enumerate()}
    assert len(steps) < 1000

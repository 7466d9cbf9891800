"""Batches made ready in a thread, one ahead: in order, no further ahead, errors in their place."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import vidcompress
from vidcompress.core.devices import upload
from vidcompress.media import MediaError
from vidcompress.qa.pipeline import Pipeline
from vidcompress.qa.prefetch import ahead

CPU = torch.device("cpu")


def run(make: Any, items: list[Any]) -> Any:
    return ahead(make, items, CPU, lambda made: {})


def test_one_ahead_and_no_further() -> None:
    started: list[int] = []

    def make(number: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        started.append(number)
        return number * 10

    for place, made in enumerate(run(make, [0, 1, 2, 3])):
        assert made == place * 10
        deadline = time.monotonic() + 5
        while len(started) < min(4, place + 2) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert started == list(range(min(4, place + 2))), "the next one is in work, those after it are not"


def test_a_single_item_needs_no_thread() -> None:
    assert list(run(lambda item: threading.current_thread(), ["only"])) == [threading.main_thread()]
    assert list(run(lambda item: item, [])) == []


def test_an_error_is_raised_in_its_place_and_leaving_ends_the_thread() -> None:
    def make(number: int) -> int:
        if number == 1:
            raise MediaError("number 1 is damaged")
        return number

    made = run(make, [0, 1, 2])
    assert next(made) == 0
    with pytest.raises(MediaError, match="number 1 is damaged"):
        next(made)
    stopped = run(make, [0, 2, 3, 4])
    assert next(stopped) == 0
    stopped.close()
    assert not any(thread.name.startswith("vidcompress-ahead") for thread in threading.enumerate())


def test_questions_are_answered_as_alone_while_the_next_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    qa = vidcompress.VisualQA.from_pretrained(retention_ratio=0.25)
    examples = Path(__file__).parents[3] / "examples"
    items: list[dict[str, Any]] = [
        {"question": "what digit is shown?", "image": str(examples / "scene.png")},
        {"question": "which shape appears first?", "video": str(examples / "clip.mp4")},
        {"question": "what digit is shown?", "video": str(examples / "clip.mp4")},
    ]
    alone = [qa.ask(**item, max_new_tokens=3) for item in items]
    read, last_read = [], threading.Event()
    preprocess, answer = Pipeline.preprocess, Pipeline.answer

    def noting(*args: Any, **kwargs: Any) -> Any:
        made = preprocess(*args, **kwargs)
        read.append(threading.current_thread().name)
        if len(read) == 2:
            last_read.set()
        return made

    def late(*args: Any, **kwargs: Any) -> Any:
        assert last_read.wait(20), "the second question is read before the first one is answered"
        return answer(*args, **kwargs)

    monkeypatch.setattr(Pipeline, "preprocess", noting)
    monkeypatch.setattr(Pipeline, "answer", late)
    together = qa.ask_batch(items, batch_size=1, max_new_tokens=3)
    assert [one.text for one in together] == [one.text for one in alone]
    assert [one.report.visual_tokens() for one in together] == [one.report.visual_tokens() for one in alone]
    assert len(read) == 3 and all(name.startswith("vidcompress-ahead") for name in read)
    for one in together:
        parts = [ms for phase, ms in one.timing_ms.items() if phase != "total"]
        assert sum(parts) == pytest.approx(one.timing_ms["total"]) and one.timing_ms["decode"] > 0


def test_a_broken_file_later_on_is_named(tmp_path: Path) -> None:
    qa = vidcompress.VisualQA.from_pretrained(retention_ratio=0.25)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip")
    items: list[dict[str, Any]] = [
        {"question": "what digit is shown?"},
        {"question": "what?", "video": str(broken)},
    ]
    with pytest.raises(MediaError, match="broken.mp4"):
        qa.ask_batch(items, batch_size=1, max_new_tokens=1)


def test_upload_on_the_cpu_copies_nothing() -> None:
    values = torch.arange(4)
    assert upload(values, CPU) is values

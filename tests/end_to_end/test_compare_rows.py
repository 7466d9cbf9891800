"""`VisualQA.compare_rows`: words and rows as they come, the same as those of `compare`, until the reader stops them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidcompress
from vidcompress import UnsupportedInputError
from vidcompress.errors import ArgumentError, CompressionStateError
from vidcompress.qa.compare.row import ComparisonRow

QUESTION = "where is the white square?"
LABELS = ("none", "globalcom2", "fastv")


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.fixture
def slow(qa: vidcompress.VisualQA) -> Iterator[list[int]]:
    """The model with a pause before each step, so that a reader gets its turn; the steps that were run."""
    steps: list[int] = []

    def step(*_: object) -> None:
        steps.append(1)
        time.sleep(0.002)

    handle = qa.model.register_forward_hook(step)
    yield steps
    handle.remove()


def test_rows_are_those_of_compare(qa: vidcompress.VisualQA, image: Path, clip: Path) -> None:
    for media in ({"image": image}, {"video": clip}):
        given = {**media, "methods": LABELS[1:], "retention_ratios": [0.5, 0.3], "controls": False}
        whole = qa.compare(QUESTION, **given, repeats=1, max_new_tokens=8)
        stream = qa.compare_rows(QUESTION, **given, max_new_tokens=8)
        assert stream.labels == tuple((row.label, row.budget_text) for row in whole.rows)
        items = list(stream)
        rows = [item for item in items if isinstance(item, ComparisonRow)]
        assert rows == stream.rows
        assert [(row.text, row.kept, row.total, row.agreement) for row in rows] == [
            (row.text, row.kept, row.total, row.agreement) for row in whole.rows
        ]
        assert len({row.kept for row in rows}) > 1
        said, texts = "", []
        for item in items:  # the words of a row come before it
            if isinstance(item, str):
                said += item
            else:
                texts.append(said.strip())
                said = ""
        assert texts == [row.text for row in rows] and not said
        comparison = stream.comparison
        assert comparison.rows == tuple(rows) and comparison.runs == 1 and not comparison.warmed_up
        assert comparison.settings == whole.settings and set(comparison.shared_ms) == {"decode", "preprocess"}


def test_a_first_row_comes_before_the_others_are_run(
    qa: vidcompress.VisualQA, image: Path, slow: list[int]
) -> None:
    with qa.compare_rows(QUESTION, image=image, methods=LABELS[1:], max_new_tokens=4) as stream:
        with pytest.raises(CompressionStateError, match="no row is complete yet"):
            _ = stream.comparison
        first = next(item for item in stream if isinstance(item, ComparisonRow))
        steps = len(slow)
    assert first.label == "none" and stream.comparison.rows == (first,)
    assert 0 < steps <= 4 and len(slow) == steps
    assert list(stream) == []


def test_leaving_early_stops_the_generation(qa: vidcompress.VisualQA, image: Path, slow: list[int]) -> None:
    long = {"max_new_tokens": 2000, "min_new_tokens": 2000}
    stream = qa.compare_rows(QUESTION, image=image, methods="fastv", retention_ratios=0.5, **long)
    next(stream)
    stream.close()
    assert "vidcompress-stream" not in names()
    assert len(slow) < 1000 and stream.rows == []


def test_another_thread_stops_it_and_the_cut_answer_is_no_row(
    qa: vidcompress.VisualQA, image: Path, slow: list[int]
) -> None:
    long = {"max_new_tokens": 2000, "min_new_tokens": 2000}
    stream = qa.compare_rows(QUESTION, image=image, methods="fastv", retention_ratios=0.5, **long)
    begun = threading.Event()

    def read() -> None:
        for _ in stream:
            begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    stream.close()
    reader.join(60)
    assert not reader.is_alive() and "vidcompress-stream" not in names()
    assert len(slow) < 1000 and stream.rows == [] and list(stream) == []


def test_the_model_is_as_before_after_a_stop(qa: vidcompress.VisualQA, image: Path) -> None:
    """Also within a method that puts hooks on its layers."""
    before = qa.ask(QUESTION, image=image).text
    stream = qa.compare_rows(QUESTION, image=image, methods="fastv", max_new_tokens=200, min_new_tokens=200)
    rows = (item for item in stream if isinstance(item, ComparisonRow))
    assert next(rows).label == "none"
    assert isinstance(next(stream), str)
    stream.close()
    assert qa.ask(QUESTION, image=image).text == before


def test_a_method_that_fails_is_a_row_and_the_others_go_on(qa: vidcompress.VisualQA, image: Path) -> None:
    stream = qa.compare_rows(
        QUESTION, image=image, methods=["pdrop", "pool"], retention_ratios=0.1, controls=False
    )
    rows = [item for item in stream if isinstance(item, ComparisonRow)]
    assert [row.label for row in rows] == ["none", "pdrop", "pool"]
    assert rows[1].answer is None and "'pdrop' cannot keep 46 of 464" in rows[1].note
    assert rows[2].answer is not None and rows[2].note == ""
    assert "pdrop at 0.1" in str(stream.comparison)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"num_beams": 2}, ArgumentError, "num_beams=2: beams cannot be streamed"),
        ({"methods": "vidcom2"}, UnsupportedInputError, "'vidcom2' serves video inputs only"),
        ({"image": None}, ArgumentError, "there is nothing to compress"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    qa: vidcompress.VisualQA, image: Path, given: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        qa.compare_rows(QUESTION, **{"image": image, **given})

"""What a report says beside its numbers, and errors that name what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tiny_models import Scene, batch, tiny_model
from vidcompress.core.method_lookup import get_method
from vidcompress.errors import ArgumentError, UnsupportedInputError
from vidcompress.session.compress import compress_inputs


def test_fewer_tokens_than_views_is_said_of_the_input_it_happens_to() -> None:
    model = tiny_model("llava_onevision")
    rows = [Scene((("video", 7), ("image", (112, 80)))), Scene(()), Scene((("video", 7),), seed=2)]
    report = compress_inputs(model, batch(model, rows), "globalcom2", max_tokens=12).report
    assert [v.kept for v in report.visuals] == [3, 9, 12]
    assert report.all_notes == [
        "video 0: its budget of 3 leaves 2 tokens for 7 views, so at least 5 of them send nothing"
    ]
    sent = [view.kept for view in report.visuals[0].views]
    assert sum(sent) == 2 and sent.count(0) >= 5
    assert report.for_row(1).all_notes == [] and report.for_row(2).all_notes == []
    assert report.for_row(0).to_dict()["notes"] == report.all_notes
    assert report.all_notes[0] in str(report)


def test_enough_tokens_need_no_note() -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("video", 7),))])
    assert compress_inputs(model, inputs, "globalcom2", retention_ratio=0.5).report.all_notes == []
    assert compress_inputs(model, inputs, "none", retention_ratio=0.01).report.all_notes == []


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("globalcom2", {"tau": "x"}, "tau must be a number, got 'x'"),
    ("globalcom2", {"alpha": None}, "alpha must be a number, got None"),
    ("vidcom2", {"tau": True}, "tau must be a number, got True"),
    ("vidcom2", {"widths": 1}, "widths must be a list of numbers above 0, got 1"),
    ("vidcom2", {"widths": [1, "a"]}, r"widths\[1\] must be a number, got 'a'"),
    ("random", {"seed": 2**70}, "seed must be an integer from 0 to"),
    ("random", {"seed": -1}, "seed must be an integer from 0 to"),
]


@pytest.mark.parametrize(("method", "options", "message"), BAD)
def test_options_of_the_wrong_kind_are_named(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        get_method(method, **options)


def test_a_method_that_does_not_serve_says_which_does() -> None:
    model = tiny_model("llava_onevision")
    with pytest.raises(
        UnsupportedInputError, match="'vidcom2' serves video inputs only, got an image; use globalcom2"
    ):
        compress_inputs(model, batch(model, [Scene((("image", (56, 56)),))]), "vidcom2", retention_ratio=0.5)
    with pytest.raises(UnsupportedInputError, match="inputs must be a mapping .* got NoneType"):
        compress_inputs(model, None, retention_ratio=0.5)  # type: ignore[arg-type]

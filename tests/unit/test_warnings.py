"""Warnings name the caller's line, not one of the package."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Iterable
from typing import Any

import pytest

from tiny_models import Scene, batch, tiny_model
from vidcompress import compress, compress_inputs, errors
from vidcompress.core.method_lookup import get_method
from vidcompress.session import compress as session

NEWER = r"5\.99\.0 is newer"


def lines(caught: Iterable[warnings.WarningMessage]) -> list[str]:
    """The lines of this file that warnings name."""
    return [
        linecache.getline(warning.filename, warning.lineno).strip() if warning.filename == __file__ else ""
        for warning in caught
    ]


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compression warns once more that this transformers was not tested."""
    monkeypatch.setattr(errors, "_WARNED", set())
    monkeypatch.setattr(session.transformers, "__version__", "5.99.0")


@pytest.fixture
def model() -> Any:
    return tiny_model("llava_next")


@pytest.fixture
def inputs(model: Any) -> Any:
    return batch(model, [Scene((("image", (56, 56)),))])


def test_the_line_is_that_of_the_call(model: Any, inputs: Any, untested: None) -> None:
    with pytest.warns(UserWarning, match=NEWER) as caught:
        compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    assert lines(caught) == ['compress_inputs(model, inputs, "uniform", retention_ratio=0.5)']


def test_the_line_is_found_behind_torch(model: Any, inputs: Any, untested: None) -> None:
    """In a block the model is called through torch's own frames."""
    with (
        compress(model, "uniform", retention_ratio=0.5),
        pytest.warns(UserWarning, match=NEWER) as caught,
    ):
        model(**inputs)
    assert lines(caught) == ["model(**inputs)"]


def test_a_warning_of_a_method_names_the_caller_of_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_WARNED", set())
    with pytest.warns(UserWarning, match="'visionzip' wants") as caught:
        get_method("visionzip").needs("image", False)
    assert lines(caught) == ['get_method("visionzip").needs("image", False)']


def test_filters_know_the_caller_s_module() -> None:
    """It can be turned off by module, and by default a line says it once, as with any other warning."""
    spoken: Any = {"__name__": "somewhere"}
    exec(compile("def speak(warn):\n    warn('a word')", "somewhere.py", "exec"), spoken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            spoken["speak"](errors.warn_caller)
    assert [(warning.filename, warning.lineno) for warning in caught] == [("somewhere.py", 2)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module="somewhere")
        spoken["speak"](errors.warn_caller)
        errors.warn_caller("a word")
    assert lines(caught) == ['errors.warn_caller("a word")']

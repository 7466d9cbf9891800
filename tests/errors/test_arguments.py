"""The table of wrong arguments: every parameter of every public name, what it raises, and what the message says."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import vidcompress
from errors import rows_answers, rows_compress, rows_media, rows_registry
from errors.rows import Make, Row, complaints
from errors.surface import EXEMPT, calls, parameters, world
from tiny_models import VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress import media
from vidcompress.errors import VidcompressError, shown

ROWS = [*rows_answers.ROWS, *rows_compress.ROWS, *rows_media.ROWS, *rows_registry.ROWS]


@pytest.fixture(scope="module")
def here() -> Iterator[SimpleNamespace]:
    made = world()
    made.opened = tiny_model("llava_next")
    with vidcompress.compress(made.opened, retention_ratio=0.5):
        made.calls = calls(made)
        yield made


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_wrong_argument_is_refused(row: Row, here: SimpleNamespace) -> None:
    function, valid = here.calls[row.call]
    value = row.value.make(here) if isinstance(row.value, Make) else row.value
    with pytest.raises(VidcompressError, match=re.escape(row.message)) as caught:
        function(**{**valid, **row.others, row.parameter: value})
    assert type(caught.value) is row.error, repr(caught.value)
    assert complaints(row, value, str(caught.value)) == [], str(caught.value)


def test_every_public_parameter_has_a_row() -> None:
    """A new parameter without a row turns this red; so does a row of one that is gone."""
    wanted = set(parameters())
    known = {(entry, parameter) for entry, parameter in wanted if not parameter.startswith("**")}
    open_ended = {entry for entry, parameter in wanted if parameter.startswith("**")}
    rowed = {(row.call, row.parameter) for row in ROWS}
    assert sorted(known - rowed) == []
    beyond = {entry for entry, parameter in rowed - known}
    assert sorted(open_ended - beyond) == [], "an open end (**options) needs a row with an unknown name"
    assert sorted(beyond - open_ended) == []


def test_what_is_exempt_exists() -> None:
    for name in EXEMPT:
        value: Any = None
        for part in name.split("."):
            owner = value if value is not None else (vidcompress if hasattr(vidcompress, part) else media)
            value = getattr(owner, part)
        assert callable(value)


class Odd:
    """A value of no kind that anything takes; its repr fails on purpose."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


JUNK: tuple[Any, ...] = (
    None, Odd(), -1, 0, 2.5, float("nan"), float("inf"), 10**30, True, "", "nonsense", "a\0b", b"", b"xx", [], {}, (),
    ["a"], [[]], {"a": 1}, Path("nowhere"), torch.zeros(2), torch.tensor(3), np.zeros((2, 2)), np.int64(-4), print, int,
)  # fmt: skip


SLOW = {("name_or_path", "None"), ("methods", "None"), ("repeats", shown(10**30))}
"""What is allowed and takes long: loading the embedded model, all methods, very many runs."""


@pytest.mark.parametrize("entry", sorted({entry for entry, _ in parameters()}))
def test_no_junk_gets_a_stranger_error(
    entry: str, here: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is passed for any parameter: it works, or one of our errors says why not, on one line."""
    monkeypatch.chdir(tmp_path)  # a path among them may be written to
    function, valid = here.calls[entry]
    names = [name.removeprefix("**") for call, name in parameters() if call == entry]
    for name in names:
        for value in JUNK:
            if (name, shown(value)) in SLOW:
                continue
            said = _said(function, {**valid, name: value})
            assert "\n" not in said, f"{entry}({name})"
            assert said == "" or 20 <= len(said) <= 700, f"{entry}({name}): {said}"


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_no_junk_among_the_inputs_gets_a_stranger_error(family: str) -> None:
    model = tiny_model(family)
    inputs = batch(model, [Scene((("image", (112, 80)), ("video", 3))), Scene((("image", (56, 56)),))])
    for key, good in inputs.items():
        near = (
            good[:0],
            good[:1],
            good.float(),
            good * 0,
            good * 0 - 1,
            torch.cat([good, good]),
            good.bool(),
        )
        for value in (*JUNK, *near, good[..., :1]):
            said = _said(
                vidcompress.compress_inputs, {"model": model, "inputs": {**inputs, key: value}, **HALF}
            )
            assert "\n" not in said, key
            assert len(said) <= 600, f"{key}: {said}"


HALF = {"retention_ratio": 0.5}


def _said(function: Any, arguments: dict[str, Any]) -> str:
    """The message of our error, or nothing; any other error goes through."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**arguments)
    except VidcompressError as error:
        return str(error)
    return ""


def test_messages_do_not_repeat_themselves() -> None:
    """The table is about distinct cases: no row twice."""
    seen = [(row.call, row.parameter, repr(row.value), row.message, repr(row.others)) for row in ROWS]
    assert len(seen) == len(set(seen)), [entry for entry in seen if seen.count(entry) > 1]

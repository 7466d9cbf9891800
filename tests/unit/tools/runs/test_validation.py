"""Models of files from outside: the error names file, field and value, and says what is allowed."""

from pathlib import Path

import pytest
from pydantic import ConfigDict, Field, field_validator, model_validator

from vidcompress.errors import ArgumentError
from vidcompress.tools.runs.validation import (
    Amount,
    FileModel,
    Number,
    Share,
    Text,
    Whole,
    expected,
    read_fields,
    refused,
)


class Part(FileModel):
    score: Number
    share: Share = 1.0


class Report(FileModel):
    title: Text
    amount: Amount | None = None
    count: Whole = 0
    parts: tuple[Part, ...] = Field((), alias="entries")
    numbers: dict[str, Number] = {}

    @field_validator("title")
    @classmethod
    def _not_braces(cls, title: str) -> str:
        if title == "{}":
            raise expected("other than {}")
        return title

    @model_validator(mode="after")
    def _one_part(self) -> "Report":
        if len(self.parts) > 1:
            raise refused("entries: one {at most}")
        return self


FILE = Path("folder/x.toml")


def test_a_file_is_read_with_its_parts():
    content = {"title": "t", "count": 3.0, "entries": [{"score": 1}], "numbers": {"a": 2}}
    read = read_fields(Report, FILE, content)
    assert (read.count, read.parts, read.numbers, read.amount) == (3, (Part(score=1.0),), {"a": 2.0}, None)
    assert isinstance(read.count, int) and isinstance(read.parts[0].score, float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "title is missing; add it"),
        ([], "the file must be an object, got []"),
        ({"title": ""}, "title must be text of 1 to 2000 printable characters, got ''"),
        ({"title": "x" * 2001}, "title must be text of 1 to 2000 printable characters, got 'xxx"),
        ({"title": "\x1b[31m"}, "title must be text of 1 to 2000 printable characters, got '\\x1b[31m'"),
        ({"title": 3}, "title must be text of 1 to 2000 printable characters, got 3"),
        ({"title": "{}"}, "title must be other than {}, got '{}'"),
        ({"title": "t", "amount": -1}, "amount must be a finite number from 0 to inf, got -1"),
        ({"title": "t", "amount": True}, "amount must be a finite number from 0 to inf, got True"),
        ({"title": "t", "amount": 10**400}, "amount must be a finite number from 0 to inf, got 1000"),
        ({"title": "t", "amount": float("nan")}, "amount must be a finite number from 0 to inf, got nan"),
        ({"title": "t", "count": 1.5}, "count must be a whole number, got 1.5"),
        ({"title": "t", "count": "1"}, "count must be a finite number from 0 to inf, got '1'"),
        ({"title": "t", "numbers": [1]}, "numbers must be a valid object, got [1]"),
        ({"title": "t", "numbers": {"a.b": None}}, "numbers.a.b must be a finite number, got None"),
        ({"title": "t", "entries": {}}, "entries must be a valid list, got {}"),
        ({"title": "t", "entries": [3]}, "entries.0 must be an object, got 3"),
        ({"title": "t", "entries": [{"score": 1}, {"score": "x"}]}, "entries.1.score must be a finite number, got 'x'"),
        ({"title": "t", "entries": [{"score": 1, "share": 2}]}, "share must be a finite number from 0 to 1, got 2"),
        ({"title": "t", "entries": [{"scor": 1}]}, "entries.0: 'scor' is no key here; known: score, share; did you"),
        ({"title": "t", "parts": []}, "'parts' is no key here; known: amount, count, entries, numbers, title"),
        ({"title": "t", "entries": [{"score": 1}] * 2}, "x.toml: entries: one {at most}"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(content, message):
    with pytest.raises(ArgumentError) as caught:
        read_fields(Report, FILE, content)
    assert str(caught.value).startswith(f"{FILE}: ")
    assert message in str(caught.value)


def test_unknown_keys_are_ignored_where_the_model_says_so():
    class Loose(Part):
        model_config = ConfigDict(extra="ignore")

    assert read_fields(Loose, FILE, {"score": 1, "other": 2}).score == 1
    with pytest.raises(ArgumentError, match="'other' is no key here"):
        read_fields(Part, FILE, {"score": 1, "other": 2})

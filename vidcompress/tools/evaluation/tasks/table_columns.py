"""Columns of a table of questions: which one holds what, and the line of questions that a row makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vidcompress.checks import is_whole
from vidcompress.errors import ArgumentError, nearest, shown

RECOGNISED: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "question_id", "questionId", "qid"),
    "question": ("question", "prompt", "query", "problem"),
    "image": ("image", "picture", "img"),
    "images": ("images", "pictures"),
    "video": ("video", "clip"),
    "answer": ("answer", "answers", "label"),
    "choices": ("choices", "options"),
    "kind": ("kind", "category", "question_type", "type"),
}
"""Field of a question -> names under which a column is recognised, the first that is there."""

REQUIRED: Final = ("question", "answer")
MEDIA_FIELDS: Final = ("image", "images", "video")
SEVERAL: Final = ("images", "answer", "choices")
"""Fields that several columns may hold together, one value each."""

Mapped = tuple[tuple[str, str | tuple[str, ...]], ...]
"""A mapping as a sweep states it, hashable: (field, column or columns)."""


def check_columns(name: str, value: Any) -> Mapped:
    """Check a mapping from fields to columns.

    Args:
        name: of the argument, for messages.
        value: field -> column; a list of columns where one of them holds one picture, answer or option; "" leaves a
            field out that would be recognised.

    Raises:
        ArgumentError: it is no such mapping.
    """
    if not isinstance(value, dict) or not value:
        raise ArgumentError(
            f"{name}={shown(value)}: must be a table from fields to columns, such as {{question = 'q'}}"
        )
    for field, column in value.items():
        if field not in RECOGNISED:
            raise ArgumentError(f"{name}: unknown field {shown(field)}; {nearest(field, RECOGNISED)}")
        listed = isinstance(column, list) and bool(column) and all(_is_name(entry) for entry in column)
        if not isinstance(column, str) and not (listed and field in SEVERAL):
            lists = ", or a list of names" if field in SEVERAL else ""
            raise ArgumentError(f"{name}.{field}={shown(column)}: must be the name of a column{lists}")
        if column == "" and field in REQUIRED:
            raise ArgumentError(f"{name}.{field}='': a question needs it; name a column")
    if value.get("image") and value.get("images"):
        raise ArgumentError(f"{name}: image and images exclude each other; list all pictures in images")
    return tuple(
        (field, tuple(entry) if isinstance(entry, list) else entry) for field, entry in value.items()
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


@dataclass(frozen=True)
class TableColumns:
    """Columns of a table that are read.

    Attributes:
        of: field -> its columns.
        classes: column -> names of its classes, of columns that hold their numbers.
    """

    of: Mapping[str, tuple[str, ...]]
    classes: Mapping[str, Sequence[str]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, each once."""
        return tuple(dict.fromkeys(column for columns in self.of.values() for column in columns))

    @property
    def media(self) -> tuple[str, ...]:
        """Names of the columns with pictures and clips."""
        return tuple(c for field in MEDIA_FIELDS for c in self.of.get(field, ()))

    def media_of(self, row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """(field, value) of each picture and clip of a row, in order; what is empty is left out."""
        for field in MEDIA_FIELDS:
            for column in self.of.get(field, ()):
                value = row[column]
                for entry in value if isinstance(value, list) else [value]:
                    if entry is not None:
                        yield field, entry

    def line(self, row: Mapping[str, Any], number: int) -> dict[str, Any]:
        """The row as a line of questions without media; see `FolderTask`.

        Args:
            row: column -> value.
            number: of the row, its id where no column holds one.
        """
        line: dict[str, Any] = {"id": number}
        for field, columns in self.of.items():
            if field in MEDIA_FIELDS:
                continue
            values = [self._named(column, row[column]) for column in columns]
            value = [entry for entry in values if entry is not None] if len(columns) > 1 else values[0]
            if value is not None and value != []:
                line[field] = value
        if isinstance(line.get("kind"), (int, float)):
            line["kind"] = str(line["kind"])
        choices, answer = line.get("choices"), line.get("answer")
        if isinstance(choices, list) and isinstance(answer, int) and str(answer) not in map(str, choices):
            line["answer"] = _letter(answer, len(choices))
        return line

    def said(self, message: str, where: str) -> str:
        """A message about a field, with the column that holds it.

        Args:
            message: that begins with `where` and the field.
            where: the row.
        """
        rest = message.removeprefix(where)
        field = next((field for field in self.of if rest.startswith(field)), None)
        if field is None:
            return message
        return f"{where}{self.named(field)}: {rest}"

    def named(self, field: str) -> str:
        """The columns of a field, for messages."""
        columns = self.of[field]
        return f"column{'s' * (len(columns) > 1)} {', '.join(map(repr, columns))}"

    def _named(self, column: str, value: Any) -> Any:
        classes = self.classes.get(column)
        if classes is None or not is_whole(value):
            return value
        return classes[value] if 0 <= value < len(classes) else None


def _letter(answer: int, options: int) -> Any:
    """The letter of an option by its number, counted from 0; what is no such number is left as it is."""
    return chr(ord("A") + answer) if 0 <= answer < options else answer


def find_columns(where: str, features: Mapping[str, Any], mapped: Mapped) -> TableColumns:
    """Return the columns of a table that hold questions.

    Args:
        where: put before messages.
        features: column -> its feature, as `datasets` states it.
        mapped: what is stated; the other fields are recognised by the names of columns.

    Raises:
        ArgumentError: a column is not there, or none holds the question or the answer.
    """
    stated, of = dict(mapped), dict[str, tuple[str, ...]]()
    for field, names in RECOGNISED.items():
        chosen: tuple[str, ...]
        if field in stated:
            given = stated[field]
            chosen = given if isinstance(given, tuple) else (given,) if given else ()
        elif field in ("image", "images") and ("images" in of or {"image", "images"} & stated.keys()):
            chosen = ()
        else:
            chosen = tuple(name for name in names if name in features)[:1]
        for column in chosen:
            if column not in features:
                raise ArgumentError(
                    f"{where}columns.{field}={column!r}: no such column; {nearest(column, features)}"
                )
        if chosen:
            of[field] = chosen
    if "image" in of and "images" in of:
        del of["image"]  # the list has it too
    for field in REQUIRED:
        if field not in of:
            raise ArgumentError(
                f"{where}no column is recognised as the {field}; say which in a sweep file, as in columns = "
                f"{{{field} = 'name'}}; the columns are {', '.join(features)}"
            )
    columns = {column for chosen in of.values() for column in chosen}
    named = {column: getattr(features[column], "names", None) for column in columns}
    classes = {column: list(names) for column, names in named.items() if names}
    return TableColumns(of, classes)

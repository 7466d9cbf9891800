"""Published tables as data (`configs/published/*.toml`), read and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from vidcompress.errors import ArgumentError, one_line, shown
from vidcompress.loading.resources import roots
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

LARGEST = 2**20
"""Bytes of the largest file that is read."""


class PublishedTask(FileModel):
    """A column of a published table.

    Attributes:
        key: its name in the rows. name: its name in the paper.
        tasks: names of tasks here that ask the same questions, the closest first. split: which split, "" if unknown.
        scores: names of the score that is compared, in order of preference.
        scale: factor from a score here to the paper's unit.
        remark: a caveat of the comparison.
    """

    key: Text
    name: Text
    tasks: tuple[Text, ...] = ()
    split: Text = ""
    scores: tuple[Text, ...] = ()
    scale: Amount = 1.0
    remark: Text = ""


class PublishedMethod(FileModel):
    """A method of a published table.

    Attributes:
        name: its name in the paper. ours: labels here of the same method, the closest first.
        remark: anything else.
    """

    name: Text
    ours: tuple[Text, ...] = ()
    remark: Text = ""


class PublishedRow(FileModel):
    """A row of a published table.

    Attributes:
        method: its name in the paper. retention_ratio: by the paper's count.
        scores: key of a task -> score, in the paper's unit.
        average: the paper's average, in per cent of the uncompressed model, or None.
        average_note: reason why the average cannot be computed from the scores, or "".
        num_frames: where it differs from the table's. source: where it differs from the table's. remark: anything else.
    """

    method: Text
    retention_ratio: Share
    scores: dict[str, Number] = {}
    average: Amount | None = None
    average_note: Text = ""
    num_frames: Whole | None = None
    source: Text = ""
    remark: Text = ""

    @field_validator("retention_ratio")
    @classmethod
    def _above_zero(cls, ratio: float) -> float:
        if not ratio:
            raise expected("a share above 0 and not above 1")
        return ratio


class PublishedTable(FileModel):
    """A published table.

    Attributes:
        name: of the file, without suffix. title: for people.
        paper, arxiv, table: the source; which table of it.
        models: checkpoints it is about.
        convention: rule of counting tokens. visual_tokens: those of the uncompressed model. num_frames: of a clip.
        tasks: columns. methods: of the rows. rows: in the paper's order.
        measured: what was measured here, for the plots of the documentation.
        absent: results of the paper that this file lacks.
    """

    name: Text
    title: Text
    paper: Text
    arxiv: str = ""
    table: Text
    models: tuple[Text, ...] = ()
    convention: Text
    visual_tokens: Whole | None = None
    num_frames: Whole | None = None
    tasks: tuple[PublishedTask, ...] = ()
    methods: tuple[PublishedMethod, ...] = ()
    rows: tuple[PublishedRow, ...] = ()
    measured: Any = None
    absent: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _rows_are_listed(self) -> PublishedTable:
        """Refuse rows with tasks or methods that the table does not list."""
        keys, methods = {task.key for task in self.tasks}, {method.name for method in self.methods}
        for row in self.rows:
            if row.method not in methods:
                raise refused(f"rows: method {shown(row.method)} must have an entry under methods")
            if strange := set(row.scores) - keys:
                raise refused(f"rows: {shown(sorted(strange))} must have entries under tasks")
        return self

    def method_of(self, row: PublishedRow) -> PublishedMethod:
        """The method of a row."""
        return next(method for method in self.methods if method.name == row.method)

    def baseline(self, row: PublishedRow) -> PublishedRow | None:
        """The uncompressed model's row of the same source."""
        return next((b for b in self.rows if b.retention_ratio == 1 and b.source == row.source), None)

    def mean_share(self, row: PublishedRow, keys: Sequence[str]) -> float | None:
        """Mean share of the uncompressed model over some tasks, in per cent; None where a score is missing."""
        base = self.baseline(row)
        if base is None or not keys or not all(key in row.scores and key in base.scores for key in keys):
            return None
        return 100 * sum(row.scores[key] / base.scores[key] for key in keys) / len(keys)


def published_tables() -> list[PublishedTable]:
    """All tables that come with the package, by name."""
    paths = {
        path.stem: path for root in reversed(roots("configs")) for path in (root / "published").glob("*.toml")
    }
    return [read_table(paths[name]) for name in sorted(paths)]


def read_table(path: Path) -> PublishedTable:
    """Read one table.

    Raises:
        ArgumentError: it cannot be read or is not of this form; the message names file and field.
    """
    if not path.is_file():
        raise ArgumentError(
            f"{path}: no such file; pass `published`, or a TOML file in the form of configs/published/"
        )
    try:
        if path.stat().st_size > LARGEST:
            raise ArgumentError(f"{path}: is larger than {LARGEST} bytes; no table is")
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"{path}: is no TOML table ({one_line(error)}); pass another file") from error
    return read_fields(PublishedTable, path, {**content, "name": path.stem})

"""Published tables as data (`configs/published/*.toml`), read and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidcompress.errors import ArgumentError, one_line, shown
from vidcompress.loading.resources import roots
from vidcompress.tools.runs.validation import Fields, is_number

LARGEST = 2**20
"""Bytes of the largest file that is read."""
_TOP = ("title", "paper", "arxiv", "table", "models", "convention", "visual_tokens", "num_frames", "absent")
_PARTS = ("tasks", "methods", "rows", "measured")


@dataclass(frozen=True)
class PublishedTask:
    """A column of a published table.

    Attributes:
        key: its name in the rows. name: as the paper calls it.
        tasks: names of tasks here that ask the same questions, the closest first. split: which split, "" if unknown.
        scores: names of the score that is compared, in order of preference.
        scale: what a score here is multiplied by to be in the paper's unit.
        remark: a caveat of the comparison.
    """

    key: str
    name: str
    tasks: tuple[str, ...]
    split: str
    scores: tuple[str, ...]
    scale: float
    remark: str


@dataclass(frozen=True)
class PublishedRow:
    """A row of a published table.

    Attributes:
        method: as the paper calls it. retention_ratio: as the paper counts it.
        scores: key of a task -> score, in the paper's unit.
        average: the paper's average, in per cent of the uncompressed model, or None.
        average_note: why the average cannot be computed from the scores, or "".
        num_frames: where it differs from the table's. source: where it differs from the table's. remark: anything else.
    """

    method: str
    retention_ratio: float
    scores: Mapping[str, float]
    average: float | None
    average_note: str
    num_frames: int | None
    source: str
    remark: str


@dataclass(frozen=True)
class PublishedTable:
    """A published table.

    Attributes:
        name: of the file, without suffix. title: for people.
        paper, arxiv, table: the source; which table of it.
        models: checkpoints it is about.
        convention: how tokens are counted. visual_tokens: how many the uncompressed model reads. num_frames: of a clip.
        tasks: columns. methods: the paper's name -> labels here that are the same method, the closest first.
        method_remarks: the paper's name -> a remark. rows: in the paper's order.
        absent: results of the paper that this file lacks.
    """

    name: str
    title: str
    paper: str
    arxiv: str
    table: str
    models: tuple[str, ...]
    convention: str
    visual_tokens: int | None
    num_frames: int | None
    tasks: tuple[PublishedTask, ...]
    methods: Mapping[str, tuple[str, ...]]
    method_remarks: Mapping[str, str]
    rows: tuple[PublishedRow, ...]
    absent: tuple[str, ...]

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
    file = Fields(path, content)
    file.only("", (*_TOP, *_PARTS))
    tasks = tuple(_task(part) for part in _parts(file, "tasks"))
    methods = _parts(file, "methods")
    rows = tuple(_row(part) for part in _parts(file, "rows"))
    table = PublishedTable(
        name=path.stem,
        title=file.text("title"),
        paper=file.text("paper"),
        arxiv=file.of("arxiv", str, default=""),
        table=file.text("table"),
        models=_texts(file, "models"),
        convention=file.text("convention"),
        visual_tokens=file.whole("visual_tokens"),
        num_frames=file.whole("num_frames"),
        tasks=tasks,
        methods={part.text("name"): _texts(part, "ours") for part in methods},
        method_remarks={part.text("name"): part.text("remark", optional=True) or "" for part in methods},
        rows=rows,
        absent=_texts(file, "absent"),
    )
    _check(path, table)
    return table


def _parts(file: Fields, field: str) -> list[Fields]:
    entries = file.listed(field, lambda entry: isinstance(entry, dict), default=[])
    return [Fields(file.path, entry) for entry in entries]


def _texts(file: Fields, field: str) -> tuple[str, ...]:
    return tuple(file.listed(field, lambda entry: isinstance(entry, str) and entry.isprintable(), default=[]))


def _task(part: Fields) -> PublishedTask:
    part.only("", ("key", "name", "tasks", "split", "scores", "scale", "remark"))
    return PublishedTask(
        key=part.text("key"),
        name=part.text("name"),
        tasks=_texts(part, "tasks"),
        split=part.text("split", optional=True) or "",
        scores=_texts(part, "scores"),
        scale=part.number("scale", 0) or 1.0,
        remark=part.text("remark", optional=True) or "",
    )


def _row(part: Fields) -> PublishedRow:
    keys = "method retention_ratio scores average average_note num_frames source remark"
    part.only("", keys.split())
    scores = part.of("scores", dict, default={})
    if not all(map(is_number, scores.values())):
        raise part.wrong("scores", "numbers by task")
    ratio = part.number("retention_ratio", 0, 1)
    if not ratio:
        raise part.wrong("retention_ratio", "a share above 0 and not above 1")
    return PublishedRow(
        method=part.text("method"),
        retention_ratio=ratio,
        scores={key: float(value) for key, value in scores.items()},
        average=part.number("average", 0),
        average_note=part.text("average_note", optional=True) or "",
        num_frames=part.whole("num_frames"),
        source=part.text("source", optional=True) or "",
        remark=part.text("remark", optional=True) or "",
    )


def _check(path: Path, table: PublishedTable) -> None:
    """Refuse rows that speak of tasks or methods the table does not list."""
    keys = {task.key for task in table.tasks}
    for row in table.rows:
        if row.method not in table.methods:
            raise ArgumentError(f"{path}: rows: method {shown(row.method)} must have an entry under methods")
        if strange := set(row.scores) - keys:
            raise ArgumentError(f"{path}: rows: {shown(sorted(strange))} must have entries under tasks")

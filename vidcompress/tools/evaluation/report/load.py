"""Result files of an evaluation, read and checked: one row is one method at one budget on one task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasPath, BeforeValidator, ConfigDict, Field, StrictStr, model_validator

from vidcompress.errors import ArgumentError, one_line, shown
from vidcompress.tools.evaluation.report.differences import interval
from vidcompress.tools.runs.validation import (
    Amount,
    FileModel,
    Number,
    Share,
    Text,
    Whole,
    is_number,
    no_constant,
    read_fields,
    refused,
)

SCHEMA = 1
LARGEST = 256 * 2**20
"""Bytes of the largest result file that is read; a question takes about a hundred."""
MOST_NAMED = 3
"""Most rows that one remark names."""
MEAN_WITHIN = 1e-3
"""Largest difference of a score from the mean over its questions, in the unit of the score."""


def _measured_kinds(value: Any) -> Any:
    """Questions and score of each type that has both."""
    if not isinstance(value, dict):
        return value
    pairs = {
        kind: (entry.get("questions"), entry.get("value"))
        for kind, entry in value.items()
        if isinstance(entry, dict)
    }
    return {kind: pair for kind, pair in pairs.items() if all(map(is_number, pair))}


def _medians(value: Any) -> Any:
    """Median of each phase that has one."""
    if not isinstance(value, dict):
        return value
    medians = {phase: entry.get("median") for phase, entry in value.items() if isinstance(entry, dict)}
    return {phase: median for phase, median in medians.items() if is_number(median)}


class ResultRow(FileModel):
    """One result file.

    Attributes:
        id: of the row; baseline: id of the uncompressed row of the same model and task, None for that row itself.
        model, revision: as in the sweep.
        task, split, data: the task's name, split and revision of its data. harness: vidcompress or lmms-eval.
        method: a label, such as `globalcom2:tau=5`.
        retention_ratio, max_tokens: the budget; one of them, or None both.
        settings: of the run (policy, num_frames, dtype, ...).
        main: name of the main score. scores: name -> value, in the task's own units.
        kinds: question type -> (questions, value).
        ids, marks, stated: of each question its id, its main score (None where it is in no score) and facts of the
            benchmark about it; `question_scores` and `facts` have these by id.
        prompts, expected, kinds_of, media: of each question its text, the answers that are accepted, its type, and its
            pictures and clip, from the folder of the run or absolute; None in results of older versions and other
            harnesses.
        asked: number of questions, None in results of older versions. failures: those that failed.
        tokens: means per question of `total`, `budget` and `kept`.
        unreachable: reason why the budget cannot be reached, or None.
        first_token_ms: median time to the first token, or None. phases_ms: phase -> median per question.
        questions_per_second: of all processes together, or None. peak_memory_bytes: of the largest process, or None.
        provenance: command, commit, versions and machine of the row's last start; empty where they are not stated.
        limit: number of questions in the sweep, None for all.
        path: the file.
    """

    model_config = ConfigDict(extra="ignore")

    id: Text = Field(validation_alias="row")
    baseline: Text | None = None
    model: Text = Field(validation_alias=AliasPath("model", "name"))
    revision: Text = Field("", validation_alias=AliasPath("model", "revision"))
    task: Text = Field(validation_alias=AliasPath("task", "name"))
    split: Text = Field("", validation_alias=AliasPath("task", "split"))
    data: Text = Field("", validation_alias=AliasPath("task", "revision"))
    harness: Text = Field(validation_alias=AliasPath("task", "harness"))
    method: Text
    retention_ratio: Share | None = None
    max_tokens: Whole | None = None
    settings: dict[str, Any] = {}
    main: Text
    scores: dict[str, Number] = {}
    kinds: Annotated[dict[str, tuple[int, float]], BeforeValidator(_measured_kinds)] = Field(
        {}, validation_alias="per_kind"
    )
    ids: tuple[StrictStr, ...] = Field(validation_alias=AliasPath("samples", "id"))
    marks: tuple[Number | None, ...] = Field(validation_alias=AliasPath("samples", "score"))
    stated: tuple[dict[str, Any], ...] | None = Field(None, validation_alias=AliasPath("samples", "facts"))
    prompts: tuple[StrictStr, ...] | None = Field(None, validation_alias=AliasPath("samples", "question"))
    expected: tuple[tuple[StrictStr, ...], ...] | None = Field(
        None, validation_alias=AliasPath("samples", "expected")
    )
    kinds_of: tuple[StrictStr, ...] | None = Field(None, validation_alias=AliasPath("samples", "kind"))
    media: tuple[tuple[StrictStr, ...], ...] | None = Field(
        None, validation_alias=AliasPath("samples", "media")
    )
    asked: Whole | None = Field(None, validation_alias=AliasPath("task", "questions"))
    failures: tuple[dict[str, Any], ...] = Field((), validation_alias="failed")
    tokens: dict[str, Amount] = {}
    unreachable: Text | None = None
    first_token_ms: Amount | None = Field(
        None, validation_alias=AliasPath("time_to_first_token_ms", "median")
    )
    phases_ms: Annotated[dict[str, float], BeforeValidator(_medians)] = Field({}, validation_alias="times_ms")
    questions_per_second: Amount | None = None
    peak_memory_bytes: Amount | None = None
    provenance: dict[str, Any] = {}
    limit: Whole | None = Field(None, validation_alias=AliasPath("provenance", "head", "limit"))
    path: Path

    @model_validator(mode="before")
    @classmethod
    def _null_is_missing(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {
            name: {key: part for key, part in value.items() if part is not None}
            if isinstance(value, dict)
            else value
            for name, value in content.items()
            if value is not None
        }

    @model_validator(mode="after")
    def _one_length(self) -> ResultRow:
        columns = (self.ids, self.marks, self.stated, self.prompts, self.expected, self.kinds_of, self.media)
        lengths = {len(values) for values in columns if values is not None}
        if lengths != {len(set(self.ids))}:
            raise refused("samples: its lists must be of one length, with no id twice")
        return self

    @cached_property
    def question_scores(self) -> Mapping[str, float | None]:
        """Question id -> main score of that question; None where it is in no score."""
        return dict(zip(self.ids, self.marks, strict=True))

    @cached_property
    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """Question id -> facts of the benchmark about it."""
        return dict(zip(self.ids, self.stated or ({},) * len(self.ids), strict=True))

    @property
    def questions(self) -> int:
        """Number of questions."""
        return self.asked or len(self.ids)

    @property
    def failed(self) -> int:
        """Number of questions that failed."""
        return len(self.failures)

    def __repr__(self) -> str:
        score = f"{self.main}={self.value:.4g}" if self.value is not None else f"no {self.main}"
        return (
            f"ResultRow({self.model!r}, {self.task!r}, {self.method!r}, {self.budget}, {score}, "
            f"{self.questions} questions, {self.failed} failed)"
        )

    @property
    def value(self) -> float | None:
        """The main score; None where the budget is out of reach or no question was answered."""
        return None if self.unreachable is not None else self.scores.get(self.main)

    @property
    def limits(self) -> tuple[float, float] | None:
        """Ends of the score's 95 % interval; None where the score is not the mean over the questions."""
        scores = [score for score in self.question_scores.values() if score is not None]
        if self.value is None or not scores or abs(sum(scores) / len(scores) - self.value) > MEAN_WITHIN:
            return None
        return interval(scores)

    @property
    def leaves_out_failed(self) -> bool:
        """Whether there are failed questions that are in no score, as always in results of older versions."""
        chosen = self.settings.get("failed")
        return self.failed > 0 and chosen != "wrong" and not self.harness.startswith("lmms-eval")

    @property
    def is_share(self) -> bool:
        """Whether every question counts from 0 to 1, so that the score may be shown in per cent."""
        return all(score is None or 0 <= score <= 1 for score in self.question_scores.values())

    @property
    def budget(self) -> str:
        """The budget as a table shows it."""
        if self.max_tokens is not None:
            return f"{self.max_tokens} tokens"
        return "all" if self.retention_ratio is None else f"{100 * self.retention_ratio:g} %"

    @property
    def is_baseline(self) -> bool:
        """Whether this is the uncompressed model."""
        return self.baseline is None


def read_rows(places: Iterable[Path]) -> tuple[list[ResultRow], list[str]]:
    """Read every result file of some runs.

    Args:
        places: result files, folders of rows, or folders of runs.

    Returns:
        The rows, by path, and remarks on rows without a result yet, and on rows in several runs, of which the first
        counts.

    Raises:
        ArgumentError: a place without results, or a file that is no result file.
    """
    rows: dict[str, ResultRow] = {}
    twice: dict[tuple[Path, Path], list[tuple[ResultRow, ResultRow]]] = {}
    notes = []
    for place in places:
        paths, unfinished = _files(place)
        for path in paths:
            row = read_row(path)
            first = rows.setdefault(row.id, row)
            if first is not row:  # sweeps that share a table share its uncompressed rows
                twice.setdefault((first.path.parent.parent, path.parent.parent), []).append((first, row))
        notes += [
            f"{path} has no result yet; `vidcompress eval` with the same --out goes on" for path in unfinished
        ]
    return list(rows.values()), [*map(_said_twice, twice.values()), *notes]


def _said_twice(rows: list[tuple[ResultRow, ResultRow]]) -> str:
    """Remark on rows that are in the same two runs."""
    differ = [row.id for first, row in rows if first.scores != row.scores]
    if len(rows) == 1:
        first, row = rows[0]
        alike = "and their scores differ" if differ else "alike"
        return f"{row.id} is in {first.path} and {row.path}, {alike}; the first is shown"
    runs = " and in ".join(str(row.path.parent.parent) for row in rows[0])
    if not differ:
        return f"{len(rows)} rows are in {runs}, alike; the first are shown"
    names = ", ".join(differ[:MOST_NAMED]) + ", ..." * (len(differ) > MOST_NAMED)
    return (
        f"{len(rows)} rows are in {runs}, and the scores of {len(differ)} differ ({names}); the first are shown, "
        "--baseline compares them"
    )


def _files(place: Path) -> tuple[list[Path], list[Path]]:
    """Result files at a place, and the folders of unfinished rows."""
    if place.is_file():
        return [place], []
    if not place.is_dir():
        raise ArgumentError(f"{place}: no such file or folder; pass what `vidcompress eval --out` wrote")
    paths, unfinished = [], []
    for pattern in ("", "*/", "*/*/"):
        paths += sorted(place.glob(f"{pattern}result.json"))
        journals = sorted(place.glob(f"{pattern}answers.jsonl"))
        unfinished += [path.parent for path in journals if not (path.parent / "result.json").is_file()]
    if not paths:
        raise ArgumentError(f"{place}: holds no result.json; pass what `vidcompress eval --out` wrote")
    return paths, unfinished


def read_row(path: Path) -> ResultRow:
    """Read one result file.

    Raises:
        ArgumentError: it cannot be read, or is no file of `vidcompress eval`; the message names file and field.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ArgumentError(f"{path}: is larger than {LARGEST} bytes; no result file is")
        content = json.loads(path.read_text("utf-8"), parse_constant=no_constant)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"{path}: is no result file ({one_line(error)}); pass another") from error
    if isinstance(content, dict) and "schema" not in content:
        raise ArgumentError(
            f"{path}: is not of `vidcompress eval`, it has no schema; pass its folder or result.json"
        )
    if isinstance(content, dict) and content["schema"] != SCHEMA:
        raise ArgumentError(
            f"{path}: schema must be {SCHEMA}, the one this version reads, got {shown(content['schema'])}; run the "
            "sweep again"
        )
    return read_fields(ResultRow, path, {**content, "path": path} if isinstance(content, dict) else content)

"""Result files of an evaluation, read and checked: one row is one method at one budget on one task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError, one_line
from vidcompress.tools.runs.validation import Fields, is_number, no_constant

SCHEMA = 1
LARGEST = 256 * 2**20
"""Bytes of the largest result file that is read; a question takes about a hundred."""


@dataclass(frozen=True)
class ResultRow:
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
        question_scores: question id -> main score of that question; None where it is in no score.
        facts: question id -> facts of the benchmark about it.
        questions: how many were asked. failed: how many of them failed.
        tokens: means per question of `total`, `budget` and `kept`.
        unreachable: why the budget cannot be reached, or None.
        first_token_ms: median time to the first token, or None.
        limit: questions the sweep asked for, None for all.
        path: the file.
    """

    id: str
    baseline: str | None
    model: str
    revision: str
    task: str
    split: str
    data: str
    harness: str
    method: str
    retention_ratio: float | None
    max_tokens: int | None
    settings: Mapping[str, Any]
    main: str
    scores: Mapping[str, float]
    kinds: Mapping[str, tuple[int, float]]
    question_scores: Mapping[str, float | None]
    facts: Mapping[str, Mapping[str, Any]]
    questions: int
    failed: int
    tokens: Mapping[str, float]
    unreachable: str | None
    first_token_ms: float | None
    limit: int | None
    path: Path

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
    def leaves_out_failed(self) -> bool:
        """Whether questions failed and are in no score; results of older versions never count them."""
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
        The rows, by path, and remarks: rows that have no result yet, and those that are in several runs, of which the
        first counts.

    Raises:
        ArgumentError: a place without results, or a file that is no result file.
    """
    rows: dict[str, ResultRow] = {}
    notes = []
    for place in places:
        paths, unfinished = _files(place)
        for path in paths:
            row = read_row(path)
            first = rows.setdefault(row.id, row)
            if first is not row:  # sweeps that share a table share its uncompressed rows
                alike = "alike" if first.scores == row.scores else "and their scores differ"
                notes.append(f"{row.id} is in {first.path} and {path}, {alike}; the first is shown")
        notes += [
            f"{path} has no result yet; `vidcompress eval` with the same --out goes on" for path in unfinished
        ]
    return list(rows.values()), notes


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
        ArgumentError: it cannot be read, or is not what `vidcompress eval` writes; the message names file and field.
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
    fields = Fields(path, content)
    if fields.of("schema", int) != SCHEMA:
        raise fields.wrong("schema", f"{SCHEMA}, the one this version reads; run the sweep again")
    return _row(fields)


def _row(file: Fields) -> ResultRow:
    ids = file.listed("samples.id", lambda v: isinstance(v, str))
    score = file.listed("samples.score", lambda v: v is None or is_number(v))
    facts = file.listed("samples.facts", lambda v: isinstance(v, dict), default=[{}] * len(ids))
    if not len(ids) == len(score) == len(facts) or len(set(ids)) != len(ids):
        raise file.wrong("samples", "lists of one length, with no id twice")
    kinds = file.of("per_kind", dict, default={})
    return ResultRow(
        id=file.text("row"),
        baseline=file.text("baseline", optional=True),
        model=file.text("model.name"),
        revision=file.text("model.revision", optional=True) or "",
        task=file.text("task.name"),
        split=file.text("task.split", optional=True) or "",
        data=file.text("task.revision", optional=True) or "",
        harness=file.text("task.harness"),
        method=file.text("method"),
        retention_ratio=file.number("retention_ratio", 0, 1),
        max_tokens=file.whole("max_tokens"),
        settings=file.of("settings", dict, default={}),
        main=file.text("main"),
        scores={name: file.number(f"scores.{name}") or 0.0 for name in _named(file, "scores")},
        kinds={
            kind: (int(entry["questions"]), float(entry["value"]))
            for kind, entry in kinds.items()
            if isinstance(entry, dict) and is_number(entry.get("questions")) and is_number(entry.get("value"))
        },
        question_scores=dict(zip(ids, score, strict=True)),
        facts=dict(zip(ids, facts, strict=True)),
        questions=file.whole("task.questions") or len(ids),
        failed=len(file.listed("failed", lambda v: isinstance(v, dict), default=[])),
        tokens={name: file.number(f"tokens.{name}", 0) or 0.0 for name in _named(file, "tokens")},
        unreachable=file.text("unreachable", optional=True),
        first_token_ms=file.number("time_to_first_token_ms.median", 0),
        limit=_limit(file),
        path=file.path,
    )


def _limit(file: Fields) -> int | None:
    """Requested number of questions, from the journal's head; None for all."""
    head = file.of("provenance", dict, default={}).get("head")
    return Fields(file.path, head).whole("limit") if isinstance(head, dict) else None


def _named(file: Fields, field: str) -> Sequence[str]:
    """Names of an object's numbers; null means not measured and is left out."""
    return [name for name, value in file.of(field, dict, default={}).items() if value is not None]

"""Responses of an lmms-eval run on disk: a journal of answers, and a run log of times, starts and metadata."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidcompress.tools.runs.journal import (
    JournalError,
    RunJournal,
    check_head,
    has_answer,
    rank_paths,
    read_head,
    read_lines,
)
from vidcompress.tools.runs.run_log import RunLog, merge_logs, read_log

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Response:
    """Response to one request.

    Attributes:
        id: of the request: task, document, and a number where a document has several requests.
        answer: text; a list of texts, one per turn; or [loss, greedy] of a continuation. "" where it failed.
        prompt: digest of the prompt; a response to another prompt is not reused.
        kept, budget, total: visual tokens sent, allowed by the budget, and without compression; of a method
            inside the language model all three are averages over the inputs of its layers.
        input_tokens: length of the compressed prompt. output_tokens: length of the answer.
        error: reason of a failure, or None.
        timing_ms: milliseconds of its batch, as `Answer.timing_ms`; empty where not known.
        batch_size: questions in that batch.
    """

    id: str
    answer: Any = ""
    prompt: str = ""
    kept: float = 0
    budget: float = 0
    total: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 1

    @property
    def time_to_first_token_ms(self) -> float | None:
        """Milliseconds from opening the media to the first token; None where no times are known."""
        if "total" not in self.timing_ms:
            return None
        return self.timing_ms["total"] - self.timing_ms.get("generate", 0.0)

    def line(self) -> dict[str, Any]:
        """Line of the journal, without times; the harness computes the score later."""
        values = {
            name: value for name, value in vars(self).items() if name not in ("timing_ms", "batch_size")
        }
        if self.error is None:
            del values["error"]
        return {**values, "score": None}

    @classmethod
    def of_line(cls, line: Mapping[str, Any], times: Mapping[str, Any]) -> Response:
        """Response of a journal line and its `timing_ms` and `batch_size`."""
        values = {name: line[name] for name in cls.__dataclass_fields__ if name in line}
        return cls(**values, **times)


class ResponseStore:
    """Store of the responses of one process, with those of other processes and earlier runs.

    Args:
        path: of the journal, or None to keep nothing on disk. Process 0 writes it; process r > 0 writes
            `<stem>.rank<r>.jsonl` beside it. All of them are read, for any number of processes.
        head: the settings that responses depend on.
        rank: number of this process. world_size: number of processes.

    Raises:
        ArgumentError: the journal, or that of another process, belongs to another run.
        JournalError: it cannot be opened.
    """

    def __init__(
        self, path: Path | None, head: Mapping[str, Any], *, rank: int = 0, world_size: int = 1
    ) -> None:
        self._journal = RunJournal(path, head, rank=rank)
        self._log = RunLog(None if path is None else log_path(path), rank)
        self._log.add("start", rank=rank, world_size=world_size)
        self._done: dict[str, Response] = {}
        if path is None:
            return
        times, lines = read_times(path), dict(self._journal.done)
        for other in (path, *rank_paths(path)):
            check_head(other, head)
            for line in read_lines(other, head):
                if other != self._journal.path and is_response(line):
                    lines.setdefault(line["id"], line)
        self._done = {name: Response.of_line(line, times.get(name, {})) for name, line in lines.items()}

    def get(self, name: str) -> Response | None:
        """Response to a request, or None."""
        return self._done.get(name)

    def add(self, responses: Sequence[Response]) -> None:
        """Store responses; while the disk is full they wait in memory and are written with the next ones."""
        fresh = [response for response in responses if response.id not in self._done]
        self._done.update((response.id, response) for response in fresh)
        for response in fresh:
            self.note(
                "answer", id=response.id, timing_ms=dict(response.timing_ms), batch_size=response.batch_size
            )
        unwritten = self._journal.write(response.line() for response in fresh)
        if unwritten:
            reason = next(iter(unwritten.values()))
            logger.warning("%s (%d answers wait in memory)", reason, len(unwritten))

    def note(self, event: str, **fields: Any) -> None:
        """Append to the run log beside the journal; a failed write is ignored."""
        self._log.add(event, **fields)


def is_response(line: Mapping[str, Any]) -> bool:
    """Whether a line of a journal is a response."""
    return isinstance(line.get("id"), str) and has_answer(line)


def log_path(path: Path) -> Path:
    """Path of the run log of a journal: `<stem>.times` beside it."""
    return path.with_suffix(".times")


def merge_processes(path: Path) -> None:
    """Move the answers of all processes into the journal, in the order of the documents, and their logs beside it.

    Args:
        path: of the journal; no process may be writing it or the files of other processes.

    Raises:
        JournalError: it cannot be written.
    """
    head = read_head(path)
    if head is None:
        return
    journal = RunJournal(path, head)
    for reason in journal.merge_ranks().values():
        raise JournalError(reason)
    journal.finish(sorted(journal.done, key=_order))
    merge_logs(log_path(path))


def _order(name: str) -> list[tuple[int, int, str]]:
    """Sort key of an id: numbers inside it count as numbers, gqa/2 before gqa/10."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def read_answers(path: Path) -> Iterator[dict[str, Any]]:
    """Answer lines of a journal that another process may be writing."""
    return filter(is_response, read_lines(path))


def read_times(path: Path) -> dict[str, dict[str, Any]]:
    """By id of a request, its `timing_ms` and `batch_size`, from the run logs of a journal."""
    return {
        event["id"]: {"timing_ms": event["timing_ms"], "batch_size": int(event.get("batch_size", 1))}
        for event in read_log(log_path(path))
        if isinstance(event.get("id"), str) and isinstance(event.get("timing_ms"), dict)
    }


def read_metadata(path: Path) -> dict[str, Any]:
    """Metadata of a run, from the run logs of a journal.

    Returns:
        `starts`, `datasets` by task, `facts` of model and settings, and the highest `peak_memory_bytes` of a process.
    """
    metadata: dict[str, Any] = {"starts": [], "datasets": {}, "facts": {}, "peak_memory_bytes": None}
    for event in read_log(log_path(path)):
        if event["event"] == "start":
            metadata["starts"].append(event)
        elif isinstance(event.get("dataset"), dict):
            metadata["datasets"][event.get("task")] = event["dataset"]
        elif isinstance(event.get("facts"), dict):
            metadata["facts"] = event["facts"]
        elif isinstance(event.get("bytes"), int):
            metadata["peak_memory_bytes"] = max(metadata["peak_memory_bytes"] or 0, event["bytes"])
    return metadata

"""Responses of an lmms-eval run on disk: a journal of answers, and a file of times, starts and metadata."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidcompress.tools.runs.journal import Journal, JournalError, as_line

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
        """From opening the media to the first token; None where no times are known."""
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
        ArgumentError: the journal belongs to another run. JournalError: it cannot be opened.
    """

    def __init__(
        self, path: Path | None, head: Mapping[str, Any], *, rank: int = 0, world_size: int = 1
    ) -> None:
        self._journal: Journal | None = None
        self._pending: list[Response] = []
        self._done: dict[str, Response] = {}
        self._times: Path | None = None
        if path is None:
            return
        own = path if rank == 0 else rank_file(path, rank)
        self._journal = Journal(own, head)
        self._times = times_file(own)
        self.note({"start": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "rank": rank, "world_size": world_size})
        times = {name: entry for name, entry in read_times(path).items() if isinstance(name, str)}
        lines = dict(self._journal.done)
        for other in [path, *rank_files(path)]:
            if other != own:
                for line in read_answers(other, head):
                    lines.setdefault(line["id"], line)
        self._done = {name: Response.of_line(line, times.get(name, {})) for name, line in lines.items()}

    def get(self, name: str) -> Response | None:
        """Response to a request, or None."""
        return self._done.get(name)

    def add(self, responses: Sequence[Response]) -> None:
        """Store responses; while the disk is full they wait in memory and are written with the next ones."""
        fresh = [response for response in responses if response.id not in self._done]
        self._done.update((response.id, response) for response in fresh)
        self._pending += fresh
        for response in fresh:
            self.note(
                {"id": response.id, "timing_ms": dict(response.timing_ms), "batch_size": response.batch_size}
            )
        if self._journal is None or not self._pending:
            self._pending = []
            return
        try:
            self._journal.add([response.line() for response in self._pending])
        except JournalError as error:
            logger.warning("%s (%d answers wait in memory)", error, len(self._pending))
            return
        self._pending = []

    def note(self, entry: Mapping[str, Any]) -> None:
        """Append to the file of times; a failed write is ignored."""
        if self._times is None:
            return
        try:
            with self._times.open("ab") as file:
                file.write(as_line(entry))
        except OSError as error:
            logger.debug("%s: %s", self._times, error)


def rank_file(path: Path, rank: int) -> Path:
    """Path of the journal of process `rank`, beside the main journal."""
    return path.with_name(f"{path.stem}.rank{rank}{path.suffix}")


def rank_files(path: Path) -> list[Path]:
    """Paths of the journals of processes other than the first, by name."""
    return sorted(path.parent.glob(f"{path.stem}.rank*{path.suffix}"))


def times_file(path: Path) -> Path:
    """Path of the times of a journal: `<stem>.times` beside it."""
    return path.with_suffix(".times")


def read_answers(path: Path, head: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Answer lines of a journal that another process may be writing; none where its head is not `head`."""
    for number, line in enumerate(_lines(path)):
        if number == 0 and head is not None and as_line(line) != as_line({"head": dict(head)}):
            return
        if isinstance(line.get("id"), str) and "answer" in line:
            yield line


def read_times(path: Path) -> dict[Any, dict[str, Any]]:
    """Times and metadata of a journal and its rank files.

    Returns:
        By id of a request, its `timing_ms` and `batch_size`; under None, all else: `starts`, `datasets`, `facts` of
        model and settings, and the highest `peak_memory_bytes` of a process.
    """
    metadata: dict[str, Any] = {"starts": [], "datasets": {}, "facts": {}, "peak_memory_bytes": None}
    times: dict[Any, dict[str, Any]] = {None: metadata}
    for file in [path, *rank_files(path)]:
        for line in _lines(times_file(file)):
            if isinstance(line.get("timing_ms"), dict):
                times[line.get("id")] = {
                    "timing_ms": line["timing_ms"],
                    "batch_size": int(line.get("batch_size", 1)),
                }
            elif "start" in line:
                metadata["starts"].append(line)
            elif isinstance(line.get("dataset"), dict):
                metadata["datasets"][line.get("task")] = line["dataset"]
            elif isinstance(line.get("facts"), dict):
                metadata["facts"] = line["facts"]
            elif isinstance(line.get("peak_memory_bytes"), int):
                peak = max(metadata["peak_memory_bytes"] or 0, line["peak_memory_bytes"])
                metadata["peak_memory_bytes"] = peak
    return times


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of a file that is a JSON object."""
    try:
        content = path.read_bytes()
    except OSError:
        return
    for line in content.split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry

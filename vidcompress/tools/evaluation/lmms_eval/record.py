"""Answers of a harness run on disk: the journal of answers, and beside it a file of times and (re)starts."""

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
class Outcome:
    """What came of one request.

    Attributes:
        id: of the request: task, document, and what else tells it from its siblings.
        answer: text; a list of texts, one per round; or [loss, greedy] of a continuation. "" where it failed.
        prompt: digest of what was asked, so that an answer to another prompt is not taken for this one's.
        kept, budget, total: visual tokens that were sent, that might be sent, and without compression; of a method
            inside the language model all three are averages over the inputs of its layers.
        input_tokens: length of the compressed prompt. output_tokens: length of the answer.
        error: why there is no answer, or None.
        timing_ms: of the batch it was answered in, as `Answer.timing_ms`; empty where it is not known.
        batch_size: questions of that batch.
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
        """The answer as a line of the journal, without times; the score is the harness's to give, later."""
        values = {
            name: value for name, value in vars(self).items() if name not in ("timing_ms", "batch_size")
        }
        if self.error is None:
            del values["error"]
        return {**values, "score": None}

    @classmethod
    def of_line(cls, line: Mapping[str, Any], times: Mapping[str, Any]) -> Outcome:
        """Read back what `line` made; `times` is what is known of when."""
        known = {name: line[name] for name in cls.__dataclass_fields__ if name in line}
        return cls(**known, **times)


class Record:
    """The answers of one process, and those that other processes and earlier runs left.

    Args:
        path: of the journal, or None to keep nothing on disk. Process 0 writes it; process r > 0 writes
            `<stem>.rank<r>.jsonl` beside it. All of them are read back, however many processes there are now.
        head: what the answers depend on.
        rank: number of this process. world_size: number of processes.

    Raises:
        ArgumentError: the journal belongs to another run. JournalError: it cannot be opened.
    """

    def __init__(
        self, path: Path | None, head: Mapping[str, Any], *, rank: int = 0, world_size: int = 1
    ) -> None:
        self._journal: Journal | None = None
        self._pending: list[Outcome] = []
        self._done: dict[str, Outcome] = {}
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
        self._done = {name: Outcome.of_line(line, times.get(name, {})) for name, line in lines.items()}

    def get(self, name: str) -> Outcome | None:
        """The answer to a request, if there is one."""
        return self._done.get(name)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Keep answers. While the disk is full they are kept in memory, and written as soon as there is room."""
        fresh = [outcome for outcome in outcomes if outcome.id not in self._done]
        self._done.update((outcome.id, outcome) for outcome in fresh)
        self._pending += fresh
        for outcome in fresh:
            self.note(
                {"id": outcome.id, "timing_ms": dict(outcome.timing_ms), "batch_size": outcome.batch_size}
            )
        if self._journal is None or not self._pending:
            self._pending = []
            return
        try:
            self._journal.add([outcome.line() for outcome in self._pending])
        except JournalError as error:
            logger.warning("%s (%d answers wait in memory)", error, len(self._pending))
            return
        self._pending = []

    def note(self, entry: Mapping[str, Any]) -> None:
        """Append to the file of times; what cannot be written there is let go."""
        if self._times is None:
            return
        try:
            with self._times.open("ab") as file:
                file.write(as_line(entry))
        except OSError as error:
            logger.debug("%s: %s", self._times, error)


def rank_file(path: Path, rank: int) -> Path:
    """Where process `rank` keeps its answers beside the journal."""
    return path.with_name(f"{path.stem}.rank{rank}{path.suffix}")


def rank_files(path: Path) -> list[Path]:
    """The journals of processes other than the first, by name."""
    return sorted(path.parent.glob(f"{path.stem}.rank*{path.suffix}"))


def times_file(path: Path) -> Path:
    """Where the times of a journal are: `<stem>.times` beside it."""
    return path.with_suffix(".times")


def read_answers(path: Path, head: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Lines of a journal that somebody else may be writing; none where its head is not `head`."""
    for number, line in enumerate(_lines(path)):
        if number == 0 and head is not None and as_line(line) != as_line({"head": dict(head)}):
            return
        if isinstance(line.get("id"), str) and "answer" in line:
            yield line


def read_times(path: Path) -> dict[Any, dict[str, Any]]:
    """What the files of times of a journal and its rank files know.

    Returns:
        By id of a request, its `timing_ms` and `batch_size`; under None, all else: `starts`, `datasets`, `facts` of
        model and settings, and the highest `peak_memory_bytes` of a process.
    """
    told: dict[str, Any] = {"starts": [], "datasets": {}, "facts": {}, "peak_memory_bytes": None}
    found: dict[Any, dict[str, Any]] = {None: told}
    for file in [path, *rank_files(path)]:
        for line in _lines(times_file(file)):
            if isinstance(line.get("timing_ms"), dict):
                found[line.get("id")] = {
                    "timing_ms": line["timing_ms"],
                    "batch_size": int(line.get("batch_size", 1)),
                }
            elif "start" in line:
                told["starts"].append(line)
            elif isinstance(line.get("dataset"), dict):
                told["datasets"][line.get("task")] = line["dataset"]
            elif isinstance(line.get("facts"), dict):
                told["facts"] = line["facts"]
            elif isinstance(line.get("peak_memory_bytes"), int):
                told["peak_memory_bytes"] = max(told["peak_memory_bytes"] or 0, line["peak_memory_bytes"])
    return found


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

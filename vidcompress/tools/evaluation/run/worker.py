"""Worker of one row on one process: answers its batches, and merges the journals of all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidcompress.core.devices import input_device
from vidcompress.errors import one_line
from vidcompress.tools.evaluation.run.batches import UNREACHABLE, Batch, BatchInference, make_batches
from vidcompress.tools.evaluation.run.distributed import Ranks
from vidcompress.tools.evaluation.run.model_cache import Loaded
from vidcompress.tools.evaluation.run.sweep import SweepRow
from vidcompress.tools.evaluation.tasks.base import Item, Task
from vidcompress.tools.runs.journal import Journal, JournalError
from vidcompress.tools.runs.memory import peak_bytes, reset_peak
from vidcompress.tools.runs.run_log import RunLog
from vidcompress.tools.runs.validation import is_number

ANSWERS = "answers.jsonl"


@dataclass
class RankResult:
    """Result of one process (rank) for a row, gathered by all processes.

    Attributes:
        events: of its run log.
        unwritten: id -> reason of answers that could not be written.
        unreachable: why the method cannot serve the task.
        error: why it stopped, if it did.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    unwritten: dict[str, str] = field(default_factory=dict)
    unreachable: str | None = None
    error: str | None = None


class Writer:
    """Writer of answers to a journal; answers that a full disk refuses are kept and written with the next ones.

    Args:
        journal: to write to.

    Attributes:
        waiting: lines that are not on disk. why: message of the last error.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.waiting: list[Mapping[str, Any]] = []
        self.why = ""

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write lines; those whose ids the journal holds are dropped."""
        self.waiting += [line for line in lines if line["id"] not in self.journal.done]
        try:
            self.journal.add(self.waiting)
            self.waiting = []
        except JournalError as error:
            self.why = str(error)

    def lost(self) -> dict[str, str]:
        """Write the waiting lines once more; return the ids that are still not on disk, with the reason."""
        self.add([])
        return {line["id"]: self.why for line in self.waiting}


def is_answer(line: Mapping[str, Any]) -> bool:
    """Whether a line of a journal has an answer and its numbers, or an error."""
    if "error" in line:
        return isinstance(line["error"], str)
    numbers = ("score", "kept", "budget", "total")
    return isinstance(line["answer"], str) and all(is_number(line.get(name)) for name in numbers)


def rank_journal_paths(folder: Path) -> list[Path]:
    """Journals of the other processes that are not merged yet."""
    return sorted(path for path in folder.glob("answers.rank*.jsonl"))


def merge_rank_journals(folder: Path, journal: Journal, head: Mapping[str, Any]) -> dict[str, str]:
    """Merge the journals of the other processes into the journal of the row.

    Returns:
        Ids that could not be written, with the reason; the journal of their process is kept.

    Raises:
        ArgumentError: a journal belongs to another run.
    """
    lost: dict[str, str] = {}
    for path in rank_journal_paths(folder):
        rank_journal, writer = Journal(path, head, is_answer), Writer(journal)
        journal.corrupt += rank_journal.corrupt
        writer.add(rank_journal.done.values())
        left = writer.lost()
        lost |= left
        if not left:
            path.unlink()
    return lost


def unanswered_batches(items: Sequence[Item], size: int, done: Iterable[str]) -> list[Batch]:
    """Whole batches that hold a question without an answer; batches are the same in every run."""
    answered = set(done)
    return [
        batch for batch in make_batches(items, size) if not all(item.id in answered for item in batch.items)
    ]


def unreachable_reason(row: SweepRow, items: Sequence[Item], processor: Any) -> str | None:
    """Reason why a row cannot run, as far as model and task show before it runs; None otherwise."""
    if processor.image_token is None and any(item.images for item in items):
        return "the model takes no pictures"
    if processor.video_token is None and any(item.video is not None for item in items):
        return "the model takes no videos"
    if row.settings.method.inside is not None and any(item.group for item in items):
        return (
            "groups are asked over one compressed cache, which a method inside the language model would prune by the "
            "first question"
        )
    return None


def answer_rank(
    row: SweepRow,
    task: Task,
    items: Sequence[Item],
    batches: Sequence[Batch],
    journal: Journal,
    log: RunLog,
    load: Callable[[], Loaded],
    ranks: Ranks,
    advance: Callable[[int], None],
) -> RankResult:
    """Answer the batches of this process (rank).

    Args:
        row, task, items: the questions and their settings.
        batches: of this process.
        journal, log: of this process.
        load: returns model and processor.
        ranks: the processes of the run.
        advance: called with the number of questions just answered.

    Returns:
        The result of this process. Errors are in it, not raised, so that no process waits for another in vain.
    """
    writer = Writer(journal)
    rank_result = RankResult()
    try:
        model, processor = load()
        rank_result.unreachable = unreachable_reason(row, items, processor)
        if rank_result.unreachable is None:
            device = input_device(model)
            reset_peak(device)
            infer = BatchInference(
                model, processor, row, task.metric, row.task.max_new_tokens or task.max_new_tokens
            )
            for number, batch in enumerate(batches):
                result = infer(batch)
                writer.add(result.lines)
                log.add(
                    "batch",
                    batch=batch.number,
                    first=number == 0,
                    processes=ranks.size,
                    peak_memory_bytes=peak_bytes(device),
                    **result.event(),
                )
                advance(len(batch.items))
    except UNREACHABLE as error:
        rank_result.unreachable = " ".join(str(error).split())
    except (torch.OutOfMemoryError, MemoryError) as error:
        rank_result.error = (
            f"out of memory ({one_line(error)}); choose a smaller batch_size and another folder"
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    except Exception as error:  # noqa: BLE001  (the other rows of the sweep go on)
        rank_result.error = f"{type(error).__name__}: {' '.join(str(error).split())}"
    rank_result.unwritten = writer.lost()
    rank_result.events = log.written
    return rank_result

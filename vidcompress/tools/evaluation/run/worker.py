"""One row from its first question to its result: on one process or several, from the beginning or from where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidcompress.core.devices import input_device
from vidcompress.errors import one_line
from vidcompress.tools.evaluation.run.batches import UNREACHABLE, Asker, Batch, make_batches
from vidcompress.tools.evaluation.run.distributed import Ranks
from vidcompress.tools.evaluation.run.model_cache import Loaded
from vidcompress.tools.evaluation.run.sweep import Row
from vidcompress.tools.evaluation.tasks.base import Item, Task
from vidcompress.tools.runs.journal import Journal, JournalError
from vidcompress.tools.runs.memory import peak_bytes, reset_peak
from vidcompress.tools.runs.run_log import RunLog
from vidcompress.tools.runs.validation import is_number

ANSWERS = "answers.jsonl"


@dataclass
class Part:
    """What one process did of a row; told to the others.

    Attributes:
        events: of its run log.
        unwritten: answers that the disk did not take, by id: why.
        unreachable: why the method cannot serve the task.
        error: why it stopped, if it did.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    unwritten: dict[str, str] = field(default_factory=dict)
    unreachable: str | None = None
    error: str | None = None


class Writer:
    """Hands answers to a journal; what a full disk refuses is kept and handed over again with the next ones.

    Args:
        journal: to write to.

    Attributes:
        waiting: lines that are not on disk. why: what the last refusal said.
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
        """Try once more; ids that are still not on disk, with the reason."""
        self.add([])
        return {line["id"]: self.why for line in self.waiting}


def is_answer(line: Mapping[str, Any]) -> bool:
    """Whether a line of a journal, read back, is one that a row writes: with an answer and numbers, or an error."""
    if "error" in line:
        return isinstance(line["error"], str)
    numbers = ("score", "kept", "budget", "total")
    return isinstance(line["answer"], str) and all(is_number(line.get(name)) for name in numbers)


def part_paths(folder: Path) -> list[Path]:
    """Journals of further processes that are not merged yet."""
    return sorted(path for path in folder.glob("answers.rank*.jsonl"))


def merge_parts(folder: Path, journal: Journal, head: Mapping[str, Any]) -> dict[str, str]:
    """Move the answers of further processes into the journal of the row.

    Returns:
        Ids that the disk did not take, with the reason; their part stays where it is.

    Raises:
        ArgumentError: a part belongs to something else.
    """
    lost: dict[str, str] = {}
    for path in part_paths(folder):
        part, writer = Journal(path, head, is_answer), Writer(journal)
        journal.corrupt += part.corrupt
        writer.add(part.done.values())
        left = writer.lost()
        lost |= left
        if not left:
            path.unlink()
    return lost


def open_batches(items: Sequence[Item], size: int, done: Iterable[str]) -> list[Batch]:
    """The batches that hold a question without an answer, whole, so that they are the batches of every other run."""
    answered = set(done)
    return [
        batch for batch in make_batches(items, size) if not all(item.id in answered for item in batch.items)
    ]


def unreachable_reason(row: Row, items: Sequence[Item], processor: Any) -> str | None:
    """Why a row cannot be, as far as its model and task tell before anything is run."""
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


def run_part(
    row: Row,
    task: Task,
    items: Sequence[Item],
    batches: Sequence[Batch],
    journal: Journal,
    log: RunLog,
    load: Callable[[], Loaded],
    ranks: Ranks,
    advance: Callable[[int], None],
) -> Part:
    """Answer the batches of this process.

    Args:
        row, task, items: what is asked.
        batches: of this process.
        journal, log: of this process.
        load: gives the model.
        ranks: how many work on it.
        advance: called with the number of questions just answered.

    Returns:
        What there is to tell. Whatever goes wrong is in it, not raised, so that no process waits for another in vain.
    """
    writer = Writer(journal)
    part = Part()
    try:
        model, processor = load()
        part.unreachable = unreachable_reason(row, items, processor)
        if part.unreachable is None:
            device = input_device(model)
            reset_peak(device)
            ask = Asker(model, processor, row, task.metric, row.task.max_new_tokens or task.max_new_tokens)
            for number, batch in enumerate(batches):
                asked = ask(batch)
                writer.add(asked.lines)
                log.add(
                    "batch",
                    batch=batch.number,
                    first=number == 0,
                    processes=ranks.size,
                    peak_memory_bytes=peak_bytes(device),
                    **asked.event(),
                )
                advance(len(batch.items))
    except UNREACHABLE as error:
        part.unreachable = " ".join(str(error).split())
    except (torch.OutOfMemoryError, MemoryError) as error:
        part.error = f"out of memory ({one_line(error)}); choose a smaller batch_size and another folder"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    except Exception as error:  # noqa: BLE001  (the other rows of the sweep go on)
        part.error = f"{type(error).__name__}: {' '.join(str(error).split())}"
    part.unwritten = writer.lost()
    part.events = log.written
    return part

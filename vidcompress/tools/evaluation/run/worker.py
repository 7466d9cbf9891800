"""Worker of one row on one process (rank): answers its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from vidcompress.core.devices import input_device
from vidcompress.errors import one_line
from vidcompress.tools.evaluation.run.batches import UNREACHABLE, Batch, BatchInference, make_batches
from vidcompress.tools.evaluation.run.distributed import Ranks
from vidcompress.tools.evaluation.run.model_cache import Loaded
from vidcompress.tools.evaluation.run.sweep import SweepRow
from vidcompress.tools.evaluation.tasks.base import Item, Task
from vidcompress.tools.runs.journal import RunJournal
from vidcompress.tools.runs.memory import peak_bytes, reset_peak
from vidcompress.tools.runs.run_log import RunLog
from vidcompress.tools.runs.validation import is_number

ANSWERS = "answers.jsonl"


@dataclass
class RankResult:
    """Result of one process (rank) for a row, gathered by all processes.

    Attributes:
        unwritten: id -> reason of answers that could not be written.
        unreachable: why the method cannot serve the task.
        error: why it stopped, if it did.
    """

    unwritten: dict[str, str] = field(default_factory=dict)
    unreachable: str | None = None
    error: str | None = None


def is_answer(line: Mapping[str, Any]) -> bool:
    """Whether a line of a journal has an answer and its numbers, or an error."""
    if not isinstance(line.get("answer"), str):
        return False
    if "error" in line:
        return isinstance(line["error"], str)
    return all(is_number(line.get(name)) for name in ("score", "kept", "budget", "total"))


def unanswered_batches(items: Sequence[Item], size: int, done: Iterable[str]) -> list[Batch]:
    """Whole batches that hold a question without an answer; batches are the same in every run."""
    answered = set(done)
    return [
        batch for batch in make_batches(items, size) if not all(item.id in answered for item in batch.items)
    ]


def unreachable_reason(row: SweepRow, items: Sequence[Item], processor: Any) -> str | None:
    """Return the reason why a row cannot run, as far as model and task show it before; None otherwise."""
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
    journal: RunJournal,
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
                journal.write(result.lines)
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
    except Exception as error:  # noqa: BLE001  (the other rows of the sweep continue)
        rank_result.error = f"{type(error).__name__}: {' '.join(str(error).split())}"
    rank_result.unwritten = journal.write()
    return rank_result

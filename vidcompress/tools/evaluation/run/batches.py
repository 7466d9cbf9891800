"""Batch inference of questions to answers as journal lines, with times in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidcompress.core.timing import PHASES, Phases
from vidcompress.errors import (
    BudgetError,
    UnsupportedInputError,
    UnsupportedModelError,
    VidcompressError,
    one_line,
)
from vidcompress.media import load_image, read_video
from vidcompress.qa import VisualQA
from vidcompress.qa.answer import Answer
from vidcompress.qa.question import Media, Question
from vidcompress.tools.evaluation.metrics import judge
from vidcompress.tools.evaluation.run.sweep import SweepRow
from vidcompress.tools.evaluation.tasks.base import Item

UNREACHABLE = (BudgetError, UnsupportedInputError, UnsupportedModelError)
"""Errors that mean that a method cannot serve a task at all."""
_BEFORE_FIRST = PHASES[: PHASES.index("prefill") + 1]


@dataclass(frozen=True)
class Batch:
    """Batch of questions: answered together, or one after another over one compressed cache.

    Attributes:
        number: of the batch within its task; the same in every run and with any number of processes.
        items: at least one.
    """

    number: int
    items: tuple[Item, ...]

    @property
    def grouped(self) -> bool:
        """Whether they share their media."""
        return bool(self.items[0].group)


def make_batches(items: Sequence[Item], size: int) -> list[Batch]:
    """Cut a task into batches that depend on nothing but the order of its items.

    Args:
        items: of the task.
        size: questions per batch; a group of any size is a batch of its own.
    """
    units: list[list[Item]] = []
    groups: dict[str, list[Item]] = {}
    filling: list[Item] = []
    for item in items:
        if item.group:
            if item.group not in groups:
                groups[item.group] = []
                units.append(groups[item.group])
            groups[item.group].append(item)
            continue
        if len(filling) in (0, size):
            filling = []
            units.append(filling)
        filling.append(item)
    return [Batch(number, tuple(unit)) for number, unit in enumerate(units)]


@dataclass
class BatchResult:
    """Result of a batch: answers and times.

    Attributes:
        lines: one journal line per question, in order.
        calls: (questions, milliseconds by phase) of every call of the model.
        seconds: from opening the media to the last answer.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    seconds: float = 0.0

    def event(self) -> dict[str, Any]:
        """Event of the run log: milliseconds per phase summed over the batch, and to the first token of every call."""
        return {
            "questions": len(self.lines),
            "seconds": round(self.seconds, 6),
            "ms": {phase: round(sum(ms[phase] for _, ms in self.calls), 3) for phase in PHASES},
            "first_token_ms": [round(sum(ms[phase] for phase in _BEFORE_FIRST), 3) for _, ms in self.calls],
        }


class BatchInference:
    """Batch inference of one row.

    Args:
        model: a loaded model. processor: from `load_processor`.
        row: compression and frame sampling.
        metric: of the task.
        max_new_tokens: longest answer.
    """

    def __init__(self, model: Any, processor: Any, row: SweepRow, metric: str, max_new_tokens: int) -> None:
        self.model, self.processor, self.row = model, processor, row
        self.metric, self.length = metric, max_new_tokens

    def __call__(self, batch: Batch) -> BatchResult:
        """Answer a batch; a question whose media or text cannot be processed fails alone.

        Raises:
            BudgetError, UnsupportedInputError, UnsupportedModelError: the method cannot serve this task or model.
        """
        start, result = time.perf_counter(), BatchResult()
        torch.manual_seed(self.row.seed + batch.number)
        qa = VisualQA(
            self.model, self.processor, config=self.row.config(batch.number), **self.row.model.sampling()
        )
        answers = (
            self._answer_group(qa, batch, result) if batch.grouped else self._answer_batch(qa, batch, result)
        )
        result.lines = [self._line(item, answer) for item, answer in zip(batch.items, answers, strict=True)]
        result.seconds = time.perf_counter() - start
        return result

    def _answer_group(
        self, qa: VisualQA, batch: Batch, result: BatchResult
    ) -> list[Answer | VidcompressError]:
        first = batch.items[0]
        chat = qa.chat(images=first.images or None, video=first.video, history=False)

        def ask(item: Item) -> Answer:
            answer = chat.ask(item.question, max_new_tokens=self.length)
            result.calls.append((1, answer.timing_ms))
            return answer

        return [_or_error(ask, item) for item in batch.items]

    def _answer_batch(
        self, qa: VisualQA, batch: Batch, result: BatchResult
    ) -> list[Answer | VidcompressError]:
        clock = qa.pipeline.clock()
        seen: dict[Path, Any] = {}
        opened = [_or_error(lambda item: self._open(qa, item, seen), item) for item in batch.items]
        good = [
            (item, media) for item, media in zip(batch.items, opened, strict=True) if isinstance(media, tuple)
        ]
        try:
            answers = iter(self._call(qa, good, clock, result)) if good else iter(())
            return [next(answers) if isinstance(media, tuple) else media for media in opened]
        except UNREACHABLE:
            raise
        except VidcompressError:  # one question cannot be served: let it fail alone
            return [
                _or_error(lambda pair: self._call(qa, [pair], None, result)[0], (item, media))
                if isinstance(media, tuple)
                else media
                for item, media in zip(batch.items, opened, strict=True)
            ]

    def _open(self, qa: VisualQA, item: Item, seen: dict[Path, Any]) -> Media:
        """Pictures and clip of a question; a file that questions of the batch share is read once."""
        for path in item.images:
            if path not in seen:
                seen[path] = load_image(path)
        if item.video is not None and item.video not in seen:
            seen[item.video] = read_video(item.video, **qa.sampling, rule=self.processor.frame_rule)
        return [seen[path] for path in item.images], None if item.video is None else seen[item.video]

    def _call(
        self, qa: VisualQA, pairs: Sequence[tuple[Item, Media]], clock: Phases | None, result: BatchResult
    ) -> list[Answer]:
        questions = [Question(item.question, item.images, item.video) for item, _ in pairs]
        batch = qa.pipeline.preprocess(questions, [opened for _, opened in pairs], clock=clock)
        answers = qa.pipeline.answer(batch, {"do_sample": False, "max_new_tokens": self.length})
        result.calls.append((len(answers), answers[0].timing_ms))
        return answers

    def _line(self, item: Item, answer: Answer | VidcompressError) -> dict[str, Any]:
        if not isinstance(answer, Answer):
            return failed_line(item.id, one_line(answer))
        report = answer.report
        return {
            "id": item.id,
            "answer": answer.text,
            "score": judge(item, answer.text, self.metric),
            # inside the language model both are averaged over the inputs of its layers
            "kept": report.mean_kept,
            "budget": report.mean_budget,
            "total": report.total,
            "views": [[view.to_dict() for view in visual.maps] for visual in report.visuals],
        }


def failed_line(name: str, error: str) -> dict[str, Any]:
    """Journal line of a question that cannot be answered."""
    return {
        "id": name,
        "answer": "",
        "score": None,
        "kept": None,
        "budget": None,
        "total": None,
        "views": [],
        "error": error,
    }


def _or_error(run: Callable[[Any], Any], argument: Any) -> Any:
    """Result of a function, or the package's error that it raises; errors of `UNREACHABLE` are raised."""
    try:
        return run(argument)
    except UNREACHABLE:
        raise
    except VidcompressError as error:
        return error

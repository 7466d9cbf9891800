"""One batch of questions put to a model: answers as journal lines, times as an event, and what failed by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidcompress.core.devices import input_device
from vidcompress.core.timing import PHASES, Phases
from vidcompress.errors import BudgetError, UnsupportedInputError, VidcompressError, one_line
from vidcompress.media import load_image, read_video
from vidcompress.qa import VisualQA
from vidcompress.qa.answer import Answer
from vidcompress.qa.pipeline import Media, answer_prepared, check_text, prepare
from vidcompress.qa.question import Question
from vidcompress.tools.evaluation.metrics import judge
from vidcompress.tools.evaluation.run.sweep import Row
from vidcompress.tools.evaluation.tasks.base import Item

UNREACHABLE = (BudgetError, UnsupportedInputError)
"""What says that a method cannot serve a task at all."""
_BEFORE_FIRST = PHASES[: PHASES.index("prefill") + 1]


@dataclass(frozen=True)
class Batch:
    """Questions that go through the model together, or one after another over one compressed cache.

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
        size: questions per batch; a group is a batch of its own whatever its size.
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
class Asked:
    """What came of a batch.

    Attributes:
        lines: one journal line per question, in order.
        calls: (questions, milliseconds by phase) of every call of the model.
        seconds: from opening the media to the last answer.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    seconds: float = 0.0

    def event(self) -> dict[str, Any]:
        """The times as JSON values: per phase summed over the batch, and to the first token of every call."""
        return {
            "questions": len(self.lines),
            "seconds": round(self.seconds, 6),
            "ms": {phase: round(sum(ms[phase] for _, ms in self.calls), 3) for phase in PHASES},
            "first_token_ms": [round(sum(ms[phase] for phase in _BEFORE_FIRST), 3) for _, ms in self.calls],
        }


class Asker:
    """Puts the batches of one row to a model.

    Args:
        model: a loaded model. processor: from `load_processor`.
        row: says how it is compressed and which frames are taken.
        metric: of the task.
        max_new_tokens: longest answer.
    """

    def __init__(self, model: Any, processor: Any, row: Row, metric: str, max_new_tokens: int) -> None:
        self.model, self.processor, self.row = model, processor, row
        self.metric, self.length = metric, max_new_tokens

    def __call__(self, batch: Batch) -> Asked:
        """Answer a batch; a question whose media or text cannot be served fails alone.

        Raises:
            BudgetError, UnsupportedInputError: the method cannot serve this task.
        """
        start, asked = time.perf_counter(), Asked()
        torch.manual_seed(self.row.seed + batch.number)
        qa = VisualQA(
            self.model, self.processor, config=self.row.config(batch.number), **self.row.model.sampling()
        )
        told = self._group(qa, batch, asked) if batch.grouped else self._together(qa, batch, asked)
        asked.lines = [self._line(item, found) for item, found in zip(batch.items, told, strict=True)]
        asked.seconds = time.perf_counter() - start
        return asked

    def _group(self, qa: VisualQA, batch: Batch, asked: Asked) -> list[Answer | VidcompressError]:
        first = batch.items[0]
        chat = qa.chat(images=first.images or None, video=first.video, history=False)

        def ask(item: Item) -> Answer:
            answer = chat.ask(item.question, max_new_tokens=self.length)
            asked.calls.append((1, answer.timing_ms))
            return answer

        return [_caught(ask, item) for item in batch.items]

    def _together(self, qa: VisualQA, batch: Batch, asked: Asked) -> list[Answer | VidcompressError]:
        phases = Phases(input_device(self.model))
        seen: dict[Path, Any] = {}
        opened = [_caught(lambda item: self._open(qa, item, seen), item) for item in batch.items]
        phases.cut("decode")
        good = [
            (item, media) for item, media in zip(batch.items, opened, strict=True) if isinstance(media, tuple)
        ]
        try:
            answers = iter(self._call(qa, good, phases, asked)) if good else iter(())
            return [next(answers) if isinstance(media, tuple) else media for media in opened]
        except UNREACHABLE:
            raise
        except VidcompressError:  # one of them cannot be served: let it fail alone
            return [
                _caught(lambda pair: self._call(qa, [pair], None, asked)[0], (item, media))
                if isinstance(media, tuple)
                else media
                for item, media in zip(batch.items, opened, strict=True)
            ]

    def _open(self, qa: VisualQA, item: Item, seen: dict[Path, Any]) -> Media:
        """The pictures and the clip of a question; files that several questions of the batch share are read once."""
        default = self.processor.video_recipe.num_frames
        for path in item.images:
            if path not in seen:
                seen[path] = load_image(path)
        if item.video is not None and item.video not in seen:
            seen[item.video] = read_video(item.video, **qa.sampling, default_frames=default)
        return [seen[path] for path in item.images], None if item.video is None else seen[item.video]

    def _call(
        self, qa: VisualQA, pairs: Sequence[tuple[Item, Media]], phases: Phases | None, asked: Asked
    ) -> list[Answer]:
        phases = phases or Phases(input_device(self.model))
        questions = [Question(item.question, item.images, item.video) for item, _ in pairs]
        media = [opened for _, opened in pairs]
        for question in questions:
            check_text(question.text, self.processor)
        inputs = prepare(self.model, self.processor, questions, media, time_instruction=qa.time_instruction)
        phases.cut("preprocess")
        answers = answer_prepared(
            self.model,
            self.processor,
            questions,
            media,
            inputs,
            phases,
            config=qa.config,
            generation={"do_sample": False, "max_new_tokens": self.length},
        )
        asked.calls.append((len(answers), answers[0].timing_ms))
        return answers

    def _line(self, item: Item, found: Answer | VidcompressError) -> dict[str, Any]:
        if not isinstance(found, Answer):
            return failed_line(item.id, one_line(found))
        report = found.report
        return {
            "id": item.id,
            "answer": found.text,
            "score": judge(item, found.text, self.metric),
            # inside the language model both are averaged over the inputs of its layers
            "kept": report.mean_kept,
            "budget": report.mean_budget,
            "total": report.total,
        }


def failed_line(name: str, error: str) -> dict[str, Any]:
    """The journal line of a question that cannot be answered."""
    return {
        "id": name,
        "answer": "",
        "score": None,
        "kept": None,
        "budget": None,
        "total": None,
        "error": error,
    }


def _caught(run: Callable[[Any], Any], argument: Any) -> Any:
    """What a function returns, or the error of this package that it raises; what concerns the whole row is raised."""
    try:
        return run(argument)
    except UNREACHABLE:
        raise
    except VidcompressError as error:
        return error

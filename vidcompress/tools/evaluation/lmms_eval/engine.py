"""Answers to a harness's requests, in batches that are the same in every run, kept as they are made."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch

from vidcompress.core.devices import input_device
from vidcompress.core.timing import Phases
from vidcompress.errors import VidcompressError, one_line
from vidcompress.loading.arguments import check_generation
from vidcompress.qa.answer import Answer
from vidcompress.qa.pipeline import answer_prepared, prepare
from vidcompress.qa.visual_qa import VisualQA
from vidcompress.tools.evaluation.lmms_eval.record import Outcome, Record
from vidcompress.tools.evaluation.lmms_eval.requests import Prompt

logger = logging.getLogger(__name__)

LAUNCHED = "VIDCOMPRESS_LMMS_LAUNCHED"
"""Environment variable: set by `launch.run_lmms` for the processes it starts."""

DEFAULT_NEW_TOKENS = 1024
"""Longest answer where the task states none, as in lmms-eval's own LLaVA models."""


@dataclass(frozen=True, eq=False)
class Ask:
    """One request.

    Attributes:
        id: unique in the run; the same in every run.
        prompt: makes the question, and with it may open media; what it raises is this request's failure.
        generation: the task's `generation_kwargs`; never changed.
        digest: of text and `generation`.
    """

    id: str
    prompt: Callable[[], Prompt]
    generation: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


Opened = tuple[Ask, Prompt, Any]
"""A request, its question, and the media of it."""


def generation_options(given: Mapping[str, Any], eos: int | None) -> dict[str, Any]:
    """What `generate` is told, as lmms-eval's `llava_hf` tells it.

    Args:
        given: a task's `generation_kwargs`. `until` and everything that is not named here plays no part, and
            `do_sample` follows from `temperature`.
        eos: id of the token that ends an answer, or None for the checkpoint's own.

    Returns:
        `max_new_tokens` (1024 where the task states none), `num_beams`, and where the temperature is above 0
        `do_sample`, `temperature` and `top_p`.
    """
    temperature = float(given.get("temperature") or 0)
    options: dict[str, Any] = {
        "max_new_tokens": int(given.get("max_new_tokens") or DEFAULT_NEW_TOKENS),
        "num_beams": int(given.get("num_beams") or 1),
        "do_sample": temperature > 0,
    }
    if eos is not None:
        options["eos_token_id"] = eos
    if temperature > 0:
        options["temperature"] = temperature
        if given.get("top_p") is not None:
            options["top_p"] = float(given["top_p"])
    return options


class Engine:
    """Answers requests with one model.

    Args:
        qa: the model, and how it compresses.
        record: what is answered already, and where answers are kept.
        batch_size: questions that go through the model together.

    Attributes:
        fresh: what this process answered itself, in order; what the record held is not among it.
    """

    def __init__(self, qa: VisualQA, record: Record, batch_size: int = 1) -> None:
        self.qa, self.record, self.batch_size = qa, record, batch_size
        self.fresh: list[Outcome] = []
        self._parent = os.getppid()

    def answer(
        self, asks: Sequence[Ask], on_done: Callable[[int], object] = lambda count: None
    ) -> list[Outcome]:
        """Answer requests.

        Batches are formed from the requests in their order, whatever is answered already, so that a run that goes
        on forms the batches of a run that was never stopped. Sampled answers are made one at a time, each from a
        seed of its own.

        Args:
            asks: in the harness's order.
            on_done: told how many more requests have been dealt with.

        Returns:
            One outcome per request, in order.
        """
        outcomes: list[Outcome] = []
        for batch in self._batches(asks):
            self._check_parent()
            known = [self.known(ask) for ask in batch]
            if None in known:
                made = self.answer_batch(batch)
                self.keep([new for new, old in zip(made, known, strict=True) if old is None])
                known = [old or new for old, new in zip(known, made, strict=True)]
            outcomes += [outcome for outcome in known if outcome is not None]
            on_done(len(batch))
        return outcomes

    def known(self, ask: Ask) -> Outcome | None:
        """What the record holds of a request, if that was the same prompt."""
        found = self.record.get(ask.id)
        return found if found is not None and found.prompt == ask.digest else None

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Put new outcomes on record."""
        self.fresh += outcomes
        self.record.add(outcomes)
        for outcome in outcomes:
            if outcome.error is not None:
                logger.warning("%s has no answer: %s", outcome.id, outcome.error)

    def _batches(self, asks: Sequence[Ask]) -> Iterator[list[Ask]]:
        def alike(ask: Ask) -> str:
            return repr(sorted(generation_options(ask.generation, None).items()))

        for _, group in groupby(asks, key=alike):
            members = list(group)
            sampled = generation_options(members[0].generation, None)["do_sample"]
            size = 1 if sampled else self.batch_size
            for start in range(0, len(members), size):
                yield members[start : start + size]

    def answer_batch(self, batch: Sequence[Ask]) -> list[Outcome]:
        """Answer a batch; where it fails as a whole, each request alone, so that only what is broken fails."""
        phases = Phases(input_device(self.qa.model))
        opened, failed = self.open(batch)
        phases.cut("decode")
        try:
            answered = self._generate(opened, phases) if opened else {}
        except VidcompressError as error:
            if len(batch) == 1:
                return [failure(batch[0], error)]
            return [outcome for ask in batch for outcome in self.answer_batch([ask])]
        return [answered.get(ask.id) or failed[ask.id] for ask in batch]

    def open(self, batch: Sequence[Ask]) -> tuple[list[Opened], dict[str, Outcome]]:
        """Make the questions and read their media, each on its own.

        Returns:
            What could be opened, and the failures of the rest by id.
        """
        opened: list[Opened] = []
        failed: dict[str, Outcome] = {}
        for ask in batch:
            try:
                prompt = ask.prompt()
                opened.append((ask, prompt, prompt.open()))
            except (Exception, SystemExit) as error:  # noqa: BLE001  (tasks open media with any library, some exit)
                failed[ask.id] = failure(ask, error)
        return opened, failed

    def _generate(self, opened: Sequence[Opened], phases: Phases) -> dict[str, Outcome]:
        qa = self.qa
        questions = [prompt for _, prompt, _ in opened]
        media = [found for _, _, found in opened]
        generation = self.options(opened[0][0])
        check_generation(qa.model, generation)
        inputs = prepare(qa.model, qa.processor, list(questions), media, time_instruction=qa.time_instruction)
        phases.cut("preprocess")
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        with torch.random.fork_rng(enabled=generation["do_sample"]):
            if generation["do_sample"]:
                torch.manual_seed(zlib.crc32(opened[0][0].id.encode()))
            answers = answer_prepared(
                qa.model,
                qa.processor,
                list(questions),
                media,
                inputs,
                phases,
                config=qa.config,
                generation=generation,
            )
        return {
            ask.id: outcome_of(ask, answer, length)
            for (ask, _, _), answer, length in zip(opened, answers, lengths, strict=True)
        }

    def options(self, ask: Ask) -> dict[str, Any]:
        """What `generate` is told for a request."""
        return generation_options(ask.generation, getattr(self.qa.processor.tokenizer, "eos_token_id", None))

    def _check_parent(self) -> None:
        """Stop where a launcher has been killed: a second run must not find this one still writing."""
        if os.environ.get(LAUNCHED) and os.getppid() != self._parent:
            raise SystemExit("the process that started this run is gone")


def outcome_of(ask: Ask, answer: Answer, prompt_length: int) -> Outcome:
    """An answer with its counts; `prompt_length` is that of the uncompressed prompt."""
    report = answer.report
    return Outcome(
        ask.id,
        answer.text,
        ask.digest,
        kept=report.mean_kept,
        budget=report.mean_budget,
        total=report.total,
        input_tokens=prompt_length - report.total + report.kept,
        output_tokens=answer.new_tokens,
        timing_ms={phase: round(ms, 3) for phase, ms in answer.timing_ms.items()},
        batch_size=answer.batch_size,
    )


def failure(ask: Ask, error: BaseException) -> Outcome:
    """The outcome of a request that cannot be answered."""
    return Outcome(ask.id, "", ask.digest, error=one_line(error))

"""Inference engine of the lmms-eval plugin: requests to responses, in batches that are the same in every run."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch

from vidcompress.core.timing import Phases
from vidcompress.errors import VidcompressError, one_line
from vidcompress.qa.answer import Answer
from vidcompress.qa.visual_qa import VisualQA
from vidcompress.tools.evaluation.lmms_eval.conventions import LLAVA_GENERATION, Convention
from vidcompress.tools.evaluation.lmms_eval.record import Response, ResponseStore
from vidcompress.tools.evaluation.lmms_eval.requests import RequestPrompt

logger = logging.getLogger(__name__)

LAUNCHED = "VIDCOMPRESS_LMMS_LAUNCHED"
"""Environment variable that `launch.run_lmms` sets for the processes it starts."""


@dataclass(frozen=True, eq=False)
class LmmsRequest:
    """One request of the harness.

    Attributes:
        id: unique in the run; the same in every run.
        prompt: function that makes the question and may open media; an error that it raises is this request's failure.
        generation: the task's `generation_kwargs`; never changed.
        digest: of text and `generation`.
    """

    id: str
    prompt: Callable[[], RequestPrompt]
    generation: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


Opened = tuple[LmmsRequest, RequestPrompt, Any]
"""A request, its question and its opened media."""


def generation_options(
    given: Mapping[str, Any], eos: int | None, defaults: Mapping[str, Any] = LLAVA_GENERATION
) -> dict[str, Any]:
    """Arguments of `generate`, as lmms-eval's own models pass them.

    Args:
        given: a task's `generation_kwargs`. `until` and all keys that are not named here are ignored;
            `do_sample` follows from `temperature`.
        eos: id of the token that ends an answer, or None for the checkpoint's own.
        defaults: of the family, where the task states none; see `Convention.generation`.

    Returns:
        `max_new_tokens`, `num_beams`, and where the temperature is above 0 `do_sample`, `temperature`, `top_p` and
        for families that take it `top_k`.
    """
    stated = {**defaults, **{name: value for name, value in given.items() if value is not None}}
    temperature = float(stated.get("temperature") or 0)
    options: dict[str, Any] = {
        "max_new_tokens": int(stated["max_new_tokens"] or defaults["max_new_tokens"]),
        "num_beams": int(stated.get("num_beams") or 1),
        "do_sample": temperature > 0,
    }
    if eos is not None:
        options["eos_token_id"] = eos
    if temperature > 0:
        options["temperature"] = temperature
        if stated.get("top_p") is not None:
            options["top_p"] = float(stated["top_p"])
        if "top_k" in defaults and stated["top_k"] is not None:
            options["top_k"] = int(stated["top_k"])
    return options


class Engine:
    """Inference engine with one model.

    Args:
        qa: the model and its compression.
        record: store of the responses, earlier ones included.
        batch_size: questions that go through the model together.
        convention: of the family, for generation and the end of an answer.

    Attributes:
        fresh: responses that this process generated, in order, without those of the record.
    """

    def __init__(
        self,
        qa: VisualQA,
        record: ResponseStore,
        batch_size: int = 1,
        convention: Convention = Convention(),  # noqa: B008  (nothing in it changes)
    ) -> None:
        self.qa, self.record, self.batch_size, self.convention = qa, record, batch_size, convention
        self.fresh: list[Response] = []
        self._parent = os.getppid()

    def answer(
        self, requests: Sequence[LmmsRequest], on_done: Callable[[int], object] = lambda count: None
    ) -> list[Response]:
        """Answer requests.

        Batches are formed from all requests in order, answered ones included, so that a resumed run has the batches of
        an uninterrupted one. Sampled answers are generated one at a time, each with a seed of its own.

        Args:
            requests: in the harness's order.
            on_done: called with the number of requests just finished.

        Returns:
            One response per request, in order.
        """
        responses: list[Response] = []
        for batch in self._batches(requests):
            self._check_parent()
            recorded = [self.recorded(request) for request in batch]
            if None in recorded:
                fresh = self.answer_batch(batch)
                self.keep([new for new, old in zip(fresh, recorded, strict=True) if old is None])
                recorded = [old or new for old, new in zip(recorded, fresh, strict=True)]
            responses += [response for response in recorded if response is not None]
            on_done(len(batch))
        return responses

    def recorded(self, request: LmmsRequest) -> Response | None:
        """Recorded response of a request with the same prompt; None otherwise."""
        response = self.record.get(request.id)
        return response if response is not None and response.prompt == request.digest else None

    def keep(self, responses: Sequence[Response]) -> None:
        """Record new responses."""
        self.fresh += responses
        self.record.add(responses)
        for response in responses:
            if response.error is not None:
                logger.warning("%s has no answer: %s", response.id, response.error)

    def _batches(self, requests: Sequence[LmmsRequest]) -> Iterator[list[LmmsRequest]]:
        def alike(request: LmmsRequest) -> str:
            return repr(sorted(self.options(request).items()))

        for _, group in groupby(requests, key=alike):
            members = list(group)
            sampled = self.options(members[0])["do_sample"]
            size = 1 if sampled else self.batch_size
            for start in range(0, len(members), size):
                yield members[start : start + size]

    def answer_batch(self, batch: Sequence[LmmsRequest]) -> list[Response]:
        """Answer a batch; if it fails as a whole, each request is answered alone, so that only broken ones fail."""
        clock = self.qa.pipeline.clock()
        opened, failed = self.open(batch)
        try:
            answered = self._generate(opened, clock) if opened else {}
        except VidcompressError as error:
            if len(batch) == 1:
                return [failed_response(batch[0], error)]
            return [response for request in batch for response in self.answer_batch([request])]
        return [answered.get(request.id) or failed[request.id] for request in batch]

    def open(self, batch: Sequence[LmmsRequest]) -> tuple[list[Opened], dict[str, Response]]:
        """Make the questions and open their media, each on its own.

        Returns:
            The opened requests, and failed responses of the others by id.
        """
        opened: list[Opened] = []
        failed: dict[str, Response] = {}
        for request in batch:
            try:
                prompt = request.prompt()
                opened.append((request, prompt, prompt.open()))
            except (Exception, SystemExit) as error:  # noqa: BLE001  (tasks open media with any library, some exit)
                failed[request.id] = failed_response(request, error)
        return opened, failed

    def _generate(self, opened: Sequence[Opened], clock: Phases) -> dict[str, Response]:
        pipeline, generation = self.qa.pipeline, self.options(opened[0][0])
        pipeline.check(generation)
        questions, media = [prompt for _, prompt, _ in opened], [entry for _, _, entry in opened]
        batch = pipeline.preprocess(questions, media, clock=clock)
        lengths = batch.inputs["attention_mask"].sum(dim=1).tolist()
        with torch.random.fork_rng(enabled=generation["do_sample"]):
            if generation["do_sample"]:
                torch.manual_seed(zlib.crc32(opened[0][0].id.encode()))
            answers = pipeline.answer(batch, generation)
        return {
            request.id: self.response(request, answer, length)
            for (request, _, _), answer, length in zip(opened, answers, lengths, strict=True)
        }

    def options(self, request: LmmsRequest) -> dict[str, Any]:
        """Arguments of `generate` for a request."""
        eos = getattr(self.qa.processor.tokenizer, "eos_token_id", None)
        return generation_options(request.generation, eos, self.convention.generation)

    def response(self, request: LmmsRequest, answer: Answer, prompt_length: int) -> Response:
        """Response of an answer; `prompt_length` is that of the uncompressed prompt, in tokens."""
        report = answer.report
        return Response(
            request.id,
            self.convention.finished(answer.text),
            request.digest,
            kept=report.mean_kept,
            budget=report.mean_budget,
            total=report.total,
            input_tokens=prompt_length - report.total + report.kept,
            output_tokens=answer.new_tokens,
            timing_ms={phase: round(ms, 3) for phase, ms in answer.timing_ms.items()},
            batch_size=answer.batch_size,
        )

    def _check_parent(self) -> None:
        """Exit when the launcher was killed: a second run must not find this one still writing."""
        if os.environ.get(LAUNCHED) and os.getppid() != self._parent:
            raise SystemExit("the process that started this run is gone")


def failed_response(request: LmmsRequest, error: BaseException) -> Response:
    """Response of a request that cannot be answered."""
    return Response(request.id, "", request.digest, error=one_line(error))

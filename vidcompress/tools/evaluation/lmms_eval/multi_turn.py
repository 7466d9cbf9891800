"""Multi-turn requests over the same media, and likelihoods of given answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vidcompress.errors import UnsupportedInputError, VidcompressError
from vidcompress.media.preprocessing.placeholders import tokenize, without_second_start
from vidcompress.qa.chat import Chat
from vidcompress.session.prompt import PER_TOKEN_KEYS
from vidcompress.tools.evaluation.lmms_eval.engine import Engine, LmmsRequest, failed_response
from vidcompress.tools.evaluation.lmms_eval.record import Response
from vidcompress.tools.evaluation.lmms_eval.requests import RequestPrompt

NextTurn = Callable[[list[str]], "RequestPrompt | None"]
"""Function from the answers so far to the prompt of the next turn, or None at the end."""


def answer_turns(engine: Engine, request: LmmsRequest, next_turn: NextTurn) -> Response:
    """Answer a multi-turn request; media are encoded and compressed once while they stay the same.

    The only history of a turn is the text that the task writes into its prompt, as in lmms-eval's own models.

    Args:
        engine: inference engine.
        request: the first turn.
        next_turn: makes each further one.

    Returns:
        A response whose answer is the list of the turns' answers; counts and times are those of the first turn.
    """
    response = engine.recorded(request)
    if response is not None:
        return response
    said: list[str] = []
    first: Response | None = None
    conversation = _Conversation(engine)
    try:
        prompt: RequestPrompt | None = request.prompt()
        while prompt is not None:
            response = conversation.answer(request, prompt)
            said.append(response.answer)
            first = first or response
            prompt = next_turn(list(said))
    except (Exception, SystemExit) as error:  # noqa: BLE001  (tasks open media with any library, some exit)
        first = replace(failed_response(request, error), kept=first.kept if first else 0)
        said = said or [""]
    assert first is not None  # noqa: S101  (for the type checker)
    whole = replace(first, answer=said)
    engine.keep([whole])
    return whole


class _Conversation:
    """Turns over one compressed cache while the media are the same; a new cache where they change."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._media: tuple[Any, ...] | None = None
        self._chat: Chat | None = None

    def answer(self, request: LmmsRequest, prompt: RequestPrompt) -> Response:
        engine = self._engine
        options = engine.options(request)
        if not self._can_chat(prompt, options):
            response = engine.answer_batch([replace(request, prompt=lambda: prompt)])[0]
            if response.error is not None:
                raise UnsupportedInputError(response.error)
            return response
        media = (*map(_identity, prompt.images), _identity(prompt.video))
        if self._chat is None or media != self._media:
            self._chat, self._media = Chat(engine.qa.pipeline, prompt, history=False), media
        beams = {name: value for name, value in options.items() if name != "num_beams"}
        answer = self._chat.ask(prompt.text, **beams)
        return engine.response(request, answer, answer.report.total)

    def _can_chat(self, prompt: RequestPrompt, options: dict[str, Any]) -> bool:
        qa = self._engine.qa
        inside = qa.config.method.inside
        plain = not (prompt.turns or prompt.placed) and (prompt.images or prompt.video is not None)
        return bool(plain) and inside is None and options["num_beams"] == 1 and not options["do_sample"]


def _identity(medium: Any) -> Any:
    """Identity of a medium: its path, or the pixels of a picture."""
    if hasattr(medium, "tobytes"):
        return medium.size, medium.mode, hash(medium.tobytes())
    return medium


def likelihoods(
    engine: Engine, requests: Sequence[LmmsRequest], continuations: Sequence[Callable[[], str]]
) -> list[Response]:
    """Return the mean loss of given answers in nats per token under the compressed prompt, and whether each is greedy.

    The prompt is compressed without its answer, so that a method that reads the question does not read the answer.
    Equal prompts in a row are compressed once.

    Args:
        engine: with model and record.
        requests: the prompts.
        continuations: functions that make the text of each answer.

    Returns:
        Responses whose answer is [loss, greedy]; [1e9, False] where there is an error.
    """
    last: tuple[str, tuple[RequestPrompt, str, Any]] | None = None
    responses = []
    for request, continuation in zip(requests, continuations, strict=True):
        response = engine.recorded(request)
        if response is None:
            try:
                if last is None or last[0] != request.digest:
                    last = request.digest, _compressed(engine, request)
                prompt, note, compressed = last[1]
                response = _scored(engine, request, prompt.messages(note), compressed, continuation())
            except VidcompressError as error:
                response = replace(failed_response(request, error), answer=[1e9, False])
            engine.keep([response])
        responses.append(response)
    return responses


def _compressed(engine: Engine, request: LmmsRequest) -> tuple[RequestPrompt, str, Any]:
    pipeline = engine.qa.pipeline
    method = pipeline.config.method
    if method.inside is not None:
        raise UnsupportedInputError(
            f"method={method.name!r} prunes inside the language model by what it attends to, which a given "
            "answer would change; use a method before the language model, or a task that generates"
        )
    opened, failed = engine.open([request])
    if not opened:
        raise VidcompressError(failed[request.id].error)
    ((_, prompt, media),) = opened
    batch = pipeline.preprocess([prompt], [media])
    return prompt, pipeline.clip_note(prompt, media[1]), pipeline.compress(batch)


def _scored(
    engine: Engine, request: LmmsRequest, messages: list[dict[str, Any]], compressed: Any, text: str
) -> Response:
    answer = _answer_ids(engine.qa.processor, messages, text).to(compressed["input_ids"].device)
    ids = torch.cat((compressed["input_ids"], answer), dim=1)
    later = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    after = torch.arange(1, answer.shape[1] + 1, device=answer.device)
    for key in PER_TOKEN_KEYS:
        if key in compressed:
            head = compressed[key]
            tail = head[..., -1:] + after if key == "position_ids" else head.new_zeros(answer.shape)
            later[key] = torch.cat((head, tail.to(head)), dim=-1)
    call = compressed.continued(later, encoded=True)
    with call.pruning(), torch.no_grad():
        logits = engine.qa.model(**call).logits[0, -answer.shape[1] - 1 : -1].float()
    loss = torch.nn.functional.cross_entropy(logits, answer[0])
    greedy = bool((logits.argmax(dim=-1) == answer[0]).all())
    report = compressed.report
    return Response(
        request.id,
        [float(loss), greedy],
        request.digest,
        kept=report.kept,
        budget=report.budget,
        total=report.total,
        input_tokens=int(compressed["input_ids"].shape[1]),
        output_tokens=int(answer.shape[1]),
    )


def _answer_ids(processor: Any, messages: list[dict[str, Any]], text: str) -> Tensor:
    """(1, token) ids of an answer as the chat template writes it behind the prompt, end included."""
    if not text.strip():
        raise UnsupportedInputError("the answer whose likelihood is asked for is empty")
    said = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    asked = processor.apply_chat_template(messages)
    whole = processor.apply_chat_template([*messages, said], add_generation_prompt=False)
    texts = [without_second_start(entry, processor.tokenizer) for entry in (asked, whole)]
    before, after = (row["input_ids"] for row in tokenize(processor.tokenizer, texts))
    ids = after[len(before) :] if after[: len(before)] == before else []
    if not ids:  # a template that writes an answer in another form than its opening
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([ids])

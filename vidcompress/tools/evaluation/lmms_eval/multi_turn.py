"""Questions in several rounds about the same media, and likelihoods of given answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vidcompress.errors import UnsupportedInputError, VidcompressError
from vidcompress.media.preprocessing.placeholders import tokenize, without_second_start
from vidcompress.qa.chat import Chat
from vidcompress.qa.pipeline import clip_note, prepare
from vidcompress.session.compress import compress_inputs
from vidcompress.tools.evaluation.lmms_eval.engine import Ask, Engine, failure, outcome_of
from vidcompress.tools.evaluation.lmms_eval.record import Outcome
from vidcompress.tools.evaluation.lmms_eval.requests import Prompt

NextRound = Callable[[list[str]], "Prompt | None"]
"""Answers so far to the next round's question, or None at the end."""


def answer_rounds(engine: Engine, ask: Ask, following: NextRound) -> Outcome:
    """Answer a request of several rounds; the media are encoded and compressed once while they stay the same.

    A round sees the rounds before it only through what the task writes into its prompt, as in lmms-eval's own models.

    Args:
        engine: what answers.
        ask: the first round.
        following: makes each further one.

    Returns:
        An outcome whose answer is the list of the rounds' answers; counts and times are those of the first.
    """
    known = engine.known(ask)
    if known is not None:
        return known
    said: list[str] = []
    first: Outcome | None = None
    conversation = _Conversation(engine)
    try:
        prompt: Prompt | None = ask.prompt()
        while prompt is not None:
            outcome = conversation.ask(ask, prompt)
            said.append(outcome.answer)
            first = first or outcome
            prompt = following(list(said))
    except (Exception, SystemExit) as error:  # noqa: BLE001  (tasks open media with any library, some exit)
        first = replace(failure(ask, error), kept=first.kept if first else 0)
        said = said or [""]
    assert first is not None  # noqa: S101  (for the type checker)
    whole = replace(first, answer=said)
    engine.keep([whole])
    return whole


class _Conversation:
    """Rounds over one cache while the media are the same; a new one where they change."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._media: tuple[Any, ...] | None = None
        self._chat: Chat | None = None

    def ask(self, ask: Ask, prompt: Prompt) -> Outcome:
        engine = self._engine
        options = engine.options(ask)
        if not self._can_chat(prompt, options):
            made = engine.answer_batch([replace(ask, prompt=lambda: prompt)])[0]
            if made.error is not None:
                raise UnsupportedInputError(made.error)
            return made
        media = (*map(_identity, prompt.images), _identity(prompt.video))
        if self._chat is None or media != self._media:
            self._chat, self._media = Chat(engine.qa, prompt, history=False), media
        beams = {name: value for name, value in options.items() if name != "num_beams"}
        answer = self._chat.ask(prompt.text, **beams)
        return outcome_of(ask, answer, answer.report.total)

    def _can_chat(self, prompt: Prompt, options: dict[str, Any]) -> bool:
        qa = self._engine.qa
        inside = qa.config.method.inside
        plain = not (prompt.turns or prompt.placed) and (prompt.images or prompt.video is not None)
        return bool(plain) and inside is None and options["num_beams"] == 1 and not options["do_sample"]


def _identity(medium: Any) -> Any:
    """Equal for a medium that is given again: the path, or the pixels of a picture."""
    if hasattr(medium, "tobytes"):
        return medium.size, medium.mode, hash(medium.tobytes())
    return medium


def likelihoods(
    engine: Engine, asks: Sequence[Ask], continuations: Sequence[Callable[[], str]]
) -> list[Outcome]:
    """Mean loss of given answers under the compressed prompt, in nats per token, and whether each is the greedy one.

    The prompt is compressed without its answer, so that a method that reads the question does not read that; prompts
    that follow one another and are the same are compressed once.

    Args:
        engine: what holds model and record.
        asks: the prompts.
        continuations: makes the text of the answer to each.

    Returns:
        Outcomes whose answer is [loss, greedy]; [1e9, False] where there is an error.
    """
    last: tuple[str, tuple[Prompt, str, Any]] | None = None
    outcomes = []
    for ask, continuation in zip(asks, continuations, strict=True):
        known = engine.known(ask)
        if known is None:
            try:
                if last is None or last[0] != ask.digest:
                    last = ask.digest, _compressed(engine, ask)
                prompt, note, compressed = last[1]
                known = _scored(engine, ask, prompt.messages(note), compressed, continuation())
            except VidcompressError as error:
                known = replace(failure(ask, error), answer=[1e9, False])
            engine.keep([known])
        outcomes.append(known)
    return outcomes


def _compressed(engine: Engine, ask: Ask) -> tuple[Prompt, str, Any]:
    qa = engine.qa
    method = qa.config.method
    if method.inside is not None:
        raise UnsupportedInputError(
            f"method={method.name!r} prunes inside the language model by what it attends to, which a given "
            "answer would change; use a method before the language model, or a task that generates"
        )
    opened, failed = engine.open([ask])
    if not opened:
        raise VidcompressError(failed[ask.id].error)
    ((_, prompt, media),) = opened
    inputs = prepare(qa.model, qa.processor, [prompt], [media], time_instruction=qa.time_instruction)
    note = clip_note(qa.processor.family, prompt, media[1]) if qa.time_instruction else ""
    return prompt, note, compress_inputs(qa.model, inputs, config=qa.config)


def _scored(engine: Engine, ask: Ask, messages: list[dict[str, Any]], compressed: Any, text: str) -> Outcome:
    answer = _answer_ids(engine.qa.processor, messages, text).to(compressed["input_ids"].device)
    call = {**compressed, "input_ids": torch.cat((compressed["input_ids"], answer), dim=1)}
    call["attention_mask"] = torch.ones_like(call["input_ids"])
    if "position_ids" in call:
        after = torch.arange(1, answer.shape[1] + 1, device=answer.device)
        places = call["position_ids"]
        call["position_ids"] = torch.cat((places, places[:, -1:] + after), dim=1)
    with torch.no_grad():
        logits = engine.qa.model(**call).logits[0, -answer.shape[1] - 1 : -1].float()
    loss = torch.nn.functional.cross_entropy(logits, answer[0])
    greedy = bool((logits.argmax(dim=-1) == answer[0]).all())
    report = compressed.report
    return Outcome(
        ask.id,
        [float(loss), greedy],
        ask.digest,
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
    if not ids:  # a template that writes answers otherwise than it opens them
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([ids])

"""Many questions about the same pictures or clip: encoded and compressed once, answered over one key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from threading import Lock
from typing import Any, Unpack

import torch
from torch import Tensor

from vidcompress.checks import flag, unicode_text, whole_number
from vidcompress.errors import ArgumentError, shown
from vidcompress.llm_pruning.cache_names import CACHE_NAMES, cache_name, returned_cache
from vidcompress.loading.arguments import GenerateOptions
from vidcompress.media.preprocessing.placeholders import tokenize
from vidcompress.media.preprocessing.processor import with_known_tokens
from vidcompress.qa.answer import Answer
from vidcompress.qa.pipeline import Pipeline, PreparedBatch
from vidcompress.qa.question import Media, Question
from vidcompress.qa.streaming import check_streamable, stream_text
from vidcompress.session.generation_options import option
from vidcompress.session.inputs import CompressedInputs
from vidcompress.session.kv_cache import Transcript, open_transcript, resume
from vidcompress.session.view_text import text_finder

_FIXED = {"num_beams": 1, "num_return_sequences": 1, "use_cache": True, "cache_implementation": None}
_OURS = (*CACHE_NAMES, "return_dict_in_generate")
_SPECULATIVE = ("prompt_lookup_num_tokens", "assistant_model")
"""Options that stock transformers gets wrong over a filled cache, silently."""


class Chat:
    """Conversation about pictures, a clip, both or nothing; made by `VisualQA.chat`.

    The first question encodes and compresses the media. Later ones continue from the key-value cache: only new text
    runs through the language model, and the answer equals that of a run from the beginning. A method that
    reads the question reads the first one; one that prunes inside the language model is refused. Calls from several
    threads wait for each other.

    Args:
        pipeline: of the model, with its compression.
        media: a question whose pictures and clip the conversation is about; its text is not used.
        history: whether a question sees the earlier questions and answers; otherwise each is answered as if it were
            the first.

    Attributes:
        answers: the answers so far, in order; a streamed one is added when its stream has ended.
    """

    def __init__(self, pipeline: Pipeline, media: Question, *, history: bool = True) -> None:
        flag("history", history)
        method = pipeline.config.method
        if method.inside is not None:
            raise ArgumentError(
                f"method={method.name!r}: a chat keeps one cache for all questions, which this method prunes by the "
                "first; use a method before the language model, as in qa.using(method='globalcom2').chat(...)"
            )
        self.answers: list[Answer] = []
        self._pipeline, self._media, self._history = pipeline, media, history
        self._lock = Lock()
        self._first: CompressedInputs | None = None
        self._transcript: Transcript | None = None
        self._cache: Any = None
        self._head = torch.zeros((1, 0), dtype=torch.int64)
        self._begun: tuple[list[int], list[int]] = ([], [])
        self._texts: Callable[[Tensor], Any] | None = None
        self._begun_texts: Any = None
        self._opened: Media = ([], None)

    def ask(self, question: str, *, max_new_tokens: int = 64, **generate: Unpack[GenerateOptions]) -> Answer:
        """Answer the next question.

        Args:
            question: the text.
            max_new_tokens: longest answer, in tokens, at least 1.
            **generate: further arguments of the model's `generate`; no beams, and the cache stays on.

        Raises:
            ArgumentError: an argument that is not allowed. MediaError: a picture or clip cannot be read. After an error
            the conversation is unchanged.
        """
        if not isinstance(question, str) or not question.strip():
            raise ArgumentError(f"question={shown(question)}: must be a text that is not empty")
        unicode_text("question", question)
        whole_number("max_new_tokens", max_new_tokens)
        self._check(generate)
        with self._lock:
            self._pipeline.check(generate)
            return self._turn(question, {"do_sample": False, **generate, "max_new_tokens": max_new_tokens})

    def stream(
        self, question: str, *, max_new_tokens: int = 64, **generate: Unpack[GenerateOptions]
    ) -> Iterator[str]:
        """Answer the next question piece by piece, as `VisualQA.stream` does.

        Leaving the loop early ends the answer there; its text so far stays in the conversation.

        Raises:
            ArgumentError: an argument is not allowed, some at once, others by the loop.
        """
        check_streamable(generate)

        def run(**extra: Any) -> None:
            self.ask(question, max_new_tokens=max_new_tokens, **{**generate, **extra})

        return stream_text(self._pipeline.processor.tokenizer, run)

    def reset(self) -> None:
        """Forget the questions and answers, but not the media: their compressed tokens are used again."""
        with self._lock:
            self.answers.clear()

    def __repr__(self) -> str:
        clips = int(self._media.video is not None)
        return (
            f"Chat({len(self._media.images)} images, {clips} clips, {len(self.answers)} answers, "
            f"history={self._history}, {self._pipeline.config!r})"
        )

    def _check(self, generate: Mapping[str, Any]) -> None:
        for name in _OURS:
            if generate.get(name) is not None:
                raise ArgumentError(
                    f"{name}={shown(generate[name])}: a chat keeps its own cache; leave it out"
                )
        for name in _SPECULATIVE:
            value = option(name, generate.get("generation_config"), generate, self._pipeline.model)
            if value is not None:
                raise ArgumentError(
                    f"{name}={shown(value)}: a chat goes on from a filled cache, which transformers gets wrong with "
                    "it; leave it out"
                )
        for name, allowed in _FIXED.items():
            value = option(name, generate.get("generation_config"), generate, self._pipeline.model)
            if value not in (None, allowed):
                raise ArgumentError(
                    f"{name}={shown(value)}: a chat goes on from one row of a growing cache, only with {allowed!r}; "
                    "use ask of VisualQA for one answer of another kind"
                )

    def _turn(self, text: str, generation: dict[str, Any]) -> Answer:
        question, pipeline = replace(self._media, text=text), self._pipeline
        question.check_text(pipeline.processor)
        batch, ids = self._begin(question) if self._first is None else self._go_on(question)
        try:
            made = pipeline.generate(batch, batch.inputs, {**generation, "return_dict_in_generate": True})
        except BaseException:
            self._cache = (
                None  # its layers may hold different numbers of tokens; the features are still there
            )
            raise
        assert self._transcript is not None and self._first is not None  # noqa: S101  (for the type checker)
        self._transcript.sequences = torch.cat((ids, made.ids.to(ids.device)), dim=1)
        self._cache = returned_cache(made.output)
        (answer,) = pipeline.postprocess(batch, self._first.report, made)
        self.answers.append(answer)
        return answer

    def _begin(self, question: Question) -> tuple[PreparedBatch, Tensor]:
        """Open, encode and compress the media together with the first question."""
        with self._pipeline.preprocess([question], stream=True) as batch:
            first = self._pipeline.compress(batch)
        (self._opened,) = batch.media
        self._cache = None
        whole = open_transcript(batch.inputs, batch.inputs.get("attention_mask"), first, self._placeholders)
        if first.report.view_text_dropped:
            self._texts = text_finder(self._pipeline.adapter, batch.inputs)
            self._begun_texts = self._texts(whole.sequences[0].cpu())
        self._begun = self._split(self._prompt(question.text, []))
        self._head = _head(whole.sequences, self._begun[1], self._pipeline.processor)
        self._first, self._transcript = first, whole.cut_behind_visuals()
        return replace(batch, inputs=first), whole.sequences

    def _go_on(self, question: Question) -> tuple[PreparedBatch, Tensor]:
        """Cut the cache back to the columns that the new prompt shares with it, and translate the prompt."""
        assert self._transcript is not None and self._first is not None  # noqa: S101  (for the type checker)
        transcript, clock = self._transcript, self._pipeline.clock()
        ids = self._ids(question.text).to(transcript.sequences.device)
        if self._texts is not None and self._texts(ids[0].cpu()) != self._begun_texts:
            # A tokenizer may merge the end of the line behind the last view with the first words of a question, which
            # changes the text that is dropped. Later prompts of a conversation share the beginning of the first.
            return self._begin(question)
        shared = _shared(ids, transcript.sequences)
        if self._cache is not None and shared < transcript.settled:
            self._cache = None
        cached = self._cut_cache(shared - transcript.shift)
        transcript.sequences = ids[:, : cached + transcript.shift]
        short = resume(transcript, {"input_ids": ids}, None, cached, caller_positions=False)
        clock.cut("preprocess")
        cache = {} if self._cache is None else {cache_name(): self._cache}
        later = self._first.continued({**short, **cache}, encoded=self._cache is None)
        return PreparedBatch([question], [self._opened], later, clock), ids

    def _cut_cache(self, columns: int) -> int:
        """Leave at most `columns` columns in the cache, or none where it cannot be cut. Returns the columns that the
        prompt shares: those left, or those of the visual tokens, which are there as features."""
        if self._cache is not None:
            surplus = self._cache.get_seq_length() - columns
            try:
                if surplus > 0:
                    self._cache.crop(-surplus)
            except RuntimeError:  # a sliding window that has moved on
                self._cache = None
        assert self._transcript is not None  # noqa: S101  (for the type checker)
        if self._cache is None:
            return int(self._transcript.short["input_ids"].shape[1])
        return int(self._cache.get_seq_length())

    def _ids(self, text: str) -> Tensor:
        """Return (1, column) ids of the whole conversation up to the new question, placeholders written out.

        Up to its last picture or clip every prompt equals that of the first question, whose ids are reused.
        """
        before = self.answers if self._history else []
        opening, rest = self._split(self._prompt(text, before))
        if opening != self._begun[0]:
            raise ArgumentError(
                "the chat template writes another text before the media than for the first question, so the cache "
                "does not fit; ask with VisualQA.ask, or take another template"
            )
        return torch.cat((self._head, torch.tensor([rest], dtype=self._head.dtype)), dim=1)

    @property
    def _placeholders(self) -> tuple[int | None, ...]:
        adapter = self._pipeline.adapter
        return adapter.image_token_id, adapter.video_token_id

    def _split(self, prompt: str) -> tuple[list[int], list[int]]:
        """Split the ids of a prompt into those up to its last placeholder, and those behind."""
        processor = self._pipeline.processor
        (row,) = tokenize(processor.tokenizer, [with_known_tokens(processor, prompt)])
        ids = row["input_ids"]
        behind = max(
            (place for place, token in enumerate(ids, start=1) if token in self._placeholders), default=0
        )
        return ids[:behind], ids[behind:]

    def _prompt(self, text: str, before: list[Answer]) -> str:
        """Return the prompt of a conversation up to the new question, with one placeholder per picture and clip."""
        processor = self._pipeline.processor
        texts = [*(answer.question for answer in before), text]
        first = replace(self._media, text=texts[0])
        messages = first.messages(self._pipeline.clip_note(first, self._opened[1]))
        for answer, following in zip(before, texts[1:], strict=True):
            said = answer.text
            for token in filter(None, (processor.image_token, processor.video_token)):
                said = said.replace(token, "")  # else it would stand for a picture in the next prompt
            messages.append({"role": "assistant", "content": [{"type": "text", "text": said}]})
            messages.append({"role": "user", "content": [{"type": "text", "text": following}]})
        return self._pipeline.prompt(messages)


def _head(sequences: Tensor, rest: list[int], processor: Any) -> Tensor:
    """Return (1, column) ids of a prompt up to the end of its last picture or clip: all but the rest.

    Args:
        sequences: (1, column) ids of the prompt.
        rest: ids behind the last placeholder.
        processor: of the prompt, for the message.

    Raises:
        ArgumentError: the prompt does not end with the rest.
    """
    if rest and sequences[0, -len(rest) :].tolist() != rest:
        raise ArgumentError(
            f"processor={shown(processor)}: a chat finds its place behind the last picture or clip, and this one's "
            "input_ids do not end with the ids of the text that its chat template writes there; pass "
            "processor=vidcompress.load_processor(model) to VisualQA, or ask with VisualQA.ask"
        )
    return sequences[:, : sequences.shape[1] - len(rest)].cpu()


def _shared(ids: Tensor, known: Tensor) -> int:
    """Count the leading columns that two (1, column) prompts share, at least one short of the new prompt."""
    width = min(ids.shape[1] - 1, known.shape[1])
    differs = (ids[0, :width] != known[0, :width]).nonzero()
    return int(differs[0]) if len(differs) else width

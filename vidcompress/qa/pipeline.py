"""Pipeline from questions to answers: preprocess, compress, generate, postprocess, with every step timed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter, adapter_for
from vidcompress.core.config import CompressionConfig
from vidcompress.core.devices import input_device, place
from vidcompress.core.report import Report
from vidcompress.core.timing import FirstToken, Phases
from vidcompress.errors import ArgumentError, VidcompressError, one_line, shown
from vidcompress.loading.arguments import check_generation
from vidcompress.media import VideoFrames, read_video
from vidcompress.media.files import is_path
from vidcompress.media.images.image import NOTE
from vidcompress.media.preprocessing.placeholders import without_second_start
from vidcompress.media.video.frames import FileFrames, Reread
from vidcompress.media.video.streaming import StreamingClip
from vidcompress.qa.answer import Answer
from vidcompress.qa.prefetch import ahead
from vidcompress.qa.question import Media, Question
from vidcompress.session.compress import compress_with
from vidcompress.session.inputs import CompressedInputs

logger = logging.getLogger(__name__)

ANSWER_BYTES = 64 * 1024**2
"""Most memory of the frames of a clip file that an answer holds."""

_OURS = ("max_new_tokens", "pad_token_id", "logits_processor", "streamer", "stopping_criteria")


@dataclass
class PreparedBatch:
    """Batch of questions as model inputs. As a `with` block it ends the decoding of a streaming clip.

    Attributes:
        questions: at least one.
        media: PIL images and sampled clip of each question.
        inputs: output of the processor, left-padded, on the model's device, pixels in its dtype.
        clock: stopwatch of the batch, cut at the end of every step.
        light: whether answers leave out the frames of clip files, which are then read again when they are looked at.
    """

    questions: Sequence[Question]
    media: Sequence[Media]
    inputs: Any
    clock: Phases
    light: bool = False

    @property
    def streaming(self) -> StreamingClip | None:
        """The clip that is still being decoded: of a batch of one question."""
        clip = self.media[0][1]
        return clip if isinstance(clip, StreamingClip) else None

    def __enter__(self) -> PreparedBatch:
        return self

    def __exit__(self, *error: object) -> None:
        if self.streaming is not None:
            self.streaming.close()


class Generated(NamedTuple):
    """Result of the model's `generate`.

    Attributes:
        output: its result: ids (row, column), or an output object of transformers with `sequences`.
        ids: (question, token) ids after the prompt; the first of several sequences per question.
        pad: id that fills rows which ended early.
    """

    output: Any
    ids: Tensor
    pad: int


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Pipeline of one model and one compression.

    Attributes:
        model: a transformers vision-language model of a family that an adapter serves.
        processor: a `MediaProcessor`.
        config: how to compress.
        sampling: arguments of `read_video` beyond the source.
        time_instruction: put the family's line about a clip's times before questions about clips.
    """

    model: Any
    processor: Any
    config: CompressionConfig
    sampling: Mapping[str, Any] = field(default_factory=dict)
    time_instruction: bool = True

    @cached_property
    def adapter(self) -> Adapter:
        """Adapter of the model."""
        return adapter_for(self.model)

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that `generate` does not know, before anything is opened or encoded.

        Args:
            options: of the model's `generate`, from the caller.

        Raises:
            ArgumentError: an unknown option, or there is no model or no processor.
        """
        for name in ("model", "processor"):
            if getattr(self, name) is None:
                raise ArgumentError(
                    f"{name}=None: nothing to answer with; use VisualQA.from_pretrained, or pass a {name}"
                )
        if options:
            check_generation(self.model, options)

    def __call__(self, question: Question, generation: Mapping[str, Any]) -> Answer:
        """Answer one question; a clip is decoded while it is encoded, where the family can.

        Args:
            question: with its media.
            generation: arguments of the model's `generate`.
        """
        with self.preprocess([question], stream=True) as batch:
            return self.answer(batch, generation)[0]

    def answer_batches(
        self, batches: Sequence[Sequence[Question]], generation: Mapping[str, Any]
    ) -> Iterator[list[Answer]]:
        """Answer batch after batch; a thread reads and preprocesses the media of the next batch meanwhile.

        With several batches, `decode` and `preprocess` are the thread's own times.

        Args:
            batches: lists of questions, at least one each; text only, pictures, clips, in any mixture that the model
                takes.
            generation: arguments of the model's `generate`.

        Yields:
            The answers of a batch, one per question, in order.
        """
        device = input_device(self.model)
        threaded = len(batches) > 1

        def prepare(questions: Sequence[Question]) -> PreparedBatch:
            return self.preprocess(questions, clock=Phases("cpu" if threaded else device))

        for batch in ahead(prepare, batches, device, lambda batch: batch.inputs):
            if threaded:
                batch.clock.resume(device)
            batch.light = True
            yield self.answer(batch, generation)

    def answer(self, batch: PreparedBatch, generation: Mapping[str, Any]) -> list[Answer]:
        """Compress, generate and postprocess a prepared batch.

        A batch without a streaming clip may be answered again, with a new clock: `replace(batch, clock=...)`.
        """
        compressed = self.compress(batch)
        return self.postprocess(batch, compressed.report, self.generate(batch, compressed, generation))

    def clock(self) -> Phases:
        """Return a new stopwatch on the model's device."""
        return Phases(input_device(self.model))

    def preprocess(
        self,
        questions: Sequence[Question],
        media: Sequence[Media] | None = None,
        *,
        clock: Phases | None = None,
        stream: bool = False,
        decode_all: bool = False,
    ) -> PreparedBatch:
        """Read the media of a batch and make model inputs of them; `decode` and `preprocess` are cut.

        Args:
            questions: at least one.
            media: of each question, where they are opened already.
            clock: stopwatch that was started before that; None starts one.
            stream: read only the first frame of the clip of a single question; the others are decoded and preprocessed
                in a thread, while `compress` encodes. The result is the same to the bit. `decode` is then the time
                spent waiting for frames. Families whose adapter takes whole clips read them here.
            decode_all: the packets of its clip mislead: read the clip whole, or with `hold` from its start.

        Raises:
            ArgumentError: a question holds placeholders. MediaError: a picture or clip cannot be read.
        """
        clock = clock or self.clock()
        for question in questions:
            question.check_text(self.processor)
        if media is None:
            media = [self._open(question, stream, decode_all) for question in questions]
        clock.cut("decode")
        batch = PreparedBatch(questions, media, None, clock)
        with suppress(Reread), ExitStack() as closing:
            closing.enter_context(batch)
            batch.inputs = self._inputs(questions, media)
            closing.pop_all()
            clock.cut("preprocess")
            return batch
        return self.preprocess(questions, clock=clock, stream=self.passes, decode_all=True)

    @property
    def passes(self) -> bool:
        """Whether clips pass through memory chunk by chunk."""
        family = self.processor.family
        return self.config.hold is not None and self.adapter.reads_ahead and not (family and family.tiles)

    def _open(self, question: Question, stream: bool, decode_all: bool) -> Media:
        """Open the media of a question. A clip with misleading packets from its first frame on is read whole."""
        sampling = {**self.sampling, "rule": self.processor.frame_rule}
        if stream and question.streams and self.adapter.reads_ahead:
            device, dtype, passes = input_device(self.model), self.model.dtype, self.passes
            for again in (decode_all, True) if passes else (False,):
                with suppress(Reread):
                    return question.start(device, dtype, held=not passes, decode_all=again, **sampling)
        return question.open(**sampling)

    def _inputs(self, questions: Sequence[Question], media: Sequence[Media]) -> Any:
        """Return the model inputs of a batch."""
        prompts = [
            self.prompt(question.messages(self.clip_note(question, clip)))
            for question, (_, clip) in zip(questions, media, strict=True)
        ]
        pictures = [images for images, _ in media]
        clips = [clip for _, clip in media if clip is not None]
        inputs = self.processor(
            text=prompts, images=pictures if any(pictures) else None, videos=clips or None
        )
        return type(inputs)(place(inputs, input_device(self.model), self.model.dtype))

    def prompt(self, messages: list[dict[str, Any]]) -> str:
        """Return the prompt of a conversation, up to the opening of the answer."""
        prompt = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        return without_second_start(prompt, self.processor.tokenizer)

    def clip_note(self, question: Question, clip: VideoFrames | None) -> str:
        """Return the line that the model's family reads before a question about a clip (LLaVA-Video: its frame times).

        Empty for frames without times of their own: a list or folder of pictures, an array.
        """
        if clip is None or not self.time_instruction:
            return ""
        family = self.processor.family
        if family is None or family.clip_note is None:
            return ""
        if clip.backend == "memory" and not isinstance(question.video, VideoFrames):
            return ""
        note: str = family.clip_note(clip.duration, clip.times)
        return note

    def compress(self, batch: PreparedBatch) -> CompressedInputs:
        """Encode and compress the visuals of a batch; `encode` and `compress` are cut.

        A streaming clip is whole and closed afterwards. The time that the encoder waited for its frames is `decode`.
        A clip with misleading packets is read again, and its first encoding counts as `decode` too.
        """
        if batch.streaming is None:
            return self._compress(batch)
        with suppress(Reread), batch.streaming as clip:
            compressed = self._compress(batch, clip)
            batch.media = [(batch.media[0][0], clip.whole())]
            batch.clock.cut("decode")
            return compressed
        with self.preprocess(
            batch.questions, clock=batch.clock, stream=self.passes, decode_all=True
        ) as again:
            compressed = self._compress(again, again.streaming)
            batch.media, batch.inputs = again.media, again.inputs
            if again.streaming is not None:
                batch.media = [(again.media[0][0], again.streaming.whole())]
        return compressed

    def _compress(self, batch: PreparedBatch, clip: StreamingClip | None = None) -> CompressedInputs:
        compressed = compress_with(self.adapter, batch.inputs, self.config)
        waited = clip.waited_ms if clip is not None else 0.0
        encoded = compressed.report.timing_ms.get("encode", 0.0)
        batch.clock.cut("compress", within={"decode": waited, "encode": encoded - waited})
        return compressed

    def generate(
        self, batch: PreparedBatch, inputs: Mapping[str, Any], generation: Mapping[str, Any]
    ) -> Generated:
        """Generate; the time to the first token is cut as `prefill`.

        Args:
            batch: of the questions; its clock is cut.
            inputs: from `compress`, or other inputs of the model's `generate`.
            generation: further arguments of it.

        Raises:
            ArgumentError: `generate` refuses `generation`.
        """
        first = FirstToken(batch.clock.device)
        settings = {"pad_token_id": _pad_token_id(self.processor.tokenizer), **generation}
        settings["logits_processor"] = [*(settings.get("logits_processor") or ()), first]
        block = inputs.pruning() if isinstance(inputs, CompressedInputs) else nullcontext()
        inside = getattr(inputs, "inside", None)
        if inside is not None and inside.mass is not None:
            settings.setdefault(
                "disable_compile", True
            )  # compiled steps might have been compiled without the hooks
        with block, torch.no_grad():
            output = self._generate(inputs, settings)
        batch.clock.cut("prefill", at=first.at)
        ids = _answer_ids(output, inputs["input_ids"].shape[1], len(batch.questions))
        return Generated(output, ids, settings["pad_token_id"])

    def _generate(self, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
        try:
            return self.model.generate(**inputs, **settings)
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            # transformers checks values such as num_beams=0 by itself or not at all, and fails in many ways.
            ours = (("do_sample", False), ("disable_compile", True))
            given = {k: v for k, v in settings.items() if k not in _OURS and (k, v) not in ours}
            if not given or isinstance(error, VidcompressError):
                raise
            raise ArgumentError(
                f"generate refuses {shown(given, 200)}: {one_line(error)}; see transformers' GenerationConfig"
            ) from error

    def postprocess(self, batch: PreparedBatch, report: Report, generated: Generated) -> list[Answer]:
        """Return the answers of a batch, one per question; `generate` is cut.

        Args:
            batch: of the questions.
            report: of the compression; its timings become those of the clock.
            generated: from `generate`.
        """
        texts = self.processor.batch_decode(generated.ids, skip_special_tokens=True)
        batch.clock.cut("generate")
        timing = report.timing_ms = batch.clock.with_total()
        if logger.isEnabledFor(logging.INFO):
            logger.info("answered %d questions in %.1f ms", len(texts), timing["total"])
            logger.debug("phases in ms: %s", timing)
        reports = self._reports(batch, report)
        return [
            Answer(
                text=text.strip(),
                question=question.text,
                report=own,
                timing_ms=timing,
                batch_size=len(texts),
                new_tokens=int((row != generated.pad).sum()),
                media=self._as_seen(question, *media, batch.light),
            )
            for question, media, own, text, row in zip(
                batch.questions, batch.media, reports, texts, generated.ids, strict=True
            )
        ]

    def _reports(self, batch: PreparedBatch, report: Report) -> list[Report]:
        """Return the reports of the questions, with frame times and with notes on their media and words."""
        reports = [report.for_row(number) for number in range(len(batch.questions))]
        for own, question, (pictures, clip) in zip(reports, batch.questions, batch.media, strict=True):
            for number, picture in enumerate(pictures):
                if NOTE in picture.info:
                    own.notes.append(f"image {number}: {picture.info[NOTE]}")
            if clip is not None:
                own.notes.extend(f"video: {note}" for note in clip.notes)
                _add_times(own, self.processor.view_times(clip))
            own.notes.extend((*question.notes, *_unknown_words(question, self.processor.tokenizer)))
        return reports

    def _as_seen(
        self, question: Question, pictures: list[Any], clip: VideoFrames | None, light: bool
    ) -> tuple[Any, ...]:
        """Return the pictures as the model got them, then the clip, for overlays."""
        alone = len(pictures) == 1
        seen = [self.processor.as_seen(picture, alone=alone) for picture in pictures]
        if clip is None:
            return tuple(seen)
        if is_path(question.video) and not isinstance(clip, FileFrames):
            if light or clip.frames.nbytes > ANSWER_BYTES:
                sampling = {**self.sampling, "rule": self.processor.frame_rule}
                clip = FileFrames(clip, partial(read_video, question.video, **sampling))
        return (*seen, clip)


def _unknown_words(question: Question, tokenizer: Any) -> list[str]:
    """Return a note where the tokenizer lacks words of the question, which is common with the embedded models."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    ids = tokenizer(question.text, add_special_tokens=False)["input_ids"]
    count = sum(token == unknown for token in ids) if unknown is not None else 0
    return [f"{count} of {len(ids)} words of the question are unknown to this model"] if count else []


def _answer_ids(output: Any, prompt_length: int, questions: int) -> Tensor:
    """Return (question, token) ids after the prompt; the first of several sequences per question."""
    sequences: Tensor = output if isinstance(output, Tensor) else output.sequences
    return sequences[:: sequences.shape[0] // questions, prompt_length:]


def _pad_token_id(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id
    return int(pad if pad is not None else tokenizer.eos_token_id or 0)


def _add_times(report: Report, times: Sequence[float]) -> None:
    """Put the times of a clip's views, in seconds, into the report of a question about it."""
    for visual in report.visuals:
        if visual.modality == "video" and len(visual.layout.views) == len(times):
            pairs = zip(visual.layout.views, times, strict=True)
            views = tuple(replace(view, time=time) for view, time in pairs)
            visual.layout = replace(visual.layout, views=views)

"""One batch of questions through decoding, encoding, selection and generation, with every step timed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.families import Family
from vidcompress.core.config import CompressionConfig
from vidcompress.core.devices import input_device, upload
from vidcompress.core.report import Report
from vidcompress.core.timing import FirstToken, Phases
from vidcompress.errors import ArgumentError, VidcompressError, one_line, shown
from vidcompress.loading.arguments import check_generation, check_present
from vidcompress.media import VideoFrames
from vidcompress.media.images.image import NOTE
from vidcompress.media.preprocessing.placeholders import without_second_start
from vidcompress.qa.answer import Answer
from vidcompress.qa.prefetch import ahead
from vidcompress.qa.question import Question
from vidcompress.session.compress import compress_with
from vidcompress.session.inputs import CompressedInputs

logger = logging.getLogger(__name__)

Media = tuple[list[Any], VideoFrames | None]
"""The opened PIL images of a question, and its sampled clip."""


class Ready(NamedTuple):
    """A batch that the model can go to work on: its questions, media, inputs and clock."""

    questions: list[Question]
    media: list[Media]
    inputs: Any
    phases: Phases


def answer_batches(
    model: Any,
    processor: Any,
    batches: Sequence[list[Question]],
    *,
    config: CompressionConfig,
    sampling: Mapping[str, Any],
    generation: Mapping[str, Any],
    time_instruction: bool = True,
) -> Iterator[list[Answer]]:
    """Answer batch after batch; the media of the next one are read and preprocessed in a thread meanwhile.

    Of several batches, `decode` and `preprocess` are the thread's own times.

    Args:
        model: a transformers vision-language model.
        processor: from `load_processor`.
        batches: lists of questions, at least one each; text only, pictures, clips, in any mixture that the model takes.
        config: how to compress.
        sampling: arguments of `read_video` beyond the source.
        generation: arguments of the model's `generate`.
        time_instruction: put the family's line about a clip's times before questions about clips.

    Yields:
        The answers of a batch, one per question, in order.
    """
    check_present(model, processor)
    check_generation(model, generation)
    device = input_device(model)

    def make(questions: list[Question]) -> Ready:
        phases = Phases(device if len(batches) == 1 else "cpu")
        media, inputs = open_and_prepare(
            model, processor, questions, sampling, phases, time_instruction=time_instruction
        )
        return Ready(questions, media, inputs, phases)

    for questions, media, inputs, phases in ahead(make, batches, device, lambda ready: ready.inputs):
        if len(batches) > 1:
            phases.resume(device)
        yield answer_prepared(
            model, processor, questions, media, inputs, phases, config=config, generation=generation
        )


def open_and_prepare(
    model: Any,
    processor: Any,
    questions: list[Question],
    sampling: Mapping[str, Any],
    phases: Phases,
    *,
    time_instruction: bool = True,
) -> tuple[list[Media], Any]:
    """Read the media of a batch and make model inputs of them, each timed as a phase.

    Args:
        model, processor, questions, sampling, time_instruction: as in `answer_batches`.
        phases: the clock; `decode` and `preprocess` are cut.

    Returns:
        What each question's `open` gave, and the inputs.
    """
    for question in questions:
        check_text(question.text, processor)
    media = [question.open(**sampling, rule=processor.frame_rule) for question in questions]
    phases.cut("decode")
    inputs = prepare(model, processor, questions, media, time_instruction=time_instruction)
    phases.cut("preprocess")
    return media, inputs


def answer_prepared(
    model: Any,
    processor: Any,
    questions: list[Question],
    media: list[Media],
    inputs: Any,
    phases: Phases,
    *,
    config: CompressionConfig,
    generation: Mapping[str, Any],
) -> list[Answer]:
    """What `answer_batches` does after `open_and_prepare`; it may be called again with what that returned.

    Args:
        model, processor, questions, config, generation: as in `answer_batches`.
        media, inputs: from `open_and_prepare`.
        phases: the clock, cut at the end of what was done so far.
    """
    compressed = compress(model, inputs, config, phases)
    return answer_compressed(model, processor, questions, media, compressed, phases, generation=generation)


def compress(
    model: Any, inputs: Mapping[str, Any], config: CompressionConfig, phases: Phases
) -> CompressedInputs:
    """Encode and compress the visuals of model inputs; `encode` and `compress` are cut."""
    compressed = compress_with(adapter_for(model), inputs, config)
    phases.cut("compress")
    phases.move(compressed.report.timing_ms.get("encode", 0.0), "compress", "encode")
    return compressed


def answer_compressed(
    model: Any,
    processor: Any,
    questions: list[Question],
    media: list[Media],
    compressed: CompressedInputs,
    phases: Phases,
    *,
    generation: Mapping[str, Any],
) -> list[Answer]:
    """What `answer_prepared` does after `compress`."""
    with compressed.pruning():
        out, pad = run_generate(model, processor, compressed, generation, phases)
    rows = _answer_ids(out, compressed["input_ids"].shape[1], len(questions))
    texts = processor.batch_decode(rows, skip_special_tokens=True)
    phases.cut("generate")
    timing = compressed.report.timing_ms = phases.with_total()
    if logger.isEnabledFor(logging.INFO):
        logger.info("answered %d questions in %.1f ms", len(questions), timing["total"])
        logger.debug("phases in ms: %s", timing)
    return [
        Answer(
            text=text.strip(),
            question=question.text,
            report=noted(
                with_media(compressed.report.for_row(number), pictures, clip, processor), question, processor
            ),
            timing_ms=timing,
            batch_size=len(questions),
            new_tokens=int((row != pad).sum()),
            media=as_seen(processor, pictures, clip),
        )
        for number, (question, (pictures, clip), text, row) in enumerate(
            zip(questions, media, texts, rows, strict=True)
        )
    ]


def run_generate(
    model: Any, processor: Any, inputs: Mapping[str, Any], generation: Mapping[str, Any], phases: Phases
) -> tuple[Any, int]:
    """Generate, with the time to the first token cut off as `prefill`.

    Returns:
        What `generate` returns, and the id that fills rows which ended early.
    """
    first = FirstToken(input_device(model))
    settings = {"pad_token_id": _pad_token_id(processor.tokenizer), **generation}
    settings["logits_processor"] = [*(settings.get("logits_processor") or ()), first]
    with torch.no_grad():
        out = _generate(model, inputs, settings)
    phases.cut("prefill", at=first.at)
    return out, settings["pad_token_id"]


def _generate(model: Any, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    try:
        return model.generate(**inputs, **settings)
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        # transformers checks values such as num_beams=0 by itself or not at all, and fails in many ways.
        given = {k: v for k, v in settings.items() if k not in _OURS and (k, v) != ("do_sample", False)}
        if not given or isinstance(error, VidcompressError):
            raise
        raise ArgumentError(
            f"generate refuses {shown(given, 200)}: {one_line(error)}; see transformers' GenerationConfig"
        ) from error


_OURS = ("max_new_tokens", "pad_token_id", "logits_processor", "streamer", "stopping_criteria")


def as_seen(processor: Any, pictures: list[Any], clip: VideoFrames | None) -> tuple[Any, ...]:
    """The pictures as the model got them, then the clip: what overlays are drawn over."""
    shown = (processor.as_seen(picture, alone=len(pictures) == 1) for picture in pictures)
    return (*shown, *([] if clip is None else [clip]))


def check_text(text: str, processor: Any) -> None:
    """Refuse a question that holds placeholders.

    Raises:
        ArgumentError: it does.
    """
    for token in filter(None, (processor.image_token, processor.video_token)):
        if token in text:
            raise ArgumentError(
                f"question={shown(text)} holds {token!r}, which stands for a picture or clip in a prompt; leave it out "
                "and pass image=, images= or video="
            )


def noted(report: Report, question: Question, processor: Any) -> Report:
    """Add the question's notes, and say so when the tokenizer lacks words of it, as the embedded models' do."""
    report.notes.extend(question.notes)
    unknown = getattr(processor.tokenizer, "unk_token_id", None)
    ids = processor.tokenizer(question.text, add_special_tokens=False)["input_ids"]
    count = sum(token == unknown for token in ids) if unknown is not None else 0
    if count:
        report.notes.append(f"{count} of {len(ids)} words of the question are unknown to this model")
    return report


def prepare(
    model: Any,
    processor: Any,
    questions: list[Question],
    media: list[Media],
    *,
    time_instruction: bool = True,
) -> Any:
    """Make the model inputs of a batch: left-padded, on the model's device, pixels in its dtype."""
    prompts = [
        processor.apply_chat_template(
            question.messages(clip_note(processor.family, question, clip) if time_instruction else ""),
            add_generation_prompt=True,
        )
        for question, (_, clip) in zip(questions, media, strict=True)
    ]
    pictures = [images for images, _ in media]
    clips = [clip for _, clip in media if clip is not None]
    inputs = processor(
        text=[without_second_start(prompt, processor.tokenizer) for prompt in prompts],
        images=pictures if any(pictures) else None,
        videos=clips or None,
    )
    device = input_device(model)
    return type(inputs)(
        {
            key: _placed(value, device, model.dtype if key.startswith("pixel_values") else None)
            for key, value in inputs.items()
        }
    )


def clip_note(family: Family | None, question: Question, clip: VideoFrames | None) -> str:
    """What the model's family reads before a question about a clip (LLaVA-Video: when its frames were taken).

    Nothing for frames without times of their own: a list or folder of pictures, an array.
    """
    if clip is None or family is None or family.clip_note is None:
        return ""
    if clip.backend == "memory" and not isinstance(question.video, VideoFrames):
        return ""
    return family.clip_note(clip.duration, clip.times)


def _placed(value: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """Move a tensor, or each of a list of tensors; pixels take the model's dtype too, times stay exact."""
    if isinstance(value, list):
        return [_placed(entry, device, dtype) for entry in value]
    if not isinstance(value, Tensor):  # the name of a preset
        return value
    value = upload(value, device)
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def _answer_ids(out: Any, prompt_length: int, questions: int) -> Tensor:
    """(question, token) ids after the prompt; the first one where several sequences come back per question."""
    sequences: Tensor = out if isinstance(out, Tensor) else out.sequences
    return sequences[:: sequences.shape[0] // questions, prompt_length:]


def _pad_token_id(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id
    return int(pad if pad is not None else tokenizer.eos_token_id or 0)


def with_media(report: Report, pictures: list[Any], clip: VideoFrames | None, processor: Any) -> Report:
    """Add the times of a clip's frames, and what there is to say about how the media were read."""
    for number, picture in enumerate(pictures):
        if NOTE in picture.info:
            report.notes.append(f"image {number}: {picture.info[NOTE]}")
    report.notes.extend(f"video: {note}" for note in (clip.notes if clip is not None else ()))
    return report if clip is None else _with_times(report, processor.view_times(clip))


def _with_times(report: Report, times: Sequence[float]) -> Report:
    """Put the times of a clip's views, in seconds, into the report of a question about it."""
    for visual in report.visuals:
        if visual.modality == "video" and len(visual.layout.views) == len(times):
            pairs = zip(visual.layout.views, times, strict=True)
            views = tuple(replace(view, time=time) for view, time in pairs)
            visual.layout = replace(visual.layout, views=views)
    return report

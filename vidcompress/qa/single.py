"""One question by itself: the frames of its clip are decoded and preprocessed while the encoder is at earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from vidcompress.adapters.base import adapter_for
from vidcompress.core.config import CompressionConfig
from vidcompress.core.devices import input_device
from vidcompress.core.timing import Phases
from vidcompress.loading.arguments import check_generation, check_present
from vidcompress.media.video.partial_clip import Reread
from vidcompress.qa.answer import Answer
from vidcompress.qa.pipeline import Media, answer_compressed, check_text, compress, prepare
from vidcompress.qa.question import Question
from vidcompress.session.inputs import CompressedInputs


def answer_alone(
    model: Any,
    processor: Any,
    question: Question,
    *,
    config: CompressionConfig,
    sampling: Mapping[str, Any],
    generation: Mapping[str, Any],
    time_instruction: bool = True,
) -> Answer:
    """Answer one question as `answer_batches` answers it, its clip being read while it is encoded.

    Args:
        model, processor, config, sampling, generation, time_instruction: as in `answer_batches`.
        question: with its media.
    """
    check_present(model, processor)
    check_generation(model, generation)
    phases = Phases(input_device(model))
    media, _, compressed = open_and_compress(
        model,
        processor,
        question,
        config=config,
        sampling=sampling,
        time_instruction=time_instruction,
        phases=phases,
    )
    (answer,) = answer_compressed(
        model, processor, [question], [media], compressed, phases, generation=generation
    )
    return answer


def open_and_compress(
    model: Any,
    processor: Any,
    question: Question,
    *,
    config: CompressionConfig,
    sampling: Mapping[str, Any],
    time_instruction: bool,
    phases: Phases,
) -> tuple[Media, Any, CompressedInputs]:
    """Read the media of a question, make model inputs of them and compress these.

    The frames of a clip are read in a thread meanwhile, if the model's adapter can ask for them one by one; nothing of
    it is left behind. What comes out is the same to the bit.

    Args:
        model, processor, question, config, sampling, time_instruction: as in `answer_alone`.
        phases: the clock. `decode` is the time in which this thread had to wait for frames, until the first one was
            there and, while encoding, until the next ones were decoded and preprocessed; `preprocess` and `encode` are
            without it. Where no clip arrives, they are what they are in `answer_batches`.

    Returns:
        What `question.open` gives, the inputs (a clip that arrived is closed by now), and what they were compressed to.
    """
    check_text(question.text, processor)
    sampling = {**sampling, "rule": processor.frame_rule}

    def go_on(media: Media) -> tuple[Any, CompressedInputs]:
        phases.cut("decode")
        inputs = prepare(model, processor, [question], [media], time_instruction=time_instruction)
        phases.cut("preprocess")
        return inputs, compress(model, inputs, config, phases)

    if question.video is not None and adapter_for(model).reads_ahead:
        # A clip whose packets mislead is met again below; what was encoded of it until then counts as decoding.
        with (
            suppress(Reread),
            question.arriving(input_device(model), model.dtype, **sampling) as (pictures, clip),
        ):
            inputs, compressed = go_on((pictures, clip))
            phases.move(clip.waited_ms, "encode", "decode")
            read = clip.whole()
            phases.cut("decode")
            return (pictures, read), inputs, compressed
    media = question.open(**sampling)
    return media, *go_on(media)

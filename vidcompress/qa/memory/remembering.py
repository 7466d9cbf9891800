"""From a clip to its memory, and from a memory to answers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from vidcompress.checks import whole_number
from vidcompress.core.stream.stream import StreamSize
from vidcompress.core.timing import Timings
from vidcompress.errors import UnsupportedInputError
from vidcompress.media.video.frames import Reread
from vidcompress.qa.answer import Answer
from vidcompress.qa.memory.clip_memory import ClipMemory
from vidcompress.qa.pipeline import Pipeline, PreparedBatch
from vidcompress.qa.question import Question
from vidcompress.session.held_clips import clip_size, encode_frames, open_stream

MOST_TOKENS = 1_000_000
"""Largest budget of a stream, far above what a language model reads."""


def streaming_pipeline(pipeline: Pipeline, max_tokens: int, hold: float) -> Pipeline:
    """Return the pipeline with the budget and the memory of a stream.

    Raises:
        UnsupportedInputError: the family's clips are no streams of frames, or the method has no stream.
        ArgumentError: a number out of range.
    """
    budget = pipeline.config.replace(max_tokens=max_tokens)
    whole_number("max_tokens", max_tokens, most=MOST_TOKENS)  # their room is made at once
    StreamSize(max_tokens, hold)  # refuses None, which is a configuration's default
    changed = replace(pipeline, config=budget.replace(hold=hold))
    if not changed.passes:
        raise UnsupportedInputError(
            f"{type(pipeline.model).__name__} takes clips whole, so that they cannot be watched or remembered; "
            "ask(video=..., hold=4) bounds what is held of their tokens"
        )
    return changed


def remember(pipeline: Pipeline, asked: Question) -> ClipMemory:
    """Send a clip through the method's stream.

    Args:
        pipeline: from `streaming_pipeline`.
        asked: with the clip, and nothing else.

    Raises:
        MediaError: the clip cannot be read.
    """
    for decode_all in (False, True):
        with suppress(Reread):
            with pipeline.preprocess([asked], stream=True, decode_all=decode_all) as batch, torch.no_grad():
                return _remembered(pipeline, batch)
    raise RuntimeError("a clip that is decoded from its start was to be read again; this is a mistake")


def _remembered(pipeline: Pipeline, batch: PreparedBatch) -> ClipMemory:
    adapter, config, clip = pipeline.adapter, pipeline.config, batch.streaming
    assert clip is not None and config.max_tokens is not None  # noqa: S101  (for the type checker)
    (visual,) = adapter.visuals(batch.inputs)[1]
    most = min(config.max_tokens, visual.layout.num_tokens)
    size = clip_size(visual.layout, most, config.hold or 0.0)
    times = pipeline.processor.view_times(clip)
    height, width = (int(side) for side in clip.frames.shape[1:3])
    channels, rows, cols = (int(side) for side in visual.pixels.shape[1:])
    memory: ClipMemory | None = None
    for features, newline in encode_frames(adapter, visual, config, Timings()):
        if memory is None:
            memory = ClipMemory(
                open_stream(adapter, config, size),
                newline[:1].clone(),
                (channels, rows, cols),
                (height, width),
                pipeline.model.dtype,
                clip.source,
                clip.duration,
            )
        start = memory.stream.frames
        memory.add(features, times[start : start + len(features)])
    assert memory is not None  # noqa: S101  (for the type checker)
    memory.fps = (len(times) - 1) / times[-1] if times[-1] > 0 else 0.0
    clip.whole()
    return memory


def ask_memory(
    pipeline: Pipeline, memory: ClipMemory, text: str, max_tokens: int | None, generation: Mapping[str, Any]
) -> Answer:
    """Answer a question about a remembered clip.

    Args:
        pipeline: from `streaming_pipeline`, of the same model.
        memory: of the clip.
        text: the question.
        max_tokens: visual tokens, at most those of the stream; None is as many.
        generation: arguments of the model's `generate`.
    """
    pipeline.check(generation)
    if max_tokens is not None:
        pipeline = replace(pipeline, config=pipeline.config.replace(max_tokens=max_tokens))
    clip = memory.clip(pipeline.adapter, pipeline.config)
    asked = Question(text, video=clip)
    with pipeline.preprocess([asked], media=[([], clip)]) as batch:
        return pipeline.answer(batch, generation)[0]

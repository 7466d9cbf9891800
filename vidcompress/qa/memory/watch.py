"""Watching of a stream without an end: frames come and are forgotten, questions are asked at any time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Unpack

import numpy as np
import torch

from vidcompress.checks import is_number, whole_number
from vidcompress.core.devices import input_device, place
from vidcompress.core.stream.stream import ROWS, StreamSize
from vidcompress.core.timing import Timings
from vidcompress.errors import MediaError, shown
from vidcompress.loading.arguments import GenerateOptions
from vidcompress.media import VideoFrames
from vidcompress.media.images.rgb import check_uint8
from vidcompress.qa.answer import Answer
from vidcompress.qa.memory.clip_memory import ClipMemory
from vidcompress.qa.memory.memory_file import write_memory
from vidcompress.qa.memory.remembering import ask_memory, streaming_pipeline
from vidcompress.qa.pipeline import Pipeline
from vidcompress.qa.question import read_question
from vidcompress.session.held_clips import encode_frames, open_stream


class Watch:
    """Watch over frames that come without an end; made by `VisualQA.watch`.

    Every frame is encoded when it comes, and the method's stream holds what is worth it; memory is constant. Frames and
    their pixels are not kept. One thread may add frames while another asks.

    Args:
        pipeline: of the model, with its compression.
        max_tokens: largest budget of a question, in visual tokens.
        hold: tokens held per token of it.

    Attributes:
        frames: frames seen.
    """

    def __init__(self, pipeline: Pipeline, max_tokens: int, hold: float) -> None:
        self._pipeline = streaming_pipeline(pipeline, max_tokens, hold)
        self._size = StreamSize(max_tokens, hold, rows=ROWS)
        open_stream(pipeline.adapter, self._pipeline.config, self._size)  # refuses what cannot be
        self._memory: ClipMemory | None = None
        self._lock = Lock()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self._memory = None

    @property
    def frames(self) -> int:
        """Frames seen."""
        return 0 if self._memory is None else self._memory.stream.frames

    def add(self, frames: Any, times: Sequence[float] | None = None) -> None:
        """Take the next frames.

        Args:
            frames: uint8 (frame, height, width, channel), an array or a tensor, channels red, green, blue.
            times: seconds of each frame since the beginning, ascending; None counts one second per frame.

        Raises:
            MediaError: another shape, type or size than before, or times that go back.
        """
        with self._lock:
            clip = self._checked(frames, times)
            for start in range(0, len(clip), self._pipeline.config.max_views):
                self._add(clip, start, min(start + self._pipeline.config.max_views, len(clip)))

    def ask(
        self,
        question: str,
        *,
        max_tokens: int | None = None,
        max_new_tokens: int = 64,
        **generate: Unpack[GenerateOptions],
    ) -> Answer:
        """Answer a question about what was seen so far; nothing is used up.

        Args:
            question: the text.
            max_tokens: visual tokens of this question, at most those of the watch; None is as many.
            max_new_tokens: longest answer, in tokens.
            **generate: further arguments of the model's `generate`.

        Raises:
            ArgumentError, BudgetError: an argument is not allowed. MediaError: no frame was seen yet.
        """
        text = read_question({"question": question}).text
        whole_number("max_new_tokens", max_new_tokens)
        options: Mapping[str, Any] = {"do_sample": False, **generate, "max_new_tokens": max_new_tokens}
        with self._lock:
            return ask_memory(self._pipeline, self._seen(), text, max_tokens, options)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write what is held into a file, which `VisualQA.ask(question, memory=path)` answers from.

        Raises:
            MediaError: no frame was seen yet. ArgumentError: the file cannot be written.
        """
        with self._lock:
            return write_memory(path, self._seen(), self._pipeline)

    def __repr__(self) -> str:
        return f"Watch({self.frames} frames seen, {self._size}, {self._pipeline.config!r})"

    def _seen(self) -> ClipMemory:
        if self._memory is None:
            raise MediaError("the watch has seen no frame yet; call add(frames) first")
        return self._memory

    def _checked(self, frames: Any, times: Sequence[float] | None) -> VideoFrames:
        """Return the frames as a clip, with their times."""
        if isinstance(frames, np.ndarray):
            check_uint8(frames, "frames")
            frames = torch.from_numpy(
                np.ascontiguousarray(frames)
            )  # torch refuses a view such as x[..., ::-1]
        if not isinstance(frames, torch.Tensor):
            raise MediaError(
                f"frames={shown(frames)}: must be an array or a tensor, uint8 (frame, height, width, 3); numpy.stack "
                "makes one of pictures"
            )
        block = frames.detach()
        last = -1.0 if self._memory is None else self._memory.duration
        begin = max(last, 0.0) if self._memory is not None else 0.0
        if times is None:
            count = int(block.shape[0]) if block.ndim == 4 else 0
            after = begin if self._memory is None else begin + 1.0
            times = [after + number for number in range(count)]
        if not isinstance(times, (tuple, list)) or not all(is_number(time) for time in times):
            raise MediaError(f"times={shown(times)}: must be a list of seconds, one per frame, or None")
        seconds = tuple(float(time) for time in times)
        if any(b < a for a, b in zip((begin, *seconds), seconds, strict=False)):
            raise MediaError(f"times={shown(times)}: must not go back, and be from {begin:g} on")
        clip = VideoFrames(
            block, seconds, seconds[-1] if seconds else 0.0, 0.0, max(1, len(seconds)), "memory", "<stream>"
        )
        if self._memory is not None and self._memory.size != tuple(clip.frames.shape[1:3]):
            raise MediaError(
                f"frames are {tuple(clip.frames.shape[1:3])}, those before were {self._memory.size} (height, width); "
                "resize them to one size"
            )
        return clip

    def _add(self, clip: VideoFrames, start: int, stop: int) -> None:
        pipeline = self._pipeline
        adapter, device = pipeline.adapter, input_device(pipeline.model)
        times = clip.times[start:stop]
        part = VideoFrames(
            clip.frames[start:stop], times, times[-1], 0.0, stop - start, "memory", clip.source
        )
        inputs = place(pipeline.processor.prepare_videos([part])[0], device, pipeline.model.dtype)
        (visual,) = adapter.visuals(inputs)[1]
        with torch.no_grad():
            for features, newline in encode_frames(adapter, visual, pipeline.config, Timings()):
                memory = self._memory
                if memory is None:
                    stream = open_stream(adapter, pipeline.config, self._sized(visual.layout.grid))
                    height, width = (int(side) for side in clip.frames.shape[1:3])
                    channels, rows, cols = (int(side) for side in visual.pixels.shape[1:])
                    memory = self._memory = ClipMemory(
                        stream,
                        newline[:1].clone(),
                        (channels, rows, cols),
                        (height, width),
                        pipeline.model.dtype,
                        clip.source,
                    )
                memory.add(features, times)
        assert self._memory is not None  # noqa: S101  (for the type checker)
        self._memory.duration = times[-1]
        seen = self._memory.stream.frames
        self._memory.fps = (seen - 1) / times[-1] if times[-1] > 0 else 0.0

    def _sized(self, grid: tuple[int, int]) -> StreamSize:
        return StreamSize(self._size.most, self._size.hold, grid=grid, rows=self._size.rows)

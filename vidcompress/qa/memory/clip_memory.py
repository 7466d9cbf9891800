"""Memory of one clip: the tokens that a method's stream holds of it, and what a question about them needs besides."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter
from vidcompress.core.budget import visual_budget
from vidcompress.core.config import CompressionConfig
from vidcompress.core.layout import Layout
from vidcompress.core.stream.source import TokenSource
from vidcompress.core.stream.stream import Stream
from vidcompress.errors import BudgetError, UnsupportedInputError
from vidcompress.media.video.remembered import RememberedClip

GUESSES = 3
"""Rounds in which tokens and separators of a budget usually settle; then their number is halved."""


@dataclass(eq=False)
class ClipMemory:
    """Memory of a clip, in bounded size.

    Attributes:
        stream: of the method; it holds the tokens.
        newline: (1, D), features of a separator; (0, D) where the family has none.
        view: (channel, height, width) of a frame in the encoder.
        size: (height, width) of a frame, in pixels.
        dtype: of the encoder's input.
        source: name of the clip.
        duration: seconds of the clip so far.
        fps: frames seen per second.
        times: seconds of each frame of which tokens are held, by its number.
    """

    stream: Stream
    newline: Tensor
    view: tuple[int, int, int]
    size: tuple[int, int]
    dtype: torch.dtype
    source: str
    duration: float = 0.0
    fps: float = 0.0
    times: dict[int, float] = field(default_factory=dict)

    def add(self, features: Tensor, times: Sequence[float]) -> None:
        """Take the next frames.

        Args:
            features: (frame, token, D), without separators.
            times: seconds of each frame, from the start of the clip.
        """
        first = self.stream.frames
        self.stream.add(features)
        self.times.update(zip(range(first, first + len(times)), times, strict=True))
        if len(self.times) > 2 * self.stream.size.capacity(features.shape[1]):
            self.forget_times()

    def forget_times(self) -> None:
        """Leave out the times of frames of which no token is held."""
        held = self.stream.table["frame"].unique().tolist()
        self.times = {number: self.times[number] for number in held}

    def layout(self, adapter: Adapter) -> Layout:
        """Return the layout of the frames of which the largest budget keeps tokens."""
        return self._seen(adapter, self._kept(min(self.stream.size.most, self.stream.tokens)))

    def clip(self, adapter: Adapter, config: CompressionConfig) -> RememberedClip:
        """Return the clip as a question sees it: the frames of which its budget keeps tokens, in order.

        Args:
            adapter: of the model.
            config: with the budget, at most that of the stream.

        Raises:
            BudgetError: a budget above the stream's. UnsupportedInputError: the budget has no room for a token.
        """
        budget = config.max_tokens or self.stream.size.most
        least, most, source = 0, min(budget, self.stream.tokens), None
        count, guesses = most, GUESSES
        while least < most:  # more tokens may come from more frames, which have more separators
            tried = self._kept(count)
            room = self._room(adapter, tried, budget, config)
            if room >= count:
                least, source = count, tried
            else:
                most = count - 1
            if room == count:
                break
            guesses -= 1
            count = room if guesses > 0 and least < room <= most else (least + most + 1) // 2
        if source is None:
            raise UnsupportedInputError(
                f"max_tokens={budget}: separators={config.resolved_separators!r} leave no room for a visual token; "
                "raise max_tokens, or use separators='drop'"
            )
        times = tuple(self.times[number] for number in source.numbers.tolist())
        return RememberedClip(source, self.size, times, self.duration, self.fps, self.source)

    def _room(self, adapter: Adapter, source: TokenSource, budget: int, config: CompressionConfig) -> int:
        """Return the tokens that a budget leaves beside the separators of the frames of `source`."""
        layout = self._seen(adapter, source)
        with suppress(BudgetError):
            return visual_budget(
                layout, min(budget, len(layout)), separators=config.resolved_separators
            ).tokens
        return 0

    def _seen(self, adapter: Adapter, source: TokenSource) -> Layout:
        (visual,) = adapter.visuals({adapter.video_keys[0]: [source]})[1]
        return visual.layout

    def _kept(self, count: int) -> TokenSource:
        return TokenSource(self.stream, self.stream.keep(count), self.newline, self.view, self.dtype)

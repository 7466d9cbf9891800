"""Clips that are remembered by their tokens: times and sizes of frames whose pixels are gone."""

from __future__ import annotations

import torch

from vidcompress.core.stream.source import TokenSource
from vidcompress.core.tokens import FrameSource
from vidcompress.errors import MediaError
from vidcompress.media.preprocessing.pixel_config import PixelRecipe
from vidcompress.media.video.frames import FileFrames, VideoFrames
from vidcompress.media.video.streaming import StreamingClip


class RememberedClip(StreamingClip):
    """Clip of the frames of which a stream keeps tokens; its encoder input is a `TokenSource`.

    Args:
        tokens: what the stream keeps.
        size: (height, width) of a frame, in pixels.
        times: seconds of each of these frames.
        duration: seconds of the whole clip.
        fps: frames seen per second.
        source: name of the clip.
    """

    def __init__(
        self,
        tokens: TokenSource,
        size: tuple[int, int],
        times: tuple[float, ...],
        duration: float,
        fps: float,
        source: str,
    ) -> None:
        self._tokens = tokens
        frames = torch.zeros((), dtype=torch.uint8).expand(len(times), *size, 3)
        seen = tokens.stream.frames
        self._known = VideoFrames(frames, times, duration, fps, seen, "memory", source)
        vars(self).update(vars(self._known))

    def views(self, recipe: PixelRecipe, resize_device: torch.device) -> FrameSource:  # type: ignore[override]
        """Return the encoder input, which has tokens and no pixels."""
        return self._tokens

    @property
    def waited_ms(self) -> float:
        """0.0: nothing is decoded."""
        return 0.0

    def whole(self) -> VideoFrames:
        """Return the clip without frames: reading them raises MediaError."""
        return FileFrames(self._known, self._gone)

    def close(self) -> None:
        """Do nothing: there is no thread."""

    def _gone(self) -> VideoFrames:
        raise MediaError(
            f"frames: those of {self.source!r} were not kept, only tokens of them; draw over the clip itself with "
            "ask(video=...)"
        )

"""Streaming clip: its first frames are used while the others are decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any

import torch

from vidcompress.checks import DEFAULT_MAX_FRAMES
from vidcompress.media.files import is_encoded, is_path
from vidcompress.media.preprocessing.pixel_config import PixelRecipe
from vidcompress.media.video.backends import open_source, reader_of
from vidcompress.media.video.frames import VideoFrames, noted
from vidcompress.media.video.in_memory import from_folder, from_pictures
from vidcompress.media.video.partial_clip import PartialClip, PartialClips, whole
from vidcompress.media.video.read import LIST, VideoSource, read_video
from vidcompress.media.video.sampling import Request, SamplingRule, check_request
from vidcompress.media.video.streaming_views import FrameViews


class StreamingClip(VideoFrames):
    """Clip that is still being decoded: its block of frames is filled from the first frame on.

    Made by `open_streaming_clip`. All fields but `frames` and `notes` have their final values.

    Args:
        parts: of the clip.
        device: of its encoder input.
        dtype: of its encoder input.
    """

    def __init__(self, parts: PartialClips, device: torch.device, dtype: torch.dtype) -> None:
        self._first, self._parts, self._device, self._dtype = next(parts), parts, device, dtype
        self._views: FrameViews | None = None
        vars(self).update(vars(self._first.clip))

    def views(self, recipe: PixelRecipe, resize_device: torch.device) -> FrameViews:
        """Encoder input, whose frames are decoded and preprocessed in a thread; started at the first call."""
        if self._views is None:
            self._views = FrameViews(
                self._first,
                self._parts,
                recipe,
                resize_device=resize_device,
                device=self._device,
                dtype=self._dtype,
            )
        return self._views

    @property
    def waited_ms(self) -> float:
        """Milliseconds that callers waited for its views so far."""
        return 0.0 if self._views is None else self._views.waited_ms

    def whole(self) -> VideoFrames:
        """The whole clip with all its notes; waits until it is decoded.

        Raises:
            MediaError, Reread: the decoder's error.
        """
        return whole(chain((self._first,), self._parts)) if self._views is None else self._views.whole()

    def close(self) -> None:
        """Stop reading."""
        (self._parts if self._views is None else self._views).close()


@contextmanager
def open_streaming_clip(
    source: VideoSource, device: torch.device, dtype: torch.dtype, **sampling: Any
) -> Iterator[StreamingClip]:
    """Streaming clip whose first frame is decoded; decoding stops when the block is left.

    Args:
        source: as for `read_video`.
        device: of its encoder input.
        dtype: of its encoder input.
        **sampling: as for `read_parts`.

    Raises:
        MediaError, Reread: as `read_parts` up to the first frame.
    """
    clip = StreamingClip(read_parts(source, **sampling), device, dtype)
    try:
        yield clip
    finally:
        clip.close()


def read_parts(
    source: VideoSource,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    max_frames: int = DEFAULT_MAX_FRAMES,
    backend: str = "auto",
    default_frames: int | None = None,
    rule: SamplingRule | None = None,
) -> PartialClips:
    """Partially decoded clips of one source, one after every frame; the frames are those of `read_video`.

    Backends with a method `parts` yield frame by frame; all other clips come whole.

    Args:
        source, num_frames, fps, max_frames, backend, default_frames, rule: as for `read_video`.

    Yields:
        Clips over one and the same block of frames; the last one is the whole clip, with all its notes.

    Raises:
        MediaError: as `read_video`, when it is found.
        Reread: the clip has to be read by `read_video`.
    """
    check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
    request = Request(
        num_frames, fps, max_frames, rule=rule if rule is not None else SamplingRule(default_frames)
    )
    if is_encoded(source):
        with open_source(source) as clip:
            reader = reader_of(clip, backend)
            if hasattr(reader, "parts"):
                with closing(reader.parts(clip, request)) as parts:
                    for part in parts:
                        yield part
                yield PartialClip(noted(part.clip, request), part.ready)
                return
    elif isinstance(source, (list, tuple)):
        yield from from_pictures(source, LIST, request, 1.0)
        return
    elif is_path(source):
        yield from from_folder(os.fsdecode(source), request, 1.0)
        return
    video = read_video(
        source,
        num_frames=num_frames,
        fps=fps,
        max_frames=max_frames,
        backend=backend,
        default_frames=default_frames,
        rule=rule,
    )
    yield PartialClip(video, len(video))

"""A clip that is read while its first frames are already used."""

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
from vidcompress.media.video.partial_clip import Part, Parts, whole
from vidcompress.media.video.read import LIST, VideoSource, read_video
from vidcompress.media.video.sampling import Request, check_request, with_default
from vidcompress.media.video.streaming import FrameViews


class ArrivingFrames(VideoFrames):
    """A clip that is still being read: its block of frames is filled from the first one on.

    Made by `arriving`. All but `frames` and `notes` is what it will be.

    Args:
        parts: of the clip.
        device: where its views are to lie.
        dtype: as what.
    """

    def __init__(self, parts: Parts, device: torch.device, dtype: torch.dtype) -> None:
        self._first, self._parts, self._device, self._dtype = next(parts), parts, device, dtype
        self._views: FrameViews | None = None
        vars(self).update(vars(self._first.clip))

    def views(self, recipe: PixelRecipe, resize_device: torch.device) -> FrameViews:
        """Begin to read and preprocess the other frames in a thread; once."""
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
        """Milliseconds that somebody waited for its views so far."""
        return 0.0 if self._views is None else self._views.waited_ms

    def whole(self) -> VideoFrames:
        """Wait for the clip's end and return it, with all its notes.

        Raises:
            MediaError, Reread: what was come upon on the way.
        """
        return whole(chain((self._first,), self._parts)) if self._views is None else self._views.whole()

    def close(self) -> None:
        """Stop reading."""
        (self._parts if self._views is None else self._views).close()


@contextmanager
def arriving(
    source: VideoSource, device: torch.device, dtype: torch.dtype, **sampling: Any
) -> Iterator[ArrivingFrames]:
    """A clip of which the first frame is read; nothing goes on reading it once the block is left.

    Args:
        source: as for `read_video`.
        device: where its views are to lie.
        dtype: as what.
        **sampling: as for `read_parts`.

    Raises:
        MediaError, Reread: as `read_parts` up to the first frame.
    """
    clip = ArrivingFrames(read_parts(source, **sampling), device, dtype)
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
) -> Parts:
    """Read a clip as `read_video` does, and say after every frame what there is of it.

    Backends with a method `parts` are followed frame by frame; all other clips come in one part.

    Args:
        source, num_frames, fps, max_frames, backend, default_frames: as for `read_video`.

    Yields:
        Parts of one and the same block of frames; the last one is the whole clip, with all its notes.

    Raises:
        MediaError: as `read_video`, when it is found.
        Reread: the clip has to be read by `read_video`.
    """
    check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
    request = Request(num_frames, fps, max_frames)
    if is_encoded(source):
        with open_source(source) as clip:
            reader = reader_of(clip, backend)
            if hasattr(reader, "parts"):
                request = with_default(request, default_frames)
                with closing(reader.parts(clip, request)) as parts:
                    for part in parts:
                        yield part
                yield Part(noted(part.clip, request), part.ready)
                return
    elif isinstance(source, (list, tuple)):
        yield from from_pictures(source, LIST, request, 1.0)
        return
    elif is_path(source):
        yield from from_folder(os.fsdecode(source), request, 1.0)
        return
    made = read_video(
        source,
        num_frames=num_frames,
        fps=fps,
        max_frames=max_frames,
        backend=backend,
        default_frames=default_frames,
    )
    yield Part(made, len(made))

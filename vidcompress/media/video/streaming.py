"""Streaming decode: a thread decodes and preprocesses the frames of a clip while the encoder runs on earlier ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from threading import Condition, Thread
from typing import Any

import torch
from torch import Tensor

from vidcompress.checks import DEFAULT_MAX_FRAMES
from vidcompress.core.devices import upload
from vidcompress.core.tokens import FrameSource
from vidcompress.errors import shown
from vidcompress.media.files import is_encoded, is_path
from vidcompress.media.preprocessing.pixel_config import PixelRecipe
from vidcompress.media.preprocessing.transforms import frame_views, views_shape
from vidcompress.media.video.backends import open_source, reader_of
from vidcompress.media.video.frames import FileFrames, PartialClip, PartialClips, VideoFrames, noted, whole
from vidcompress.media.video.in_memory import from_folder, from_pictures
from vidcompress.media.video.read import LIST, VideoSource, read_video
from vidcompress.media.video.sampling import Request, SamplingRule, check_request

STEP = 8
"""Number of frames that are preprocessed at once: half of the encoder's default batch of views."""


class FrameViews(FrameSource):
    """Encoder input of a clip, (frame, channel, height, width), whose frames become ready in order.

    It is indexed like the tensor that it becomes; indexing waits for the frames. Indexing a frame that is missing
    because of an error of the thread raises this error. On CUDA the thread has a stream of its own; the caller's stream
    waits for its work, the host does not.

    With `held` only few views are in memory at once: slices are then asked for in order, each frame once, and come as
    copies; the thread waits while all places are full.

    Args:
        first: the clip with its first frame.
        parts: generator of the clip after every further frame, until it is whole; run and closed in the thread.
        recipe: of the video processor.
        resize_device: device for resizing.
        device: of the encoder input.
        dtype: of the encoder input.
        held: most views in memory at once, a multiple of `STEP`; None for all.

    Attributes:
        shape, ndim, device, dtype: of the whole tensor.
        waited_ms: milliseconds that callers waited for frames so far.
    """

    def __init__(
        self,
        first: PartialClip,
        parts: PartialClips,
        recipe: PixelRecipe,
        *,
        resize_device: torch.device,
        device: torch.device,
        dtype: torch.dtype,
        held: int | None = None,
    ) -> None:
        self.shape = torch.Size(views_shape(first.clip.frames, recipe))
        self.ndim, self.device, self.dtype, self.waited_ms = len(self.shape), device, dtype, 0.0
        self._recipe, self._resize_device = recipe, resize_device
        self._clip, self._ready, self._over, self._closed = first.clip, 0, False, False
        self._failed: BaseException | None = None
        self._views: Tensor | None = None
        self._room, self._taken = len(self) if held is None else min(held, len(self)), 0
        self._made: Any = None
        self._copied: Any = None
        self._changed, self._inference = Condition(), torch.is_inference_mode_enabled()
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:  # frames on the device may not be complete yet
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._thread = Thread(target=self._work, args=(first, parts), name="vidcompress-frames", daemon=True)
        self._thread.start()

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Return the views of some frames: a slice waits for these, a tensor of frame numbers (on any device) for all.

        Raises:
            MediaError, Reread: the thread's error. RuntimeError: indexed after `close`, or with `held` out of order.
        """
        if self._room < len(self):
            return self._next(index)
        self._wait(index.indices(len(self))[1] if isinstance(index, slice) else len(self))
        return self._there()[index]

    def _there(self) -> Tensor:
        """Return the places of the views, for the caller's stream."""
        assert self._views is not None  # noqa: S101  (for the type checker)
        if self._made is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(self._made)
            self._views.record_stream(stream)
        return self._views

    def _next(self, index: slice | Tensor) -> Tensor:
        """Return copies of the next views, and give their places back to the thread step by step."""
        start, stop, by = index.indices(len(self)) if isinstance(index, slice) else (-1, 0, 1)
        if (start, by) != (self._taken, 1):
            raise RuntimeError(
                f"views {shown(index)} were asked for after {self._taken} of a clip that is not held; this is a "
                "mistake, please report it"
            )
        out = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype, device=self.device)
        while self._taken < stop:
            until = min(stop, self._taken - self._taken % STEP + STEP)
            self._wait(until)
            slot = self._taken % self._room
            out[self._taken - start : until - start] = self._there()[slot : slot + until - self._taken]
            with self._changed:
                self._copied = (
                    None if self._stream is None else torch.cuda.current_stream(self.device).record_event()
                )
                self._taken = until
                self._changed.notify_all()
        return out

    def __len__(self) -> int:
        return self.shape[0]

    def whole(self) -> VideoFrames:
        """Return the whole clip; waits until it is decoded to its end.

        Raises:
            MediaError, Reread, RuntimeError: as for a frame.
        """
        self._wait(None)
        return self._clip

    def close(self) -> None:
        """End the thread after its current frame, and release the views."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._views = self._failed = None  # a failure holds the frames of its stack

    def _wait(self, count: int | None) -> None:
        """Wait for `count` frames, or for the end."""
        begun = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._over or (count is not None and self._ready >= count))
        self.waited_ms += (time.perf_counter() - begun) * 1e3
        if self._failed is not None and (count is None or self._ready < count):
            raise self._failed
        if self._closed:
            raise RuntimeError(
                "a clip was closed before its frames were read; this is a mistake, please report it"
            )

    def _work(self, first: PartialClip, parts: PartialClips) -> None:
        try:
            # Tensors of inference mode may be written in that mode only. The stream may be None.
            with torch.inference_mode(self._inference), torch.cuda.stream(self._stream), closing(parts):
                shape = (self._room, *self.shape[1:])
                self._views = torch.empty(shape, dtype=self.dtype, device=self.device)
                for part in chain((first,), parts):
                    for start in self._due(part.ready):
                        stop = min(start + STEP, part.ready)
                        self._make(part.frames(start, stop), start, stop)
                    if self._closed:
                        return
                self._clip = whole((part,))
        except BaseException as error:  # noqa: BLE001  (raised in the thread that waits)
            self._failed = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _due(self, ready: int) -> Iterator[int]:
        """Yield the starts of the next steps, as long as there are frames for a whole step, or the last ones."""
        while not self._closed and (ready - self._ready >= STEP or self._ready < ready == len(self)):
            self._wait_for_room(min(self._ready + STEP, ready))
            if not self._closed:
                yield self._ready

    def _wait_for_room(self, stop: int) -> None:
        """Wait until there is a place for the views before `stop`, or the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or stop - self._taken <= self._room)

    def _make(self, frames: Tensor, start: int, stop: int) -> None:
        """Preprocess the frames [start, stop), uint8 (frame, height, width, channel)."""
        assert self._views is not None  # noqa: S101  (for the type checker)
        slot, where = start % self._room, self._resize_device
        out = self._views[slot : slot + stop - start]
        if self._copied is not None:  # the caller's stream may still read what is in these places
            self._stream.wait_event(self._copied)
        if (out.device, out.dtype) == (where, torch.float32):
            frame_views(frames, self._recipe, where, out)
        else:
            out.copy_(upload(frame_views(frames, self._recipe, where), self.device))
        with self._changed:
            self._made = None if self._stream is None else self._stream.record_event()
            self._ready = stop
            self._changed.notify_all()


class StreamingClip(VideoFrames):
    """Clip that is still being decoded: its block of frames is filled from the first frame on.

    Made by `open_streaming_clip`. All fields but `frames` and `notes` have their final values.

    Args:
        parts: of the clip.
        device: of its encoder input.
        dtype: of its encoder input.
        again: reads the clip again, for a clip whose frames and views are not held; None where they are.
    """

    def __init__(
        self,
        parts: PartialClips,
        device: torch.device,
        dtype: torch.dtype,
        again: Callable[[], VideoFrames] | None = None,
    ) -> None:
        self._first, self._parts, self._device, self._dtype = next(parts), parts, device, dtype
        self._again = again
        self._views: FrameViews | None = None
        vars(self).update(vars(self._first.clip))

    def views(self, recipe: PixelRecipe, resize_device: torch.device) -> FrameViews:
        """Return the encoder input, whose frames a thread decodes and preprocesses; started at the first call."""
        if self._views is None:
            self._views = FrameViews(
                self._first,
                self._parts,
                recipe,
                resize_device=resize_device,
                device=self._device,
                dtype=self._dtype,
                held=None if self._again is None else 2 * STEP,
            )
        return self._views

    @property
    def waited_ms(self) -> float:
        """Milliseconds that callers waited for its views so far."""
        return 0.0 if self._views is None else self._views.waited_ms

    def whole(self) -> VideoFrames:
        """Return the whole clip with all its notes; waits until it is decoded.

        Returns:
            The clip, as `FileFrames` where its frames are not held.

        Raises:
            MediaError, Reread: the decoder's error.
        """
        clip = whole(chain((self._first,), self._parts)) if self._views is None else self._views.whole()
        return clip if self._again is None or self._first.ring is None else FileFrames(clip, self._again)

    def close(self) -> None:
        """Stop reading."""
        (self._parts if self._views is None else self._views).close()

    def __enter__(self) -> StreamingClip:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_streaming_clip(
    source: VideoSource,
    device: torch.device,
    dtype: torch.dtype,
    *,
    held: bool = True,
    decode_all: bool = False,
    **sampling: Any,
) -> StreamingClip:
    """Open a streaming clip and decode its first frame; its thread ends with `close`, or with its `with` block.

    Args:
        source: as for `read_video`.
        device: of its encoder input.
        dtype: of its encoder input.
        held: hold all frames and views in memory. Otherwise views are in memory for a moment, once and in order, and
            frames of a reader with `parts` only until their views are there.
        decode_all: do not trust the packets of a file, after `Reread`.
        **sampling: as for `read_video`.

    Raises:
        MediaError, Reread: as `read_parts` up to the first frame.
    """
    if held:
        return StreamingClip(read_parts(source, **sampling), device, dtype)
    parts = read_parts(source, held=STEP, decode_all=decode_all, **sampling)
    return StreamingClip(parts, device, dtype, partial(read_video, source, **sampling))


def read_parts(
    source: VideoSource,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    max_frames: int = DEFAULT_MAX_FRAMES,
    backend: str = "auto",
    default_frames: int | None = None,
    rule: SamplingRule | None = None,
    held: int | None = None,
    decode_all: bool = False,
) -> PartialClips:
    """Yield partially decoded clips of one source, one after every frame; the frames are those of `read_video`.

    Backends with a method `parts` yield frame by frame; all other clips come whole.

    Args:
        source, num_frames, fps, max_frames, backend, default_frames, rule: as for `read_video`.
        held, decode_all: as in `Request`.

    Yields:
        Clips over the same block of frames; the last one is the whole clip, with all its notes.

    Raises:
        MediaError: as `read_video`, raised when the error is found.
        Reread: the clip can only be read by `read_video`.
    """
    check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
    rule = rule if rule is not None else SamplingRule(default_frames)
    request = Request(num_frames, fps, max_frames, rule=rule, held=held, decode_all=decode_all)
    if is_encoded(source):
        with open_source(source) as clip:
            reader = reader_of(clip, backend)
            if hasattr(reader, "parts"):
                with closing(reader.parts(clip, request)) as parts:
                    for part in parts:
                        yield part
                yield part._replace(clip=noted(part.clip, request))
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

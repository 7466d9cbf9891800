"""Reading of clips: sampled frames by `read_video`, decoded by one of `backends`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from vidcompress.checks import (
    DEFAULT_MAX_FRAMES,
    MAX_DECODED_BYTES,
    MAX_FRAME_PIXELS,
    MAX_SOURCE_FRAMES,
    is_number,
    positive,
    whole_number,
    word,
)
from vidcompress.errors import MediaError, SamplingError, shown
from vidcompress.media.files import BUFFERS, is_path
from vidcompress.media.sniff import STILL, is_animated_container, is_still
from vidcompress.media.video.backends import Backend, Clip, Request, get_backend, open_source
from vidcompress.media.video.partial_clip import whole
from vidcompress.media.video.sampling import check_request, choose_indices, sample_indices, sampling_note

if TYPE_CHECKING:
    from vidcompress.media.video.timeline import Timeline

LIST = "<list of pictures>"
__all__ = ["VideoFrames", "VideoSource", "read_video", "sample_indices"]

VideoSource = Any
"""A path, bytes, a binary file object, a folder of pictures, a list of pictures, a uint8 array, or VideoFrames."""


@dataclass(frozen=True)
class VideoFrames:
    """Sampled frames of one clip.

    Attributes:
        frames: uint8 (frame, height, width, channel), channels red, green, blue, values 0 to 255, upright.
        times: when each frame is shown, in seconds from the first frame of the clip; one per frame.
        duration: length of the clip in seconds, to the end of its last frame.
        fps: average frame rate of the clip in frames per second (of the source, not of the sample).
        total_frames: frames in the whole clip.
        backend: who decoded it: "pyav", "decord", "torchcodec", "pillow" (WebP, AVIF, TIFF), or "memory" for pictures
            and arrays, whose times are made up from `source_fps`.
        source: the file, or what stood in its place.
        notes: what the caller should know about how the frames were taken.
    """

    frames: torch.Tensor
    times: tuple[float, ...]
    duration: float
    fps: float
    total_frames: int
    backend: str
    source: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.frames, torch.Tensor):
            raise MediaError(f"frames={shown(self.frames)}: pass a uint8 tensor (frame, height, width, 3)")
        shape = tuple(self.frames.shape)
        if self.frames.dtype != torch.uint8 or len(shape) != 4 or shape[-1] != 3 or 0 in shape:
            raise MediaError(
                f"frames: {self.frames.dtype} of shape {shape}; pass uint8 (frame, height, width, 3), 1 frame or more"
            )
        times = self.times if isinstance(self.times, (tuple, list)) else ()
        if len(times) != shape[0] or not all(is_number(time) for time in times):
            raise MediaError(
                f"times={shown(self.times)}: {len(times)} for {shape[0]} frames; pass one per frame, in seconds"
            )
        for name in ("duration", "fps"):
            if not is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise MediaError(f"{name}={shown(getattr(self, name))}: must be a number of at least 0")
        whole_number("total_frames", self.total_frames, error=MediaError)
        word("backend", self.backend, "memory", error=MediaError)
        if not isinstance(self.notes, tuple) or not all(isinstance(note, str) for note in self.notes):
            raise MediaError(f"notes={shown(self.notes)}: must be a tuple of texts")
        if not isinstance(self.source, str):
            raise MediaError(f"source={shown(self.source)}: must be a text that names the clip")

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    @classmethod
    def on(
        cls,
        timeline: Timeline,
        chosen: list[int],
        frames: torch.Tensor,
        backend: str,
        source: str,
        notes: Iterable[str] = (),
    ) -> VideoFrames:
        """The chosen frames of a timeline, uint8 (frame, height, width, 3)."""
        times, notes = timeline.at(chosen), (*notes, *timeline.notes)
        return cls(frames, times, timeline.duration, timeline.fps, len(timeline), backend, source, notes)


def read_video(
    source: VideoSource,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    max_frames: int = DEFAULT_MAX_FRAMES,
    backend: str = "auto",
    default_frames: int | None = None,
    source_fps: float = 1.0,
    max_pixels: int = MAX_FRAME_PIXELS,
    max_source_frames: int = MAX_SOURCE_FRAMES,
    max_bytes: int = MAX_DECODED_BYTES,
) -> VideoFrames:
    """Take frames evenly from a clip.

    Args:
        source: a local video file (str or PathLike), its bytes (bytes, bytearray, memoryview) or a seekable binary file
            object; or pictures that are frames already: a folder of them (png, jpg, webp, bmp, tif, avif, ppm; in
            natural name order; hidden files and all others are left out), a list of what `load_image` takes, a
            uint8 array or tensor (frame, height, width, 3) or (frame, 3, height, width), or VideoFrames.
        num_frames: how many frames, 1 to `max_frames`, spread from the first to the last. A shorter clip gives all it
            has. With neither this nor `fps`, `default_frames` are taken from a file and all of them from pictures.
        fps: frames per second of clip time, in place of `num_frames`; where that makes more than `max_frames`, that
            many are spread over the whole clip, and a note says so.
        max_frames: the most frames to return; `VideoFrames` pass as they are unless asked otherwise.
        backend: "auto" (PyAV; Pillow for WebP, AVIF and TIFF), "pyav", "decord", "torchcodec" or "pillow". One that can
            read a clip returns the same frames at the same times; one that cannot raises, and nothing falls back.
        default_frames: see `num_frames`; 32 unless a checkpoint says otherwise.
        source_fps: frame rate of pictures, which have no clock of their own. Files state theirs.
        max_pixels: largest height x width of a frame.
        max_source_frames: longest clip that is looked through, in frames.
        max_bytes: most memory of the frames that are returned.

    Returns:
        The frames with their times, counted from the first frame whatever the file calls its start.

        - A file is listed once without decoding; then only the stretches that lead to the wanted frames are decoded,
          and only wanted frames are converted. The frames are those that decoding everything would give.
        - Quarter turns and mirroring stored in the file are applied; other angles and non-square pixels are left.
        - In a file of clips that were joined end to end, with time stamps that start again, each part follows the one
          before it; a note says so.
        - Fields of interlaced video are left interleaved. Frames that an edit list hides do not exist.
        - Colours follow the matrix and range that the file states (BT.601 where it states none), reduced to 8 bits;
          HDR is not tone-mapped. Transparency lies over white, in videos as in pictures.
        - Of several video streams the default one is read, else the first; attached cover pictures do not count.
        - Frames whose size differs from the first kept one are scaled to it. Pictures of a list or folder must agree.
        - A picture file that holds several frames is a clip: an animated GIF, PNG, WebP or AVIF, a sequence in HEIF, a
          TIFF with pages of one size. A still is refused in every format and by every backend: pass it as an image, or
          in a list as the frame of a clip. GIF alone counts as a video format, of which one frame is a clip too.
        - A file object is read from its beginning and put back to where it was, whatever it was opened for.

    Raises:
        MediaError: the source is missing, empty, a URL (also `file://`), a play list, a pipe or device, a folder
            without pictures, not a video, damaged or cut short; over a limit; not served by `backend`; or an argument
            is out of range.
    """
    check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
    if default_frames is not None:
        whole_number("default_frames", default_frames, error=SamplingError)
    positive("source_fps", source_fps, "frames per second", error=SamplingError)
    get_backend(backend)
    request = Request(num_frames, fps, max_frames, max_pixels, max_source_frames, max_bytes)
    if isinstance(source, VideoFrames):  # sampled already: only an explicit wish samples it again
        return source if num_frames is None and fps is None else _subsample(source, request)
    if is_path(source) and os.path.isdir(source):
        from vidcompress.media.video.in_memory import from_folder

        return whole(from_folder(os.fsdecode(source), request, source_fps))
    if is_encoded(source):
        return _from_file(source, with_default(request, default_frames), backend)
    if isinstance(source, (list, tuple)):
        from vidcompress.media.video.in_memory import from_pictures

        return whole(from_pictures(source, LIST, request, source_fps))
    if hasattr(source, "__array__"):
        from vidcompress.media.video.in_memory import from_array

        return _subsample(from_array(source, source_fps), request)
    single = "; a single picture is passed as image" if hasattr(source, "getbands") else ""
    raise MediaError(
        f"video: got {type(source).__name__}; pass a path, bytes, a binary file object, a folder or list of pictures, "
        f"or a uint8 array (frame, height, width, 3){single}"
    )


def is_encoded(source: VideoSource) -> bool:
    """Whether a source is to be decoded: a path that is no folder, bytes or a file object."""
    if is_path(source):
        return not os.path.isdir(source)
    return isinstance(source, BUFFERS) or hasattr(source, "read")


def with_default(request: Request, frames: int | None) -> Request:
    """The request, for a number of frames where it asks for none and there is a default."""
    if frames is None or request.num_frames is not None or request.fps is not None:
        return request
    return replace(request, num_frames=min(frames, request.max_frames))


def _from_file(source: Any, request: Request, backend: str) -> VideoFrames:
    with open_source(source) as clip:
        return noted(reader_of(clip, backend).read(clip, request), request)


def reader_of(clip: Clip, backend: str) -> Backend:
    """The reader of that name; "auto" is Pillow for WebP, AVIF and TIFF, else PyAV.

    Raises:
        MediaError: the clip is a still picture that a reader would take for a clip of one frame.
    """
    with clip.opened() as stream:
        if is_still(stream):
            raise MediaError(f"video={clip.name!r} {STILL}")
    return get_backend("pillow" if backend == "auto" and is_animated_container(clip.head()) else backend)


def noted(made: VideoFrames, request: Request) -> VideoFrames:
    """A clip with a note where its rate could not be what was asked for."""
    note = sampling_note(made.total_frames, made.fps, fps=request.fps, max_frames=request.max_frames)
    return replace(made, notes=(*made.notes, *note))


def pick(total: int, rate: float, request: Request) -> tuple[list[int], tuple[str, ...]]:
    """Indices of frames that need no decoding, and what to note; all up to `max_frames` unless asked otherwise."""
    if request.num_frames is None and request.fps is None:
        if total <= request.max_frames:
            return list(range(total)), ()
        note = f"{request.max_frames} (max_frames) of {total} frames were taken, spread over all"
        return sample_indices(total, request.max_frames), (note,)
    chosen = choose_indices(
        total, rate, num_frames=request.num_frames, fps=request.fps, max_frames=request.max_frames
    )
    return chosen, sampling_note(total, rate, fps=request.fps, max_frames=request.max_frames)


def _subsample(clip: VideoFrames, request: Request) -> VideoFrames:
    """Sample frames that are in memory already."""
    chosen, notes = pick(len(clip), clip.fps, request)
    if len(chosen) == len(clip):
        return replace(clip, notes=(*clip.notes, *notes))
    times = tuple(clip.times[i] for i in chosen)
    return replace(clip, frames=clip.frames[chosen], times=times, notes=(*clip.notes, *notes))


def in_memory(
    frames: torch.Tensor, chosen: Sequence[int], total: int, source: str, rate: float, notes: tuple[str, ...]
) -> VideoFrames:
    """Frames without a clock, `chosen` of `total`, shown `rate` times a second.

    Raises:
        MediaError: the frames are not uint8 (frame, height, width, 3).
    """
    times = tuple(i / rate for i in chosen)
    return VideoFrames(frames, times, total / rate, rate, total, "memory", source, notes)

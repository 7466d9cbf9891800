"""Clips in, sampled frames out. The one entry is `read_video`; who decodes is in `backends`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..checks import is_number, positive, whole_number, word
from ..errors import shown
from .backends import Request, get_backend, open_source
from .errors import (
    DEFAULT_MAX_FRAMES,
    MAX_DECODED_BYTES,
    MAX_FRAME_PIXELS,
    MAX_SOURCE_FRAMES,
    MediaError,
    SamplingError,
)
from .image import load_image
from .sampling import check_request, choose_indices, sample_indices

__all__ = ["VideoFrames", "VideoSource", "read_video", "sample_indices"]

VideoSource = Any
"""A path, bytes, a binary file object, a folder of pictures, a list of pictures, a uint8 array, or VideoFrames."""

_PICTURE_NAME = re.compile(r"\.(png|jpe?g|webp|bmp|tiff?)$", re.IGNORECASE)


@dataclass(frozen=True)
class VideoFrames:
    """Some frames of one clip.

    Attributes:
        frames: uint8 (frame, height, width, channel), channels red, green, blue, values 0 to 255, upright.
        times: when each frame is shown, in seconds from the first frame of the clip; one per frame.
        duration: length of the clip in seconds, to the end of its last frame.
        fps: average frame rate of the clip in frames per second (of the source, not of the sample).
        total_frames: frames in the whole clip.
        backend: who decoded it: "pyav", "decord", or "memory" when nothing had to be decoded.
        source: the file, or what stood in its place.
    """

    frames: torch.Tensor
    times: tuple[float, ...]
    duration: float
    fps: float
    total_frames: int
    backend: str
    source: str

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
        if not isinstance(self.source, str):
            raise MediaError(f"source={shown(self.source)}: must be a text that names the clip")

    def __len__(self) -> int:
        return int(self.frames.shape[0])


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
        source: a local video file (str or PathLike), its bytes or a seekable binary file object; or pictures that
            are frames already: a folder of them (in natural name order), a list of pictures, a uint8 array or tensor
            (frame, height, width, 3), or VideoFrames. URLs and play lists are refused.
        num_frames: how many frames, 1 to `max_frames`, spread from the first to the last. A shorter clip gives all it
            has. With neither this nor `fps`, `default_frames` are taken from a file and all of them from pictures.
        fps: frames per second of clip time, in place of `num_frames`; where that makes more than `max_frames`, that
            many are spread over the whole clip.
        max_frames: the most frames to return.
        backend: "auto" (PyAV), "pyav" or "decord".
        default_frames: see `num_frames`; 32 unless a checkpoint says otherwise.
        source_fps: frame rate of pictures, which have no clock of their own. Files state theirs.
        max_pixels: largest height x width of a frame.
        max_source_frames: longest clip that is looked through, in frames.
        max_bytes: most memory of the frames that are returned.

    Returns:
        The frames with their times. Rotation stored in the file is applied; non-square pixels are left as they are.
        A file is listed once without decoding; then only the stretches that lead to the wanted frames are decoded,
        and only wanted frames are converted. The frames are those that decoding everything would give.

    Raises:
        MediaError: the source is missing, empty, a folder without pictures, not a video, damaged or cut short; over
            a limit; not served by `backend`; or an argument is out of range.
    """
    check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
    if default_frames is not None:
        whole_number("default_frames", default_frames, error=SamplingError)
    positive("source_fps", source_fps, "frames per second", error=SamplingError)
    reader = get_backend(backend)
    request = Request(num_frames, fps, max_frames, max_pixels, max_source_frames, max_bytes)
    if isinstance(source, VideoFrames):
        return _subsample(source, request)
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
        return _subsample(_from_folder(os.fsdecode(source), request, source_fps), request)
    if isinstance(source, (str, os.PathLike, bytes)) or hasattr(source, "read"):
        if num_frames is None and fps is None and default_frames is not None:
            request = replace(request, num_frames=min(default_frames, max_frames))
        return reader.read(open_source(source), request)
    if isinstance(source, (list, tuple)):
        return _subsample(_from_pictures(source, "<list of pictures>", request, source_fps), request)
    if hasattr(source, "__array__"):
        return _subsample(_from_array(source, source_fps), request)
    raise MediaError(
        f"video: got {type(source).__name__}; pass a path, bytes, a binary file object, a folder or list of pictures, "
        "or a uint8 array (frame, height, width, 3)"
    )


def _subsample(clip: VideoFrames, request: Request) -> VideoFrames:
    """Sample frames that are in memory already; keep all of them unless asked otherwise."""
    if request.num_frames is None and request.fps is None:
        return clip
    chosen = choose_indices(
        len(clip), clip.fps, num_frames=request.num_frames, fps=request.fps, max_frames=request.max_frames
    )
    times = tuple(clip.times[i] for i in chosen)
    return VideoFrames(
        clip.frames[chosen], times, clip.duration, clip.fps, clip.total_frames, clip.backend, clip.source
    )


def _in_memory(frames: torch.Tensor, source: str, rate: float) -> VideoFrames:
    count = int(frames.shape[0])
    return VideoFrames(
        frames, tuple(i / rate for i in range(count)), count / rate, rate, count, "memory", source
    )


def _from_array(source: Any, rate: float) -> VideoFrames:
    import numpy as np

    frames = (
        source.detach()
        if isinstance(source, torch.Tensor)
        else torch.from_numpy(np.ascontiguousarray(source))
    )
    if frames.ndim == 0:
        raise MediaError(
            f"video: got the number {shown(source)}; pass a uint8 array (frame, height, width, 3)"
        )
    if frames.ndim == 4 and frames.shape[-1] != 3 and frames.shape[1] == 3:
        frames = frames.permute(0, 2, 3, 1)
    return _in_memory(frames, f"<array {tuple(frames.shape)}>", rate)


def _from_folder(folder: str, request: Request, rate: float) -> VideoFrames:
    names = sorted((n for n in os.listdir(folder) if _PICTURE_NAME.search(n)), key=_natural)
    if not names:
        raise MediaError(
            f"video={folder!r} is a folder without pictures; pass a video file or a folder of frames"
        )
    return _from_pictures([os.path.join(folder, name) for name in names], folder, request, rate)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which frame_2 comes before frame_10."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def _from_pictures(pictures: Sequence[Any], name: str, request: Request, rate: float) -> VideoFrames:
    import numpy as np

    if not pictures:
        raise MediaError("video: got an empty list; pass at least one frame")
    request.check_length(name, len(pictures))

    def load(picture: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(load_image(picture, max_pixels=request.max_pixels)))

    first = load(pictures[0])
    request.check_memory(name, len(pictures), first.shape[0], first.shape[1])
    block = torch.empty((len(pictures), *first.shape), dtype=torch.uint8)
    block[0] = first
    for position, picture in enumerate(pictures[1:], start=1):
        frame = load(picture)
        if frame.shape != first.shape:
            raise MediaError(
                f"video: frame {position} is {tuple(frame.shape[:2])}, the first one {tuple(first.shape[:2])} "
                "(height, width); resize them to one size"
            )
        block[position] = frame
    return _in_memory(block, name, rate)

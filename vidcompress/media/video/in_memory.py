"""Clips in memory: folders and lists of pictures, arrays."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange

from vidcompress.errors import MediaError
from vidcompress.media.images.image import load_image
from vidcompress.media.images.rgb import as_array, check_uint8
from vidcompress.media.video.frames import FrameBlock, PartialClip, VideoFrames
from vidcompress.media.video.sampling import Request, pick

_PICTURE_NAME = re.compile(r"\.(png|jpe?g|webp|bmp|tiff?|avif|ppm)$", re.IGNORECASE)
_VIDEO_NAME = re.compile(r"\.(mp4|m4v|mov|mkv|webm|avi|ts|mpe?g|flv|gif)$", re.IGNORECASE)


def from_folder(folder: str, request: Request, rate: float) -> Iterator[PartialClip]:
    """Yield the frames of a folder, in natural name order. Hidden files, and names of no picture, are left out.

    Yields:
        As `from_pictures`.

    Raises:
        MediaError: the folder cannot be listed or holds no picture; or as `from_pictures`.
    """
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise MediaError(
            f"video={folder!r} cannot be listed ({error.strerror}); change its permissions"
        ) from error
    pictures = sorted((name for name in names if _PICTURE_NAME.search(name)), key=natural)
    if not pictures:
        videos = sorted((name for name in names if _VIDEO_NAME.search(name)), key=natural)
        what = (
            f"pass one of its videos, such as {videos[0]!r}"
            if videos
            else "pass a video file or a folder of frames"
        )
        raise MediaError(f"video={folder!r} is a folder without pictures; {what}")
    return from_pictures([os.path.join(folder, name) for name in pictures], folder, request, rate)


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key under which frame_2 comes before frame_10."""
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), "") if place % 2 else (0, 0, part) for place, part in enumerate(parts)]


def from_pictures(pictures: Sequence[Any], name: str, request: Request, rate: float) -> Iterator[PartialClip]:
    """Yield the frames of a list of pictures. Only sampled ones are opened.

    Yields:
        The clip after every picture.

    Raises:
        MediaError: the list is empty or too long, a picture cannot be read, or their sizes differ.
    """
    if not pictures:
        raise MediaError("video: got an empty list; pass at least one frame")
    request.check_length(name, len(pictures))
    chosen, notes = pick(len(pictures), rate, request)

    def load(position: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        try:
            return np.array(load_image(pictures[position], max_pixels=request.max_pixels))
        except MediaError as error:
            raise MediaError(f"video: frame {position}: {error}") from error

    first = load(chosen[0])
    room = request.room(len(chosen))
    request.check_memory(name, room, first.shape[0], first.shape[1])
    block = FrameBlock(len(chosen), room, first.shape[0], first.shape[1])
    block.put(0, first)
    clip = in_memory(block.frames, chosen, len(pictures), name, rate, notes)
    yield PartialClip(clip, 1, block.ring)
    for row, position in enumerate(chosen[1:], start=1):
        frame = load(position)
        if frame.shape != first.shape:
            raise MediaError(
                f"video: frame {position} is {tuple(frame.shape[:2])}, the first one {tuple(first.shape[:2])} "
                "(height, width); resize them to one size"
            )
        block.put(row, frame)
        yield PartialClip(clip, row + 1, block.ring)


def from_array(source: Any, rate: float) -> VideoFrames:
    """Make a clip of an array; a tensor stays on its device.

    Raises:
        MediaError: not uint8, or of another shape; the message has the conversion.
    """
    check_uint8(source, "video")
    frames = (
        source.detach()
        if isinstance(source, torch.Tensor)
        else torch.from_numpy(np.ascontiguousarray(as_array(source, "video")))
    )
    shape = tuple(frames.shape)
    if frames.ndim == 4 and shape[-1] != 3 and shape[1] == 3:
        frames = rearrange(frames, "frame c h w -> frame h w c")
    elif frames.ndim != 4 or shape[-1] != 3:
        raise MediaError(f"video: array of shape {shape}; pass (frame, height, width, 3): {_advice(shape)}")
    if 0 in shape:
        raise MediaError(f"video: array of shape {shape} holds no pixel; pass at least one frame of 1 x 1")
    return in_memory(frames, range(shape[0]), shape[0], f"<array {shape}>", rate, ())


def in_memory(
    frames: torch.Tensor, chosen: Sequence[int], total: int, source: str, rate: float, notes: tuple[str, ...]
) -> VideoFrames:
    """Make a clip of frames without a clock, `chosen` of `total`, at `rate` frames per second.

    Raises:
        MediaError: the frames are not uint8 (frame, height, width, 3).
    """
    times = tuple(i / rate for i in chosen)
    return VideoFrames(frames, times, total / rate, rate, total, "memory", source, notes)


def _advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 5:
        return "pass one clip at a time"
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "x[None] makes one frame of it, or pass it as image="
    if len(shape) == 3:
        return "grey frames need x[..., None].repeat(3, -1) in numpy"
    if len(shape) == 4 and shape[0] == 3:
        return "numpy.moveaxis(x, 0, -1) if the first axis is the channel"
    if len(shape) == 4 and shape[-1] == 4:
        return "x[..., :3] leaves transparency out"
    if len(shape) == 4 and shape[-1] == 1:
        return "x.repeat(3, -1) in numpy makes grey frames RGB"
    return "the last axis is red, green and blue"

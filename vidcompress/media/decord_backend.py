"""Reading clips with decord, for whoever compares with results that were made with it."""

from __future__ import annotations

from typing import Any

import torch

from .backends import Clip, Request, register_backend
from .container import read_index
from .errors import MediaError
from .sampling import choose_indices
from .video import VideoFrames

UNREADABLE = ("av1",)
"""Codecs that decord's bundled FFmpeg has no decoder for; it aborts or hangs on some of them instead of raising."""


@register_backend("decord")
class DecordBackend:
    """decord's reader: local files only, no AV1."""

    def read(self, clip: Clip, request: Request) -> VideoFrames:
        """Decode the requested frames.

        Raises:
            MediaError: decord is not installed, the clip is a stream or AV1 (use "pyav"), or as the "pyav" backend.
        """
        if clip.path is None:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' reads local files only; use backend='pyav'"
            )
        decord = _import_decord()
        # decord's FFmpeg is old and takes any URL or play list: look at the file with the careful reader first.
        _, facts = read_index(clip, request)
        if facts.codec in UNREADABLE:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' cannot read {facts.codec}; use backend='pyav'"
            )
        try:
            reader = decord.VideoReader(clip.path, ctx=decord.cpu(0), num_threads=1)
            return _take(reader, clip, request)
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise MediaError(
                f"video={clip.name!r}: decord failed ({reason[0]}); use backend='pyav'"
            ) from error


def _take(reader: Any, clip: Clip, request: Request) -> VideoFrames:
    total, fps = len(reader), float(reader.get_avg_fps())
    chosen = choose_indices(
        total, fps, num_frames=request.num_frames, fps=request.fps, max_frames=request.max_frames
    )
    height, width = reader[0].shape[:2]
    request.check_memory(clip.name, len(chosen), height, width)
    frames = torch.from_numpy(reader.get_batch(chosen).asnumpy())
    stamps = reader.get_frame_timestamp(list(range(total)))  # (frame, 2): shown from, shown until, in seconds
    times = tuple(float(stamps[i][0] - stamps[0][0]) for i in chosen)
    return VideoFrames(frames, times, float(stamps[-1][1] - stamps[0][0]), fps, total, "decord", clip.name)


def _import_decord() -> Any:
    try:
        import decord
    except ImportError as error:
        raise MediaError(
            "backend='decord': decord is not installed; pip install decord, or use 'pyav'"
        ) from error
    return decord

"""Reading clips with decord, for whoever compares with results that were made with it."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from .backends import Clip, Request, register_backend
from .container import read_index
from .decord_process import PROCESS, DecordProcess
from .errors import MediaError
from .sampling import choose_indices
from .video import VideoFrames

UNREADABLE = ("av1",)
"""Codecs that decord's bundled FFmpeg has no decoder for; it aborts or hangs on some of them instead of raising."""


@register_backend("decord")
class DecordBackend:
    """decord's reader: local files only, no AV1.

    On damaged files decord may abort, hang or take all memory, so it runs in a process of its own, which is started at
    the first clip (about a quarter of a second) and again when it has died.
    """

    def read(self, clip: Clip, request: Request) -> VideoFrames:
        """Decode the requested frames.

        Raises:
            MediaError: decord is not installed, the clip is a stream or AV1 (use "pyav"), or as the "pyav" backend.
        """
        if clip.path is None:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' reads local files only; use backend='pyav'"
            )
        if find_spec("decord") is None:
            raise MediaError("backend='decord': decord is not installed; pip install decord, or use 'pyav'")
        # decord's FFmpeg is old and takes any URL or play list: look at the file with the careful reader first.
        _, facts = read_index(clip, request)
        if facts.codec in UNREADABLE:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' cannot read {facts.codec}; use backend='pyav'"
            )
        with PROCESS.lock:
            return _take(PROCESS, clip.path, clip, request)


def _take(process: DecordProcess, path: str, clip: Clip, request: Request) -> VideoFrames:
    facts = process.open(path)
    total, fps, stamps = facts["frames"], facts["fps"], facts["stamps"]
    chosen = choose_indices(
        total, fps, num_frames=request.num_frames, fps=request.fps, max_frames=request.max_frames
    )
    request.check_memory(clip.name, len(chosen), *facts["shape"][:2])
    frames = torch.from_numpy(process.take(path, chosen))
    times = tuple(stamps[i][0] - stamps[0][0] for i in chosen)
    return VideoFrames(frames, times, stamps[-1][1] - stamps[0][0], fps, total, "decord", clip.name)

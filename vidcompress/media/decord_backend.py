"""Reading clips with decord, for whoever compares with results that were made with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .backends import Clip, Request, register_backend
from .container import ClipFacts
from .errors import MediaError
from .orientation import Matrix, is_mirrored
from .pyav_backend import read_timeline, stream_notes
from .video import VideoFrames

UNREADABLE = ("av1",)
"""Codecs that decord's bundled FFmpeg has no decoder for; it aborts or hangs on some of them instead of raising."""

SEEKS_WRONG = ("hevc", "mpeg1video", "mpeg2video", "vc1")
"""Codecs in which decord's seeking was found to return neighbours of the frame asked for, or may: open groups of
pictures are the rule in them. They are read from the start instead, which is right and slow."""


@register_backend("decord")
class DecordBackend:
    """decord's reader: local files only; no AV1, no transport streams, no mirrored clips, no animations."""

    def read(self, clip: Clip, request: Request) -> VideoFrames:
        """Decode the requested frames.

        Raises:
            MediaError: decord is not installed, cannot serve the clip (use "pyav"), or as the "pyav" backend.
        """
        if clip.path is None:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' reads local files only; use backend='pyav'"
            )
        decord = _import_decord()
        # decord's FFmpeg is old and takes any URL or play list: look at the file with the careful reader first.
        timeline, facts, matrix = read_timeline(clip, request)
        reason = _cannot(facts, matrix)
        if reason:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' cannot read {reason}; use backend='pyav'"
            )
        chosen = timeline.choose(request)
        request.check_memory(clip.name, len(chosen), facts.height, facts.width)
        try:
            reader = decord.VideoReader(clip.path, ctx=decord.cpu(0), num_threads=1)
            if len(reader) != len(timeline):
                raise MediaError(
                    f"video={clip.name!r}: backend='decord' finds {len(reader)} frames where {len(timeline)} are "
                    "shown; use backend='pyav'"
                )
            frames = torch.from_numpy(_take(reader, chosen, seek=facts.codec not in SEEKS_WRONG))
        except decord.DECORDError as error:
            lines = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise MediaError(
                f"video={clip.name!r}: decord failed ({lines[0]}); use backend='pyav'"
            ) from error
        return VideoFrames.on(timeline, chosen, frames, "decord", clip.name, stream_notes(facts))


def _cannot(facts: ClipFacts, matrix: Matrix) -> str | None:
    if facts.codec in UNREADABLE:
        return facts.codec
    if facts.container == "mpegts":
        return "transport streams (it returns other frames than were asked for)"
    if facts.others:
        return "files with several video streams (it chooses one by itself)"
    return "mirrored clips (it shows them as stored)" if is_mirrored(matrix) else None


def _take(reader: Any, chosen: list[int], *, seek: bool) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 (frame, height, width, 3) of the chosen frames."""
    if seek:
        return np.asarray(reader.get_batch(chosen).asnumpy())[..., :3]
    wanted, kept = set(chosen), []
    for position in range(chosen[-1] + 1):
        frame = reader.next()
        if position in wanted:
            kept.append(frame.asnumpy()[..., :3])
    return np.stack(kept)


def _import_decord() -> Any:
    try:
        import decord
    except ImportError as error:
        raise MediaError(
            "backend='decord': decord is not installed; pip install decord, or use 'pyav'"
        ) from error
    return decord

"""Reading clips with decord, for whoever compares with results that were made with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .backends import Clip, Request, register_backend
from .errors import MediaError
from .orientation import is_mirrored
from .pyav_backend import Survey, stream_notes, survey
from .video import VideoFrames

UNREADABLE = ("av1",)
"""Codecs that decord's bundled FFmpeg has no decoder for; it aborts or hangs on some of them instead of raising."""


@register_backend("decord")
class DecordBackend:
    """decord's reader: local files only; no AV1, no transport streams, no mirrored clips, no animations.

    It decodes every frame up to the last one wanted, so it is slow on long clips.
    """

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
        found = survey(clip, request)
        timeline, facts = found.timeline, found.facts
        reason = _cannot(found)
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
            frames = torch.from_numpy(_take(reader, chosen))
        except decord.DECORDError as error:
            lines = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise MediaError(
                f"video={clip.name!r}: decord failed ({lines[0]}); use backend='pyav'"
            ) from error
        if frames.shape[-1] != 3:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' garbles turned clips of this size; use backend='pyav'"
            )
        return VideoFrames.on(timeline, chosen, frames, "decord", clip.name, stream_notes(facts))


def _cannot(found: Survey) -> str | None:
    facts = found.facts
    if facts.codec in UNREADABLE:
        return facts.codec
    if facts.container == "mpegts":
        return "transport streams (it returns other frames than were asked for)"
    if facts.others:
        return "files with several video streams (it chooses one by itself)"
    return "mirrored clips (it shows them as stored)" if is_mirrored(found.matrix) else None


def _take(reader: Any, chosen: list[int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 (frame, height, width, 3) of the chosen frames, read from the start on.

    decord's own `get_batch`, `seek` and `skip_frames` return neighbours of the frame asked for where groups of pictures
    are open, near the end of a clip, and in FLV, AVI, ASF and MPEG files. One frame after the other is always right.
    """
    wanted, kept = set(chosen), []
    for position in range(chosen[-1] + 1):
        frame = reader.next()
        if position in wanted:
            kept.append(frame.asnumpy())
    return np.stack(kept)


def _import_decord() -> Any:
    try:
        import decord
    except ImportError as error:
        raise MediaError(
            "backend='decord': decord is not installed; pip install decord, or use 'pyav'"
        ) from error
    return decord

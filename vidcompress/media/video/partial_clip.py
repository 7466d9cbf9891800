"""Partially decoded clip: metadata and the number of frames that are ready."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import NamedTuple

from vidcompress.media.video.frames import VideoFrames


class PartialClip(NamedTuple):
    """Partially decoded clip.

    Attributes:
        clip: its metadata and its block of frames, which has the size of the whole clip and is still being filled.
        ready: number of decoded frames, from the first on.
    """

    clip: VideoFrames
    ready: int


PartialClips = Generator[PartialClip, None, None]


class Reread(Exception):
    """Error: the packets of a clip did not lead to its frames, so its metadata may be wrong; decode all of it."""

    def __init__(self) -> None:
        super().__init__("the packets of a clip did not lead to its frames; it has to be read from its start")


def whole(parts: Iterable[PartialClip]) -> VideoFrames:
    """The whole clip: that of the last of its parts.

    Raises:
        RuntimeError: the last part is not whole, which is a mistake of the reader.
    """
    last: PartialClip | None = None
    for part in parts:
        last = part
    if last is None or last.ready != len(last.clip):
        raise RuntimeError("a reader ended before its clip was there; this is a mistake, please report it")
    return last.clip

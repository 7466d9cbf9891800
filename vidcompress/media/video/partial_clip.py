"""A clip while it is being read: what is known of it, and how many of its frames are there."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import NamedTuple

from vidcompress.media.video.frames import VideoFrames


class Part(NamedTuple):
    """What there is of a clip.

    Attributes:
        clip: all that is known of it; its block of frames is that of the whole clip and is still being filled.
        ready: how many frames are there, from the first on.
    """

    clip: VideoFrames
    ready: int


Parts = Generator[Part, None, None]


class Reread(Exception):
    """What was said of a clip so far may not hold: its packets did not lead to its frames, so read all of it."""

    def __init__(self) -> None:
        super().__init__("the packets of a clip did not lead to its frames; it has to be read from its start")


def whole(parts: Iterable[Part]) -> VideoFrames:
    """The clip when all of it is there.

    Raises:
        RuntimeError: the last part is not whole, which is a mistake of whoever made it.
    """
    last: Part | None = None
    for part in parts:
        last = part
    if last is None or last.ready != len(last.clip):
        raise RuntimeError("a reader ended before its clip was there; this is a mistake, please report it")
    return last.clip

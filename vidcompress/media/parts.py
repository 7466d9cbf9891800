"""A clip while it is being read: what is known of it, and how many of its frames are there."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import NamedTuple

from .backends import Request, open_source
from .errors import DEFAULT_MAX_FRAMES
from .sampling import check_request
from .video import VideoFrames, VideoSource, is_encoded, noted, read_video, reader_of, with_default


class Part(NamedTuple):
    """What there is of a clip.

    Attributes:
        clip: all that is known of it; its block of frames is that of the whole clip and is still being filled.
        ready: how many frames are there, from the first on.
    """

    clip: VideoFrames
    ready: int


class Reread(Exception):
    """What was said of a clip so far may not hold: its packets did not lead to its frames, so read all of it."""


def whole(parts: Iterable[Part]) -> VideoFrames:
    """The clip when all of it is there.

    Raises:
        RuntimeError: there are no parts, which is a mistake of whoever made them.
    """
    last: Part | None = None
    for part in parts:
        last = part
    if last is None or last.ready != len(last.clip):
        raise RuntimeError("a reader ended before its clip was there; this is a mistake, please report it")
    return last.clip


def read_parts(
    source: VideoSource,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    max_frames: int = DEFAULT_MAX_FRAMES,
    backend: str = "auto",
    default_frames: int | None = None,
) -> Generator[Part, None, None]:
    """Read a clip as `read_video` does, and say after every frame what there is of it.

    Backends with a method `parts` are followed frame by frame; all other clips come in one part.

    Args:
        source, num_frames, fps, max_frames, backend, default_frames: as for `read_video`.

    Yields:
        Parts of one and the same block of frames; the last one is the whole clip, with all its notes.

    Raises:
        MediaError: as `read_video`, when it is found.
        Reread: the clip has to be read by `read_video`.
    """
    if is_encoded(source):
        check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
        request = with_default(Request(num_frames, fps, max_frames), default_frames)
        with open_source(source) as clip:
            reader = reader_of(clip, backend)
            if hasattr(reader, "parts"):
                with closing(reader.parts(clip, request)) as parts:
                    for part in parts:
                        yield part
                yield Part(noted(part.clip, request), part.ready)
                return
    made = read_video(
        source,
        num_frames=num_frames,
        fps=fps,
        max_frames=max_frames,
        backend=backend,
        default_frames=default_frames,
    )
    yield Part(made, len(made))

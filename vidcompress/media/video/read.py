"""Reading of clips: sampled frames by `read_video`, decoded by one of `backends`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from vidcompress.checks import (
    DEFAULT_MAX_FRAMES,
    MAX_DECODED_BYTES,
    MAX_FRAME_PIXELS,
    MAX_SOURCE_FRAMES,
    positive,
    whole_number,
)
from vidcompress.errors import MediaError, SamplingError, shown
from vidcompress.media.files import ArrayLike, FileSource, is_encoded, is_path
from vidcompress.media.images.image import ImageSource
from vidcompress.media.video.backends import BackendName, get_backend, open_source, reader_of
from vidcompress.media.video.frames import FileFrames, VideoFrames, noted, whole
from vidcompress.media.video.sampling import Request, SamplingRule, check_request, pick

logger = logging.getLogger(__name__)

LIST = "<list of pictures>"

VideoSource: TypeAlias = FileSource | Sequence[ImageSource] | ArrayLike | VideoFrames
"""A path, bytes, a binary file object, a folder of pictures, a list of pictures, a uint8 array, or VideoFrames."""


def read_video(
    source: VideoSource,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    max_frames: int = DEFAULT_MAX_FRAMES,
    backend: BackendName = "auto",
    default_frames: int | None = None,
    rule: SamplingRule | None = None,
    source_fps: float = 1.0,
    max_pixels: int = MAX_FRAME_PIXELS,
    max_source_frames: int = MAX_SOURCE_FRAMES,
    max_bytes: int = MAX_DECODED_BYTES,
) -> VideoFrames:
    """Sample frames evenly from a clip.

    Args:
        source: a local video file (str or PathLike), its bytes (bytes, bytearray, memoryview) or a seekable binary file
            object; or pictures as frames: a folder of them (png, jpg, webp, bmp, tif, avif, ppm; in
            natural name order; hidden and all other files are left out), a list of sources for `load_image`, a
            uint8 array or tensor (frame, height, width, 3) or (frame, 3, height, width), or VideoFrames.
        num_frames: number of frames, 1 to `max_frames`, spread from the first to the last. A shorter clip gives all of
            its frames. With neither this nor `fps`, `default_frames` are taken from a file and all from pictures.
        fps: frames per second of clip time, in place of `num_frames`; where these are more than `max_frames`, that
            many are spread over the whole clip, with a note.
        max_frames: the most frames to return; `VideoFrames` are returned as they are unless sampling is requested.
        backend: "auto" (PyAV; Pillow for WebP, AVIF and TIFF), "pyav", "decord", "torchcodec" or "pillow". One that can
            read a clip returns the same frames at the same times; one that cannot raises, and nothing falls back.
        default_frames: see `num_frames`; 32 unless a checkpoint states another number.
        rule: a family's sampling rule, in place of `default_frames`; a processor's `frame_rule`.
        source_fps: frame rate of pictures, which have no clock of their own. Files state theirs.
        max_pixels: largest height x width of a frame.
        max_source_frames: longest clip that is indexed, in frames.
        max_bytes: most memory of the returned frames.

    Returns:
        The frames with their times, counted from the first frame, whatever start time the file states.

        - A file is listed once without decoding; then only the segments that lead to the sampled frames are decoded,
          and only sampled frames are converted. The frames equal those of decoding everything.
        - Quarter turns and mirroring stored in the file are applied; other angles and non-square pixels are left.
        - In a file of clips joined end to end, with time stamps that start again, each part follows the one
          before it, with a note.
        - Fields of interlaced video are left interleaved. Frames that an edit list hides do not count.
        - Colours follow the matrix and range that the file states (BT.601 where it states none), reduced to 8 bits;
          HDR is not tone-mapped. Transparency lies over white, in videos as in pictures.
        - Of several video streams the default one is read, else the first; attached cover pictures do not count.
        - Frames whose size differs from the first kept one are scaled to it. Pictures of a list or folder must agree.
        - A picture file that holds several frames is a clip: an animated GIF, PNG, WebP or AVIF, a sequence in HEIF, a
          TIFF with pages of one size. A still is refused in every format and by every backend: pass it as an image, or
          in a list as the frame of a clip. Only GIF counts as a video format in which one frame is a clip too.
        - A file object is read from its beginning and its position is restored.

    Raises:
        MediaError: the source is missing, empty, a URL (also `file://`), a play list, a pipe or device, a folder
            without pictures, not a video, damaged or cut short; over a limit; not served by `backend`; or an argument
            is out of range.
    """
    check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
    if default_frames is not None:
        whole_number("default_frames", default_frames, error=SamplingError)
    if rule is not None and not isinstance(rule, SamplingRule):
        raise SamplingError(
            f"rule={shown(rule)}: must be a SamplingRule, as a processor's frame_rule, or None"
        )
    positive("source_fps", source_fps, "frames per second", error=SamplingError)
    get_backend(backend)
    rule = rule if rule is not None else SamplingRule(default_frames)
    request = Request(num_frames, fps, max_frames, max_pixels, max_source_frames, max_bytes, rule)
    if isinstance(source, FileFrames):
        source = source.read()
    if isinstance(source, VideoFrames):  # sampled already: only an explicit request samples it again
        return source if num_frames is None and fps is None else _subsample(source, request)
    if is_path(source) and os.path.isdir(source):
        from vidcompress.media.video.in_memory import from_folder

        return whole(from_folder(os.fsdecode(source), request, source_fps))
    if is_encoded(source):
        return _from_file(source, request, backend)
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


def _from_file(source: Any, request: Request, backend: str) -> VideoFrames:
    with open_source(source) as clip:
        frames = noted(reader_of(clip, backend).read(clip, request), request)
        logger.debug("read %r", frames)
        return frames


def _subsample(clip: VideoFrames, request: Request) -> VideoFrames:
    """Sample frames that are in memory already."""
    chosen, notes = pick(len(clip), clip.fps, request)
    if len(chosen) == len(clip):
        return replace(clip, notes=(*clip.notes, *notes))
    times = tuple(clip.times[i] for i in chosen)
    return replace(clip, frames=clip.frames[chosen], times=times, notes=(*clip.notes, *notes))

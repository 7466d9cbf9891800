"""Reader of animated WebP and AVIF, and TIFF of several pages, with Pillow; GIF and APNG as well.

FFmpeg reads WebP, AVIF and TIFF in part or not at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vidcompress.errors import MediaError
from vidcompress.media.files import Clip
from vidcompress.media.images.image import FORMATS
from vidcompress.media.images.rgb import to_rgb
from vidcompress.media.images.tiff import black_is_zero, grey_levels
from vidcompress.media.orientation import IDENTITY, exif_matrix, upright
from vidcompress.media.sniff import STILL
from vidcompress.media.video.backends import register_backend
from vidcompress.media.video.frames import Timeline, VideoFrames
from vidcompress.media.video.sampling import Request

DEFAULT_DELAY = 0.1
"""Seconds that a frame without a duration is shown, as in browsers."""


@register_backend("pillow")
class PillowBackend:
    """Reader of Pillow's animations: transparency over white, one time per frame from its delay."""

    def read(self, clip: Clip, request: Request) -> VideoFrames:
        """Decode the requested frames.

        Raises:
            MediaError: not an animation that Pillow reads, damaged, or over a limit of `request`.
        """
        from PIL import Image, UnidentifiedImageError

        Image.init()
        try:
            with clip.opened() as stream:
                shown, turned = black_is_zero(stream)
                with Image.open(shown, formats=_formats()) as picture:
                    return _read(picture, clip, request, turned)
        except MediaError:
            raise
        except Image.DecompressionBombError as error:
            raise MediaError(f"video={clip.name!r} is larger than Pillow accepts: {error}") from error
        except UnidentifiedImageError as error:  # its text has only the address of the stream
            raise MediaError(
                f"video={clip.name!r} is not an animation that Pillow reads, or is damaged or cut short; "
                "fetch it again, or use backend='pyav'"
            ) from error
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MediaError(
                f"video={clip.name!r} is not an animation that Pillow reads, or is damaged or cut short ({reason}); "
                "fetch it again, or use backend='pyav'"
            ) from error


def _formats() -> list[str]:
    from PIL import Image

    return [name for name in FORMATS if name in Image.OPEN]


def _read(picture: Any, clip: Clip, request: Request, turned: frozenset[int]) -> VideoFrames:
    width, height = picture.size
    request.check_picture(clip.name, height, width)
    total = int(getattr(picture, "n_frames", 1))
    if (total == 1 and picture.format != "GIF") or picture.format == "MPO":  # MPO: one picture for each eye
        raise MediaError(f"video={clip.name!r} {STILL}")
    request.check_length(clip.name, total)
    # Pillow applies the orientation of TIFF itself.
    matrix = exif_matrix(picture) if picture.format in ("PNG", "WEBP", "AVIF") else IDENTITY
    timeline = _timeline(picture, total)
    chosen = timeline.choose(request)
    request.check_memory(clip.name, len(chosen), height, width)
    block = np.empty((len(chosen), height, width, 3), dtype=np.uint8)
    for row, position in zip(block, chosen, strict=True):
        picture.seek(position)
        request.check_picture(clip.name, *picture.size[::-1])
        if picture.size != (width, height):
            raise MediaError(
                f"video={clip.name!r}: page {position} is {picture.size[::-1]}, the first one {(height, width)} "
                "(height, width), so they are no frames of one clip; pass it as image=, which takes the first page"
            )
        row[...] = np.asarray(to_rgb(picture, picture.format, grey_levels(picture, turned)))
    if matrix != IDENTITY:
        block = np.stack([upright(row, matrix) for row in block])
    return VideoFrames.on(timeline, chosen, torch.from_numpy(block), "pillow", clip.name)


def _timeline(picture: Any, total: int) -> Timeline:
    """Read the animation once for its delays, which some formats state only for a decoded frame."""
    delays = []
    for position in range(total):
        picture.seek(position)
        picture.load()
        delays.append(float(picture.info.get("duration") or 0.0) / 1000 or DEFAULT_DELAY)
    ends = np.cumsum(delays, dtype=np.float64)
    return Timeline(np.concatenate([[0.0], ends[:-1]]), float(ends[-1]), total / float(ends[-1]))

"""Uploaded pictures and clips: how large they may be, what kind they are, and how they look in small."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vidcompress.errors import MediaError, VidcompressError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 100 * 1024**2
"""Largest file, in bytes."""
MAX_PIXELS = 50_000_000
"""Largest picture, height x width in pixels."""
MAX_FRAME_PIXELS = 4096 * 2304
"""Largest frame of a clip, height x width in pixels."""
MAX_SECONDS = 30 * 60
"""Longest clip, in seconds."""
MAX_CLIP_FRAMES = 60 * MAX_SECONDS
"""Longest clip, in frames."""
MAX_CLIP_BYTES = 1024**3
"""Most memory of the frames taken from a clip, in bytes."""
LIMITS = (
    f"Files up to {MAX_BYTES // 1024**2} MiB; pictures up to {MAX_PIXELS // 10**6} megapixels, clips up to "
    f"{MAX_SECONDS // 60} minutes."
)

Kind = Literal["image", "video"]


@dataclass(frozen=True)
class Upload:
    """Uploaded file that was checked.

    Attributes:
        kind: what it is by its content.
        content: the PIL image, or `VideoFrames`.
    """

    kind: Kind
    content: Any


def open_upload(path: str, sampling: Mapping[str, Any]) -> Upload:
    """Check an uploaded file and open it.

    Args:
        path: of the file.
        sampling: arguments of `read_video` that say which frames of a clip are taken.

    Raises:
        MediaError: it is no picture and no clip, is damaged, or is over a limit; the message has its name without its
            folder.
    """
    from vidcompress.media.images.image import load_image
    from vidcompress.media.kind import media_kind
    from vidcompress.media.video.read import read_video

    name = Path(path).name
    try:
        if not os.path.isfile(path):
            raise MediaError(f"{name!r} is not on the server any more; upload it again")
        if os.path.getsize(path) > MAX_BYTES:
            raise MediaError(f"{name!r} has more than {MAX_BYTES // 1024**2} MiB; cut it or make it smaller")
        if media_kind(path) == "image":
            return Upload("image", load_image(path, max_pixels=MAX_PIXELS))
        clip = read_video(
            path,
            **sampling,
            max_pixels=MAX_FRAME_PIXELS,
            max_source_frames=MAX_CLIP_FRAMES,
            max_bytes=MAX_CLIP_BYTES,
        )
        if clip.duration > MAX_SECONDS:
            raise MediaError(
                f"{name!r} lasts {clip.duration / 60:.0f} minutes, more than {MAX_SECONDS // 60}; cut it first"
            )
        return Upload("video", clip)
    except VidcompressError as error:
        raise MediaError(without_folder(str(error), path)) from error


def without_folder(message: str, path: str) -> str:
    """Return a message in which a file has its name only, and no advice on options that a page does not have."""
    message = message.replace(path, Path(path).name) if path else message
    message = message.removeprefix("media=")
    for option in ("; pass it as image= (--image)", " (--video)", ", or raise max_pixels if you trust it"):
        message = message.replace(option, "")
    return message


def small_pictures(upload: Upload, most: int = 8) -> list[tuple[str, str]]:
    """Return small pictures of an upload, as data URIs with captions: the picture, or frames of the clip.

    Args:
        upload: from `open_upload`.
        most: frames of a clip.
    """
    from PIL import Image

    if upload.kind == "image":
        picture = upload.content
        return [(data_uri(picture, 640), f"{picture.width} x {picture.height} pixels")]
    clip = upload.content
    last, few = len(clip) - 1, min(most, len(clip))
    chosen = [round(place * last / max(1, few - 1)) for place in range(few)]
    frames = clip.frames.cpu().numpy()
    return [(data_uri(Image.fromarray(frames[i]), 240), f"{clip.times[i]:.1f} s") for i in chosen]


def data_uri(picture: Image, side: int) -> str:
    """Return a picture as a JPEG in a data URI.

    Args:
        picture: an RGB image, which stays as it is.
        side: longest side in pixels; a smaller picture keeps its size.
    """
    small = picture.copy()
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.convert("RGB").save(out, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()

"""Kind of a media file, picture or clip, by its content."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

from vidcompress.checks import DEFAULT_MAX_FRAMES
from vidcompress.errors import MediaError
from vidcompress.media.files import Clip, local_path
from vidcompress.media.images.image import FORMATS
from vidcompress.media.sniff import instead_of_picture, instead_of_video, is_still
from vidcompress.media.video.container import open_clip
from vidcompress.media.video.mp4_guard import check_tables
from vidcompress.media.video.sampling import Request

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["image", "video"]


def media_kind(source: str | os.PathLike[Any]) -> Kind:
    """Return the kind of a file by its content, not its name. Headers are read, Pillow's formats before FFmpeg's.

    A file with several frames is a clip in every format that `read_video` reads: an animated GIF, PNG, WebP or AVIF, a
    sequence in HEIF, a TIFF with pages of one size. A GIF with one frame is a picture. A folder is a clip whose frames
    are pictures.

    Args:
        source: path of a file or folder.

    Raises:
        MediaError: the file cannot be opened, or it is neither picture nor clip.
    """
    if os.path.isdir(source):
        return "video"
    path = local_path(source, "media")
    clip = Clip(name=path, path=os.path.abspath(path))
    with clip.opened() as stream:
        still = is_still(stream)
    kind = _kind_of_picture(clip, still)
    if kind is not None:
        return kind
    head = clip.head()
    if still and instead_of_picture(head) is None:  # a format that Pillow reads; loading reports the damage
        return "image"
    try:
        with clip.opened() as stream:
            check_tables(stream, path)
        if not still:
            with open_clip(clip, Request(None, None, DEFAULT_MAX_FRAMES)):
                return "video"
        error = None
    except MediaError as caught:
        error = caught
    reason = instead_of_picture(head) or instead_of_video(head)
    if error is not None and (reason is None or reason.startswith("is a video")):
        opened = "not a video in a known format" not in str(error)
        if opened or reason is not None:  # FFmpeg knows the format and reports the error
            raise error
        reason = None
    reason = (
        reason or "is neither a picture nor a clip in a known format; check it, or convert it to PNG or MP4"
    )
    raise MediaError(f"media={path!r} {reason}") from error


def _kind_of_picture(clip: Clip, still: bool) -> Kind | None:
    """Return the kind of a file that Pillow opens, also with damaged pixels; None for any other file."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    with clip.opened() as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of size; loading refuses large pictures
        try:
            with Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
                if picture.format == "JPEG" and not still:
                    return "video"  # raw Motion-JPEG
                return "image" if still or picture.format == "MPO" or not _has_frames(picture) else "video"
        except UnidentifiedImageError:
            return None
        except Exception:  # noqa: BLE001  (a damaged header raises anything; loading reports it)
            return "image"


def _has_frames(picture: Image) -> bool:
    """Whether an open picture holds several frames; pages of a TIFF are frames where they have one size."""
    if not getattr(picture, "is_animated", False):
        return False
    first = picture.size
    if picture.format == "TIFF":
        picture.seek(1)
    return picture.size == first

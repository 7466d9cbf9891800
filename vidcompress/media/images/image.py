"""Still pictures of any format as upright 8-bit RGB images."""

from __future__ import annotations

from typing import BinaryIO, TypeAlias

from PIL.Image import Image

from vidcompress.checks import MAX_FRAME_PIXELS, MAX_SIDE, whole_number
from vidcompress.errors import MediaError, one_line
from vidcompress.media.files import BUFFERS, ArrayLike, FileSource, borrowed, is_path, local_path
from vidcompress.media.images.rgb import picture_from_array, scale_key, to_rgb
from vidcompress.media.images.tiff import black_is_zero, grey_levels
from vidcompress.media.sniff import HEAD_BYTES, TIFF, instead_of_picture

__all__ = ["ImageSource", "load_image", "local_path"]

ImageSource: TypeAlias = FileSource | Image | ArrayLike
"""A path, bytes, a binary file object, a PIL image, or a uint8 array or tensor (height, width[, channel])."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are opened. Others run programs (EPS), hold pictures whose size is not in the
header (ICO, ICNS), or have no magic bytes."""

NOTE = "vidcompress_note"
"""Key in a picture's `info` of a note on its loading."""


def load_image(source: ImageSource, *, max_pixels: int = MAX_FRAME_PIXELS) -> Image:
    """Load one picture as RGB.

    Args:
        source: a local path (str or PathLike), bytes, a binary file object, a PIL image, or a uint8 numpy array or
            torch tensor of shape (height, width), (height, width, channel) or (channel, height, width) with 1, 3
            or 4 channels, values 0 to 255.
        max_pixels: the largest height x width. It is checked on the header, before anything is decoded.

    Returns:
        A PIL image in mode RGB.

        - Files and bytes are turned upright by their EXIF orientation (a broken EXIF block is ignored); a PIL image
          or array is not turned, since the caller may have done so.
        - Transparency is laid over white, as transformers 5.23 does.
        - 16-bit grey is scaled to 8 bits (65535 is white, or 0 where a TIFF says so; 4095 of 12 bits); 32-bit integers,
          signed ones and floats are refused, because their white value is not known.
        - CMYK and LAB are converted by Pillow's formulas (CMYK JPEG is read as inverted, as Adobe writes it). Colour
          profiles are ignored, as transformers does.
        - Of an animation or a file of several pages, the first frame is taken, with a note in
          `picture.info["vidcompress_note"]`; `read_video` returns the whole animation.
        - A file object is read from its beginning and its position is restored; one that cannot seek is buffered, up
          to 256 MiB.

    Raises:
        MediaError: the file is missing, is a directory, is empty or is no picture; it is damaged, cut short or too
            large; the array has another shape or dtype; or `source` is a URL (also `file://`) or of another type.
    """
    from PIL import Image

    whole_number("max_pixels", max_pixels, error=MediaError)
    if isinstance(source, Image.Image):
        return _finish(source, "image", max_pixels)
    if is_path(source):
        path = local_path(source, "image")
        with open(path, "rb") as stream:
            return _decode(stream, path, max_pixels)
    if isinstance(source, BUFFERS) or hasattr(source, "read"):
        with borrowed(source, "image", buffer=True) as (stream, name):
            return _decode(stream, name, max_pixels)
    if hasattr(source, "__array__") or hasattr(source, "numpy"):
        return _finish(picture_from_array(source), "image", max_pixels)
    raise MediaError(
        f"image: got {type(source).__name__}; pass a path, bytes, a binary file object, a PIL image or a uint8 array"
    )


def _decode(stream: BinaryIO, name: str, max_pixels: int) -> Image:
    from PIL import Image, UnidentifiedImageError

    called = f"image={name!r}"
    Image.init()
    try:
        shown, turned = black_is_zero(stream) if _is_tiff(stream) else (stream, frozenset[int]())
        with Image.open(shown, formats=[f for f in FORMATS if f in Image.OPEN]) as picture:
            return _finish(picture, called, max_pixels, upright=True, turned=turned)
    except MediaError:
        raise
    except UnidentifiedImageError as error:
        stream.seek(0)
        formats = "PNG, JPEG, WebP, GIF, BMP, TIFF, JPEG 2000, PPM or AVIF"
        other = (
            instead_of_picture(stream.read(HEAD_BYTES))
            or f"is not a picture in a known format ({formats}); check it, or convert it"
        )
        raise MediaError(f"{called} {other}") from error
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"{called} is larger than Pillow accepts ({one_line(error)}); make it smaller"
        ) from error
    except MemoryError as error:
        raise MediaError(
            f"{called} asks for more memory than there is; it is damaged or too large, fetch it again"
        ) from error
    except Exception as error:
        raise MediaError(
            f"{called} is damaged or cut short ({_first_line(error)}); fetch it again"
        ) from error


def _is_tiff(stream: BinaryIO) -> bool:
    """Whether a file begins as a TIFF; its position is reset to the beginning."""
    stream.seek(0)
    head = stream.read(4)
    stream.seek(0)
    return head in TIFF


def _finish(
    picture: Image,
    called: str,
    max_pixels: int,
    *,
    upright: bool = False,
    turned: frozenset[int] = frozenset(),
) -> Image:
    """Check the size, decode, turn and convert."""
    _check_size(picture, called, max_pixels)
    levels = grey_levels(picture, turned) if hasattr(picture, "tag_v2") else (0, 65535)
    scale_key(picture)
    try:
        first_of_many = getattr(picture, "is_animated", False) and picture.format != "MPO"
        picture.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise MediaError(
            f"{called} is damaged or cut short ({_first_line(error)}); fetch it again"
        ) from error
    rgb = to_rgb(_turned(picture) if upright else picture, picture.format, levels)
    if first_of_many:
        rgb = rgb.copy() if rgb is picture else rgb
        rgb.info[NOTE] = "the first frame of several was taken; pass the file as video= to show them all"
    return rgb


def _turned(picture: Image) -> Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # noqa: BLE001  (a broken EXIF block raises anything; the pixels are good)
        return picture


def _check_size(picture: Image, name: str, max_pixels: int) -> None:
    width, height = picture.size
    if width < 1 or height < 1:
        raise MediaError(
            f"{name}: height {height} x width {width} holds no pixel; pass a picture of at least 1 x 1"
        )
    if width * height > max_pixels:
        raise MediaError(
            f"{name}: {height} x {width} is {height * width} pixels, more than max_pixels={max_pixels}; "
            "make it smaller, or raise max_pixels if you trust it"
        )
    if max(width, height) > MAX_SIDE:
        raise MediaError(f"{name}: {height} x {width} has a side of more than {MAX_SIDE} pixels; cut it up")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""Any still picture, as an upright 8-bit RGB image."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO

from ..checks import whole_number
from ..errors import one_line
from .errors import MAX_FRAME_PIXELS, MediaError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

ImageSource = Any
"""A path, bytes, a binary file object, a PIL image, or a uint8 array or tensor (height, width[, channel])."""


def load_image(source: ImageSource, *, max_pixels: int = MAX_FRAME_PIXELS) -> Image:
    """Load one picture as RGB.

    Args:
        source: a local path (str or PathLike), bytes, a binary file object, a PIL image, or a uint8 numpy array or
            torch tensor of shape (height, width), (height, width, channel) or (channel, height, width) with 1, 3
            or 4 channels, values 0 to 255.
        max_pixels: the largest height x width accepted. It is checked on the header, before anything is decoded.

    Returns:
        A PIL image in mode RGB. Transparency is laid over white, as transformers does. Files and bytes are turned
        upright by their EXIF orientation; a PIL image or array is taken as it is, since its owner may have done so.

    Raises:
        MediaError: the file is missing, is a directory, is empty or is no picture; it is damaged or too large;
            the array has another shape or dtype; or `source` is a URL or of another type.
    """
    from PIL import Image

    whole_number("max_pixels", max_pixels, error=MediaError)
    if isinstance(source, Image.Image):
        _check_size(source, "image", max_pixels)
        return _to_rgb(source)
    if hasattr(source, "__array__") or hasattr(source, "numpy"):
        return _from_array(source, max_pixels)
    if isinstance(source, (bytes, bytearray)):
        if not source:
            raise MediaError("image: got 0 bytes; read the file again and pass its content")
        return _decode(io.BytesIO(source), f"<{len(source)} bytes>", max_pixels)
    if isinstance(source, (str, os.PathLike)):
        path = local_path(source, "image")
        with open(path, "rb") as stream:
            return _decode(stream, path, max_pixels)
    if hasattr(source, "read"):
        return _decode(source, getattr(source, "name", "<file object>"), max_pixels)
    raise MediaError(
        f"image: got {type(source).__name__}; pass a path, bytes, a binary file object, a PIL image or a uint8 array"
    )


def local_path(source: str | os.PathLike[Any], argument: str) -> str:
    """Check that `source` names a readable, non-empty local file and return it as a string.

    Raises:
        MediaError: naming `argument`, when it is a URL, missing, a directory, not a regular file, or empty.
    """
    path = os.fsdecode(source)
    if not os.path.exists(path):
        if "://" in path or path.startswith("data:"):
            raise MediaError(
                f"{argument}={path[:120]!r}: URLs are not opened; download it and pass the local file"
            )
        raise MediaError(f"{argument}={path!r}: no such file; check the path (current folder: {os.getcwd()})")
    if os.path.isdir(path):
        raise MediaError(f"{argument}={path!r} is a folder; pass a file inside it")
    if not os.path.isfile(path):
        raise MediaError(
            f"{argument}={path!r} is not a regular file; copy its content to a file and pass that"
        )
    if not os.access(path, os.R_OK):
        raise MediaError(f"{argument}={path!r} may not be read by this user; change its permissions")
    if os.path.getsize(path) == 0:
        raise MediaError(f"{argument}={path!r} is empty (0 bytes); fetch or write it again")
    return path


def _decode(stream: BinaryIO, name: str, max_pixels: int) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(stream) as picture:
            _check_size(picture, f"image={name!r}", max_pixels)
            picture.load()
            return _to_rgb(ImageOps.exif_transpose(picture))
    except MediaError:
        raise
    except UnidentifiedImageError as error:
        raise MediaError(
            f"image={name!r} is not a picture in a known format (PNG, JPEG, WebP, ...); check it, or convert it"
        ) from error
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"image={name!r} is larger than Pillow accepts ({one_line(error)}); make it smaller"
        ) from error
    except MemoryError as error:
        raise MediaError(
            f"image={name!r} asks for more memory than there is; it is damaged or too large, fetch it again"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise MediaError(f"image={name!r} is damaged or cut short ({error}); fetch it again") from error


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


def _to_rgb(picture: Image) -> Image:
    from PIL import Image

    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def _from_array(source: Any, max_pixels: int) -> Image:
    import numpy as np
    from PIL import Image

    # A tensor on an accelerator refuses __array__; detach and cpu are no-ops where they are not needed.
    array: np.ndarray[Any, Any] = np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)
    if array.dtype != np.uint8:
        raise MediaError(f"image: array of dtype {array.dtype}; pass uint8 with values 0 to 255")
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise MediaError(
            f"image: array of shape {array.shape}; pass (height, width) or (height, width, 1, 3 or 4)"
        )
    if 0 in array.shape:
        raise MediaError(
            f"image: array of shape {array.shape} holds no pixel; pass a picture of at least 1 x 1"
        )
    picture = Image.fromarray(np.ascontiguousarray(array))
    _check_size(picture, "image", max_pixels)
    return _to_rgb(picture)

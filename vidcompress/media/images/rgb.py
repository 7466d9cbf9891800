"""Conversion of any Pillow mode and any array to 8-bit RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidcompress.errors import MediaError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

_HINTS = {
    "bool": "x.astype('uint8') * 255",
    "uint16": "(x // 257).astype('uint8') where white is 65535",
    "float": "(x * 255).round().astype('uint8') where white is 1.0",
}


def to_rgb(picture: Image, kind: str | None = None, levels: tuple[int, int] = (0, 65535)) -> Image:
    """Convert a loaded picture to mode RGB, transparency over white.

    Args:
        picture: of any mode.
        kind: Pillow's name of its file format, if any.
        levels: of black and of white in grey of more than 8 bits; for grey with transparency only their order counts.

    Raises:
        MediaError: the mode has no stated range (I, F).
    """
    from PIL import Image, ImageChops

    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I") or picture.mode == "F":
        return _from_deep(picture, kind, levels).convert("RGB")
    if picture.mode == "LA" and levels[0] > levels[1]:
        grey, alpha = picture.split()
        picture = Image.merge("LA", (ImageChops.invert(grey), alpha))
    if picture.mode in ("RGBa", "La"):  # colours multiplied by alpha
        picture = picture.convert(picture.mode.upper())
    # The A of LAB is not alpha. Only these modes can have a transparent colour.
    keyed = "transparency" in picture.info and picture.mode in ("1", "L", "P", "RGB")
    if picture.mode not in ("LA", "PA", "RGBA") and not keyed:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def _from_deep(picture: Image, kind: str | None, levels: tuple[int, int]) -> Image:
    """Convert 16 bits to 8, rounded. Pillow's own conversion clips at 255, which turns most pictures white."""
    import numpy as np
    from PIL import Image

    # Older Pillow opens 16-bit PNG as "I"; PGM comes as "I" scaled to 65535, PFM, whose levels may be any, as "F".
    if not picture.mode.startswith("I;16") and (picture.mode == "F" or kind not in ("PNG", "PPM")):
        raise MediaError(
            f"image: mode {picture.mode} (32 bits per pixel) has no stated range; "
            "scale it to 8 bits first, for example Image.fromarray((x * 255).astype('uint8')) for x from 0 to 1"
        )
    stored = np.asarray(picture).astype(np.int64)
    black, white = levels
    shares = ((stored - black) * (1 if white > black else -1)).clip(0, span := abs(white - black))
    grey = ((shares * 255 + span // 2) // span).astype(np.uint8)
    if "transparency" in picture.info:  # one level of a PNG
        grey[stored == picture.info["transparency"]] = 255
    return Image.fromarray(grey)


def scale_key(picture: Image) -> None:
    """Scale the transparent level of a grey PNG of 2 or 4 bits to 8, as its pixels are; Pillow leaves it as stored.

    Args:
        picture: opened and not loaded.
    """
    tile: Any = (getattr(picture, "tile", None) or [()])[0]
    times = {"L;2": 85, "L;4": 17}.get(tile[3] if len(tile) == 4 and isinstance(tile[3], str) else "")
    key = picture.info.get("transparency")
    if picture.format == "PNG" and times and isinstance(key, int):
        picture.info["transparency"] = key * times


def check_uint8(source: Any, argument: str) -> None:
    """Refuse an array or tensor that does not hold levels of 8 bits; the message has the conversion.

    Raises:
        MediaError: naming the dtype.
    """
    name = str(getattr(source, "dtype", type(source).__name__)).removeprefix("torch.")
    if name == "uint8":
        return
    hint = _HINTS.get("float" if "float" in name else name)
    more = f", for example {hint}" if hint else ""
    raise MediaError(f"{argument}: array of dtype {name}; pass uint8 with values 0 to 255{more}")


def as_array(source: Any, argument: str) -> np.ndarray[Any, Any]:
    """Return a uint8 numpy array of an array, a tensor on any device, or an object that numpy converts.

    Raises:
        MediaError: another dtype.
    """
    import numpy as np

    if hasattr(source, "detach"):
        check_uint8(source, argument)
        return np.asarray(source.detach().cpu())
    array = np.asarray(source)
    check_uint8(array, argument)
    return array


def picture_from_array(source: Any) -> Image:
    """Make a Pillow image of a uint8 array (height, width), (height, width, channel) or (channel, height, width).

    Raises:
        MediaError: another dtype or shape.
    """
    import numpy as np
    from einops import rearrange
    from PIL import Image

    array = as_array(source, "image")
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = rearrange(array, "c h w -> h w c")
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        several = "; a clip is passed as video" if array.ndim == 4 else ""
        raise MediaError(
            f"image: array of shape {array.shape}; pass (height, width) or (height, width, 1, 3 or 4){several}"
        )
    if 0 in array.shape:
        raise MediaError(
            f"image: array of shape {array.shape} holds no pixel; pass a picture of at least 1 x 1"
        )
    return Image.fromarray(np.ascontiguousarray(array))

"""Pictures and frames to encoder input: resize, lay out, cut, normalise; whole crops and frames at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange

from vidcompress.adapters.families import Geometry
from vidcompress.adapters.layouts import Size, fit_inside
from vidcompress.core.devices import upload
from vidcompress.media.preprocessing.pixel_config import PixelRecipe
from vidcompress.media.preprocessing.resize import center_crop, normalise, resize

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK_PIXELS = 16 * 1024 * 1024
"""Source pixels that are resized in one go; about 200 MB at most on the float32 path."""


def image_views(picture: torch.Tensor, geometry: Geometry, recipe: PixelRecipe) -> torch.Tensor:
    """Thumbnail and crops of one picture.

    Args:
        picture: uint8 (channel, height, width), values 0 to 255, on the device that is to do the work.
        geometry: of the model.
        recipe: of its processor.

    Returns:
        float32 (view, channel, image_size, image_size): the thumbnail, then the crops row by row.
    """
    height, width = int(picture.shape[-2]), int(picture.shape[-1])
    canvas = geometry.canvas((height, width))
    fitted = fit_inside((height, width), canvas)
    inner = resize(picture[None], fitted, recipe.mode)
    crops = _cut(_pad(inner, canvas), recipe.tile)
    thumbnail = resize(picture[None], recipe.square, recipe.mode)
    return torch.cat([_finish(thumbnail, recipe), _finish(crops, recipe)])


def tile_views(picture: torch.Tensor, geometry: Geometry, recipe: PixelRecipe) -> torch.Tensor:
    """Tiles that one picture is stretched onto, and the whole of it behind them where they are several.

    Args:
        picture: uint8 (channel, height, width).
        geometry: of the model.
        recipe: of its processor.

    Returns:
        float32 (view, channel, image_size, image_size), the tiles row by row.
    """
    rows, cols = geometry.tile_grid((int(picture.shape[-2]), int(picture.shape[-1])))
    stretched = resize(picture[None], (rows * recipe.tile, cols * recipe.tile), recipe.mode)
    tiles = _finish(_cut(stretched, recipe.tile), recipe)
    return tiles if rows * cols == 1 else torch.cat((tiles, _finish(picture[None], recipe)))


MAX_SQUARE_PIXELS = 16 * 1024 * 1024
"""Largest padded square that is made at once; a picture of 1 x 60,000 pixels would make one of 10 GB."""


def single_view(picture: torch.Tensor, recipe: PixelRecipe, *, pad: bool = True) -> torch.Tensor:
    """A picture as one view: padded to a square with the mean colour, then resized.

    Args:
        picture: uint8 (channel, height, width).
        recipe: of the processor.
        pad: whether to pad; without, the recipe's own size and crop decide what of the picture is seen.

    Returns:
        float32 (1, channel, image_size, image_size). Very long pictures are resized along their long side before
        they are padded, which may differ by one grey level.
    """
    if not pad:
        return _finish(picture[None], recipe)
    height, width = int(picture.shape[-2]), int(picture.shape[-1])
    side = max(height, width)
    if side * side <= MAX_SQUARE_PIXELS:
        return _finish(_surround(picture, (side, side), recipe)[None], recipe)
    rows, cols = recipe.square
    shorter = (height, cols) if width >= height else (rows, width)
    padded = (side, cols) if width >= height else (rows, side)
    strip = _surround(resize(picture[None], shorter, recipe.mode)[0], padded, recipe)
    return _finish(resize(strip[None], recipe.square, recipe.mode), recipe)


def _surround(picture: torch.Tensor, size: Size, recipe: PixelRecipe) -> torch.Tensor:
    """Centre a picture (channel, height, width) on the mean colour."""
    height, width = int(picture.shape[-2]), int(picture.shape[-1])
    colour = picture.new_tensor([int(level * 255) for level in recipe.mean]).view(-1, 1, 1)
    square = colour.repeat(1, *size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    square[:, top : top + height, left : left + width] = picture
    return square


def seen_part(picture: Image, recipe: PixelRecipe, *, pad: bool) -> Image:
    """The part of a picture that `single_view` shows the encoder, at the picture's own resolution where bounded.

    Args:
        picture: RGB.
        recipe: of the processor.
        pad: as in `single_view`.

    Returns:
        The picture on a square of the mean colour, or what is left of it between the edges that are cut off.
    """
    from PIL import Image

    width, height = picture.size
    if pad:
        side = max(width, height)
        if side * side > MAX_SQUARE_PIXELS:
            shrunk = MAX_SQUARE_PIXELS**0.5 / side
            width, height = max(1, int(width * shrunk)), max(1, int(height * shrunk))
            picture, side = picture.resize((width, height)), max(width, height)
        red, green, blue = (int(level * 255) for level in recipe.mean)
        square = Image.new("RGB", (side, side), (red, green, blue))
        square.paste(picture, ((side - width) // 2, (side - height) // 2))
        return square
    if recipe.crop is None:
        return picture
    resized = recipe.target((height, width))
    seen_h, seen_w = (min(1.0, cut / full) for cut, full in zip(recipe.crop, resized, strict=True))
    left, top = round(width * (1 - seen_w) / 2), round(height * (1 - seen_h) / 2)
    return picture.crop((left, top, width - left, height - top))


def stack_views(views: list[torch.Tensor]) -> torch.Tensor:
    """Put pictures with different numbers of views into one tensor.

    Args:
        views: per picture, float32 (view, channel, height, width).

    Returns:
        float32 (picture, most views, channel, height, width); views that are missing are zero.
    """
    most = max(len(view) for view in views)
    if len(views) == 1:
        return views[0][None]
    stacked = views[0].new_zeros((len(views), most, *views[0].shape[1:]))
    for row, view in zip(stacked, views, strict=True):
        row[: len(view)] = view
    return stacked


def join_visuals(
    kinds: Sequence[str],
    images: Mapping[str, torch.Tensor],
    views: Sequence[int],
    clips: Mapping[str, torch.Tensor],
    frames: Sequence[int],
) -> dict[str, torch.Tensor]:
    """Put the tiles of pictures and the frames of clips in the order of the prompts.

    Args:
        kinds: `image` or `video`, in that order.
        images: `pixel_values` (view, channel, height, width) and `image_sizes` (picture, 3) of the pictures.
        views: views of each picture.
        clips: the same of the clips.
        frames: views of each clip.
    """
    pixels = {
        "image": iter(images["pixel_values"].split(list(views))),
        "video": iter(clips["pixel_values"].split(list(frames))),
    }
    sizes = {"image": iter(images["image_sizes"]), "video": iter(clips["image_sizes"])}
    return {
        "pixel_values": torch.cat([next(pixels[kind]) for kind in kinds]),
        "image_sizes": torch.stack([next(sizes[kind]) for kind in kinds]),
    }


def views_shape(frames: torch.Tensor, recipe: PixelRecipe) -> tuple[int, int, int, int]:
    """Shape (frame, channel, image_size, image_size) of `frame_views` for frames (frame, height, width, channel)."""
    count, height, width = (int(n) for n in frames.shape[:3])
    return count, 3, *(recipe.crop or recipe.target((height, width)))


def frame_views(
    frames: torch.Tensor, recipe: PixelRecipe, device: torch.device, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Frames of one clip as encoder input.

    Args:
        frames: uint8 (frame, height, width, channel), values 0 to 255.
        recipe: of the video processor.
        device: where to resize.
        out: float32 of the shape of the result, on `device`, to write to.

    Returns:
        `out`, or float32 (frame, channel, image_size, image_size) on `device`. Only a chunk of the frames is in work at
        any time.
    """
    count, height, width = (int(n) for n in frames.shape[:3])
    if out is None:
        out = torch.empty(views_shape(frames, recipe), dtype=torch.float32, device=device)
    step = max(1, CHUNK_PIXELS // (height * width))
    for start in range(0, count, step):
        chunk = rearrange(upload(frames[start : start + step], device), "frame h w c -> frame c h w")
        _finish(chunk.contiguous(), recipe, out[start : start + step])
    return out


def _finish(pictures: torch.Tensor, recipe: PixelRecipe, out: torch.Tensor | None = None) -> torch.Tensor:
    height, width = int(pictures.shape[-2]), int(pictures.shape[-1])
    pictures = resize(pictures, recipe.target((height, width)), recipe.mode)
    if recipe.crop is not None:
        pictures = center_crop(pictures, recipe.crop)
    return normalise(pictures, mean=recipe.mean, std=recipe.std, rescale=recipe.rescale, out=out)


def _pad(pictures: torch.Tensor, canvas: Size) -> torch.Tensor:
    """Centre on black; an odd surplus goes to the bottom and right."""
    lack_h, lack_w = canvas[0] - pictures.shape[-2], canvas[1] - pictures.shape[-1]
    return F.pad(pictures, (lack_w // 2, lack_w - lack_w // 2, lack_h // 2, lack_h - lack_h // 2))


def _cut(canvas: torch.Tensor, tile: int) -> torch.Tensor:
    """(1, channel, rows * tile, cols * tile) to (rows * cols, channel, tile, tile), row by row."""
    return rearrange(canvas, "1 c (row h) (col w) -> (row col) c h w", h=tile, w=tile)

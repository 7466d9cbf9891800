"""Transforms of pictures and frames to encoder input: resize, lay out, cut, normalise, in whole crops and frames.

Resized pixels have the same numbers as torchvision's. On the CPU a bicubic resize stays in uint8, where PyTorch's
kernel is the one torchvision calls. Accelerators have no uint8 kernel, so there the picture goes through float32, is
rounded and clamped; that differs from the CPU by a few grey levels. To get the same pixels on every machine, resize on
the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange

from vidcompress.adapters.families import Geometry
from vidcompress.adapters.family.split import SplitGeometry, scaled_size
from vidcompress.adapters.layouts import Size, fit_inside
from vidcompress.core.devices import upload
from vidcompress.errors import MediaError
from vidcompress.media.preprocessing.pixel_config import Mode, PixelRecipe

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK_PIXELS = 16 * 1024 * 1024
"""Most source pixels that are resized at once; about 200 MB on the float32 path."""


def image_views(picture: torch.Tensor, geometry: Geometry, recipe: PixelRecipe) -> torch.Tensor:
    """Make the thumbnail and crops of one picture.

    Args:
        picture: uint8 (channel, height, width), values 0 to 255, on the device for resizing.
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
    """Make the tiles that one picture is stretched onto, and a view of the whole picture behind several tiles.

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


def panned_views(
    picture: torch.Tensor, boxes: Sequence[tuple[int, int, int, int]], recipe: PixelRecipe
) -> torch.Tensor:
    """Make the view of a whole picture, and those of its crops behind it.

    Args:
        picture: uint8 (channel, height, width).
        boxes: (top, left, bottom, right) of the crops in pixels.
        recipe: of the processor.

    Returns:
        float32 (view, channel, image_size, image_size).
    """
    crops = [picture[:, top:bottom, left:right] for top, left, bottom, right in boxes]
    return torch.cat([_finish(part[None].contiguous(), recipe) for part in (picture, *crops)])


def split_views(picture: torch.Tensor, geometry: SplitGeometry, recipe: PixelRecipe) -> torch.Tensor:
    """Make the crops of one picture that is scaled and stretched to whole crops, and the whole picture behind them.

    Args:
        picture: uint8 (channel, height, width).
        geometry: of the model.
        recipe: of its processor.

    Returns:
        float32 (view, channel, image_size, image_size), the crops row by row; a single crop is the whole picture.
    """
    size = (int(picture.shape[-2]), int(picture.shape[-1]))
    scaled = resize(picture[None], geometry.scale_size(size), recipe.mode)
    if not geometry.splits:
        return _finish(scaled, recipe)
    stretched = resize(scaled, geometry.crop_size(size), recipe.mode)
    crops = _cut(stretched, recipe.tile)
    whole = crops[:0] if len(crops) == 1 else resize(stretched, recipe.square, recipe.mode)
    return _finish(torch.cat((crops, whole)), recipe)


def scaled_frame_views(
    frames: torch.Tensor, geometry: SplitGeometry, recipe: PixelRecipe, device: torch.device
) -> torch.Tensor:
    """Make the encoder input of frames that are scaled to a longest edge and then made square.

    Args:
        frames: uint8 (frame, height, width, channel).
        geometry: of the model.
        recipe: of its video processor.
        device: for resizing.

    Returns:
        float32 (frame, channel, image_size, image_size) on `device`. Frames are processed chunk by chunk.
    """
    height, width = int(frames.shape[1]), int(frames.shape[2])
    target, step = scaled_size((height, width), geometry.clip_edge), max(1, CHUNK_PIXELS // (height * width))
    parts = []
    for start in range(0, len(frames), step):
        chunk = rearrange(upload(frames[start : start + step], device), "frame h w c -> frame c h w")
        parts.append(_finish(resize(chunk.contiguous(), target, recipe.mode), recipe))
    return torch.cat(parts)


MAX_SQUARE_PIXELS = 16 * 1024 * 1024
"""Largest padded square, in pixels; a picture of 1 x 60,000 pixels would make one of 10 GB."""


def single_view(picture: torch.Tensor, recipe: PixelRecipe, *, pad: bool = True) -> torch.Tensor:
    """Make one view of a picture: padded to a square with the mean colour, then resized.

    Args:
        picture: uint8 (channel, height, width).
        recipe: of the processor.
        pad: whether to pad; otherwise the recipe's own size and crop decide which part of the picture is seen.

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
    """Return the part of a picture that `single_view` shows, at the picture's own resolution where bounded.

    Args:
        picture: RGB.
        recipe: of the processor.
        pad: as in `single_view`.

    Returns:
        The picture on a square of the mean colour, or the part of it between the edges that are cut off.
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
        float32 (picture, most views, channel, height, width); missing views are zero.
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
        kinds: `image` or `video` of each visual, in the order of the prompts.
        images: `pixel_values` (view, channel, height, width) and `image_sizes` (picture, 3) of the pictures.
        views: views of each picture.
        clips: the same tensors of the clips.
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
    """Return the shape (frame, channel, image_size, image_size) of `frame_views` for given frames."""
    count, height, width = (int(n) for n in frames.shape[:3])
    return count, 3, *(recipe.crop or recipe.target((height, width)))


def frame_views(
    frames: torch.Tensor, recipe: PixelRecipe, device: torch.device, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Make the encoder input of one clip's frames.

    Args:
        frames: uint8 (frame, height, width, channel), values 0 to 255.
        recipe: of the video processor.
        device: for resizing.
        out: float32 of the shape of the result, on `device`, to write to.

    Returns:
        `out`, or float32 (frame, channel, image_size, image_size) on `device`. Frames are processed chunk by chunk.
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
    """Centre pictures on black; an odd surplus goes to the bottom and right."""
    lack_h, lack_w = canvas[0] - pictures.shape[-2], canvas[1] - pictures.shape[-1]
    return F.pad(pictures, (lack_w // 2, lack_w - lack_w // 2, lack_h // 2, lack_h - lack_h // 2))


def _cut(canvas: torch.Tensor, tile: int) -> torch.Tensor:
    """Cut (1, channel, rows * tile, cols * tile) into (rows * cols, channel, tile, tile), row by row."""
    return rearrange(canvas, "1 c (row h) (col w) -> (row col) c h w", h=tile, w=tile)


def resize(pictures: torch.Tensor, size: tuple[int, int], mode: Mode = "bicubic") -> torch.Tensor:
    """Resize pictures with antialiasing.

    Args:
        pictures: uint8 (picture, channel, height, width), values 0 to 255, on any device.
        size: (height, width) of the result, each at least 1.
        mode: the filter.

    Returns:
        uint8 (picture, channel, size[0], size[1]) on the same device; the input itself when it has that size.

    Raises:
        MediaError: `pictures` is not a 4-d uint8 tensor, or `size` holds a number below 1.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4:
        raise MediaError(
            f"pictures: {pictures.dtype} of shape {tuple(pictures.shape)}; pass uint8 (picture, channel, height, width)"
        )
    if min(size) < 1:
        raise MediaError(f"size={size}: height and width must be at least 1")
    if tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    if mode == "lanczos":
        return _lanczos(pictures, size)
    if mode == "nearest-exact":
        return F.interpolate(pictures, size=size, mode=mode)
    if pictures.device.type == "cpu":
        return F.interpolate(pictures, size=size, mode=mode, antialias=True, align_corners=False)
    smooth = F.interpolate(pictures.float(), size=size, mode=mode, antialias=True, align_corners=False)
    return smooth.round_().clamp_(0, 255).to(torch.uint8)


def _lanczos(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize by Pillow, picture by picture on the CPU: older versions of torch have no such filter."""
    from PIL import Image

    rows = []
    for picture in pictures.cpu():
        image = Image.fromarray(rearrange(picture, "c h w -> h w c").contiguous().numpy())
        resized = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
        rows.append(torch.from_numpy(np.array(resized)))
    return rearrange(torch.stack(rows), "picture h w c -> picture c h w").contiguous().to(pictures.device)


def center_crop(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Crop pictures to the middle, or pad smaller sides with black.

    Args:
        pictures: (picture, channel, height, width).
        size: (height, width) of the result.

    Returns:
        (picture, channel, size[0], size[1]). The odd row or column of a surplus or a lack is at the bottom or right.
    """
    height, width = pictures.shape[-2:]
    lack_h, lack_w = max(0, size[0] - height), max(0, size[1] - width)
    if lack_h or lack_w:
        pictures = F.pad(pictures, (lack_w // 2, lack_w - lack_w // 2, lack_h // 2, lack_h - lack_h // 2))
        height, width = pictures.shape[-2:]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return pictures[..., top : top + size[0], left : left + size[1]]


def normalise(
    pictures: torch.Tensor,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    rescale: float = 1 / 255,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalise levels to an encoder's range: (x * rescale - mean) / std, in one pass.

    Args:
        pictures: uint8 or float (picture, channel, height, width).
        mean: per channel, in rescaled units.
        std: per channel, in rescaled units, above 0.
        rescale: factor from grey levels to those units.
        out: float32 of the same shape, on the same device, to write to.

    Returns:
        `out`, or float32 of the same shape, on the same device.
    """
    # transformers folds the factor into mean and std, instead of scaling first: the same roundings.
    scale = 1.0 / rescale
    shape = (1, -1, 1, 1)
    centre = (torch.tensor(mean, device=pictures.device) * scale).view(shape)
    spread = (torch.tensor(std, device=pictures.device) * scale).view(shape)
    values = pictures.to(torch.float32, copy=True) if out is None else out.copy_(pictures)
    return values.sub_(centre).div_(spread)

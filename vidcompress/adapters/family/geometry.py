"""Geometry of a model's config, which decides how pixels become tokens, and the layouts of the LLaVA families.

No model, no device, no pixels: adapters use the layouts for inputs, `Family` for planning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from vidcompress.adapters.layouts import (
    Size,
    best_canvas,
    closest_grid,
    image_layout,
    shrunk_canvas,
    tiled_layout,
    unpadded_box,
    video_layout,
)
from vidcompress.adapters.presets import Preset
from vidcompress.adapters.traits import encoder_has_cls
from vidcompress.checks import MAX_FRAME_PIXELS, is_number, is_whole
from vidcompress.core.layout import Layout
from vidcompress.errors import MediaError, shown


@dataclass(frozen=True)
class Geometry:
    """Geometry: the numbers of a model's config that decide how pixels become tokens.

    Attributes:
        encoder: `model_type` of the vision encoder.
        image_size: side of the square picture the encoder takes, in pixels.
        patch_size: side of a patch, in pixels.
        canvases: (height, width) of the crop canvases, in pixels, multiples of `image_size`; none where the family
            makes no crops.
        aspect_ratio: "anyres_max_<k>", or "" where the family has no cap.
        image_token_id: placeholder of a picture.
        video_token_id: placeholder of a clip, or None.
        pool_stride: patches along one side that become one token of a frame.
        merge: patches along one side that become one token of any view.
        tiles: fewest and most tiles of a picture, for families that stretch pictures onto tiles.
        tile_rule: (picture's (height, width), fewest, most, side of a tile), all in pixels but the numbers of tiles, to
            (rows, cols) of tiles.
    """

    encoder: str
    image_size: int
    patch_size: int
    canvases: tuple[Size, ...]
    aspect_ratio: str
    image_token_id: int
    video_token_id: int | None
    pool_stride: int = 2
    merge: int = 1
    tiles: tuple[int, int] = (1, 12)
    tile_rule: Callable[[Size, int, int, int], Size] = field(default=closest_grid, repr=False)

    @property
    def side(self) -> int:
        """Tokens along one side of one encoded picture."""
        return self.image_size // self.patch_size // self.merge

    def tile_grid(self, picture: Size) -> Size:
        """Return (rows, cols) of tiles that a picture of (height, width) pixels is stretched onto."""
        return self.tile_rule(picture, *self.tiles, self.image_size)

    def canvas(self, picture: Size) -> Size:
        """Return the crop canvas, (height, width) in pixels, for a picture of (height, width) pixels."""
        return best_canvas(picture, list(self.canvases))

    def crop_grid(self, picture: Size) -> Size:
        """Return (rows, cols) of crops for a picture of (height, width) pixels."""
        height, width = self.canvas(picture)
        return height // self.image_size, width // self.image_size

    @lru_cache(maxsize=256)  # noqa: B019
    def covered_box(self, picture: Size, crops: Size | None = None) -> tuple[int, int, int, int]:
        """Return (top, left, rows, cols) of a picture's crop tokens without its border; `crops` where known."""
        rows, cols = self.crop_grid(picture) if crops is None else crops
        return unpadded_box(picture, (rows * self.side, cols * self.side))

    @property
    def max_views(self) -> int:
        """k of `anyres_max_<k>`: a canvas of more tokens than k pictures have, with 21 % of slack, is resized.

        Raises:
            MediaError: `aspect_ratio` has another form.
        """
        match = re.fullmatch(r"anyres_max_(\d+)", self.aspect_ratio)
        if match is None or int(match[1]) < 1:
            raise MediaError(
                f"vision_aspect_ratio={self.aspect_ratio!r} in the model's config: expected 'anyres_max_<k>', k >= 1"
            )
        return int(match[1])


def one_view_layout(geometry: Geometry, picture: Size | None = None, device: str = "cpu") -> Layout:
    """Return the layout of a picture of LLaVA-1.5, of any size: one view, without newlines."""
    return image_layout((geometry.side, geometry.side), newline=False, device=device)


def tiled_image_layout(geometry: Geometry, picture: Size, device: str = "cpu") -> Layout:
    """Return the layout of a picture of InternVL: tiles, and a thumbnail behind several tiles."""
    return tiled_layout((geometry.side, geometry.side), geometry.tile_grid(picture), device)


def tiled_video_layout(geometry: Geometry, frames: int, device: str = "cpu") -> Layout:
    """Return the layout of a clip of InternVL: every frame is one view."""
    return video_layout(frames, (geometry.side, geometry.side), "none", device=device)


@lru_cache(maxsize=256)
def next_image_layout(geometry: Geometry, picture: Size, device: str = "cpu") -> Layout:
    """Return the layout of a picture of LLaVA-NeXT: a thumbnail, then crops without their border, a newline per row."""
    side, crops = geometry.side, geometry.crop_grid(picture)
    return image_layout((side, side), crops, unpadded=geometry.covered_box(picture, crops), device=device)


def next_preset_layout(geometry: Geometry, preset: Preset, picture: Size, device: str = "cpu") -> Layout:
    """Return the layout of a picture on the canvas of a preset: nothing is cut off, and there are no newlines."""
    side = geometry.side
    top, left, height, width = unpadded_box(picture, preset.canvas(side))
    if height == 0:  # thinner than a patch: it lies where the two middle rows meet
        top, height = top - 1, 2
    if width == 0:
        left, width = left - 1, 2
    shown = (top, left, height, width)
    return image_layout((side, side), preset.crops, picture=shown, newline=False, device=device)


@lru_cache(maxsize=256)
def next_video_layout(geometry: Geometry, frames: int, device: str = "cpu") -> Layout:
    """Return the layout of a clip of LLaVA-NeXT-Video: frames pooled by the config's stride, without newlines."""
    side = geometry.side // geometry.pool_stride
    return video_layout(frames, (side, side), "none", device=device)


@lru_cache(maxsize=256)
def onevision_image_layout(
    geometry: Geometry, picture: Size, device: str = "cpu", *, max_views: int | None = None
) -> Layout:
    """Return the layout of a picture of LLaVA-OneVision: as in LLaVA-NeXT, with a canvas of too many tokens resized.

    Args:
        geometry: of the model.
        picture: (height, width) in pixels.
        device: where the index tensors live.
        max_views: k of `anyres_max_<k>`; that of the geometry by default, 0 for no cap.
    """
    side, crops = geometry.side, geometry.crop_grid(picture)
    box = geometry.covered_box(picture, crops)
    cap = geometry.max_views if max_views is None else max_views
    shrunk = shrunk_canvas(box[2:], (side, side), cap or None)
    return image_layout((side, side), crops, unpadded=box, shrunk=shrunk, device=device)


def single_view_layout(geometry: Geometry, device: str = "cpu") -> Layout:
    """Return the layout of a picture that is sent as one view, with one newline."""
    return image_layout((geometry.side, geometry.side), device=device)


@lru_cache(maxsize=256)
def onevision_video_layout(geometry: Geometry, frames: int, device: str = "cpu") -> Layout:
    """Return the layout of a clip of LLaVA-OneVision: frames halved, rounded up, and one newline behind the clip."""
    side = math.ceil(geometry.side / 2)
    return video_layout(frames, (side, side), "end", device=device)


@lru_cache(maxsize=256)
def video_video_layout(geometry: Geometry, frames: int, device: str = "cpu") -> Layout:
    """Return the layout of a clip of LLaVA-Video: frames halved, rounded down, with a newline after every row."""
    side = geometry.side // 2
    return video_layout(frames, (side, side), "row", device=device)


def read_geometry(config: Any, *, crops: bool = True) -> Geometry:
    """Read the geometry from a model config.

    Args:
        config: of the model.
        crops: whether the family cuts pictures into crops, so that the canvases are needed.

    Raises:
        MediaError: a needed number is missing or impossible; the message names the key.
    """
    vision = need(config, "vision_config", "the model's config")
    where = "vision_config in the model's config"
    encoder = str(need(vision, "model_type", where))
    image_size, patch_size = _side(vision, "image_size", where), _side(vision, "patch_size", where)
    if patch_size > image_size:
        raise MediaError(
            f"patch_size={patch_size} in {where}: must be at most image_size={image_size}; fetch the checkpoint again"
        )
    _check_strategy(config, encoder)
    video_token_id = getattr(config, "video_token_id", None)
    return Geometry(
        encoder=encoder,
        image_size=image_size,
        patch_size=patch_size,
        canvases=_canvases(config, image_size) if crops else (),
        aspect_ratio=str(getattr(config, "vision_aspect_ratio", "") or ""),
        image_token_id=token_id("image_token_id", need(config, "image_token_id", "the model's config")),
        video_token_id=None if video_token_id is None else token_id("video_token_id", video_token_id),
        pool_stride=_stride(config),
        merge=_merge(config, image_size // patch_size),
    )


def _canvases(config: Any, image_size: int) -> tuple[Size, ...]:
    pinpoints = need(config, "image_grid_pinpoints", "the model's config")
    canvases = _pairs(pinpoints)
    uneven = [c for c in canvases if min(c) < image_size or c[0] % image_size or c[1] % image_size]
    if not canvases or uneven:
        raise MediaError(
            f"image_grid_pinpoints in the model's config: {shown(uneven) if uneven else 'no entry'}; each side must "
            f"be a multiple of the encoder's image_size={image_size}"
        )
    return canvases


def _pairs(pinpoints: Any) -> tuple[Size, ...]:
    pairs = pinpoints if isinstance(pinpoints, (list, tuple)) else [pinpoints]
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(map(is_whole, pair)):
            raise MediaError(
                f"image_grid_pinpoints in the model's config holds {shown(pair)}; expected a list of [height, width]"
            )
        if pair[0] * pair[1] > MAX_FRAME_PIXELS:
            raise MediaError(
                f"image_grid_pinpoints in the model's config holds {shown(pair)}, more than {MAX_FRAME_PIXELS} pixels; "
                "take the config that belongs to the model"
            )
    return tuple((int(height), int(width)) for height, width in pairs)


def token_id(key: str, value: Any) -> int:
    """Read a placeholder's id from a config.

    Raises:
        MediaError: the value is not a token id.
    """
    if not is_whole(value) or value < 0:
        raise MediaError(f"{key}={shown(value)} in the model's config: expected a whole number of at least 0")
    return int(value)


def _check_strategy(config: Any, encoder: str) -> None:
    """The stock models reshape features to a square: a CLS token must be dropped, and nothing else may be."""
    strategy = getattr(config, "vision_feature_select_strategy", None)  # a class without it has one rule
    has_cls = encoder_has_cls(config)
    if strategy is not None and (strategy == "default") != has_cls:
        fitting = "default" if has_cls else "full"
        raise MediaError(
            f"vision_feature_select_strategy={shown(strategy)} in the model's config does not fit {encoder}, whose "
            f"features {'start with a' if has_cls else 'have no'} CLS token; set it to {fitting!r}"
        )


def need(config: Any, key: str, where: str) -> Any:
    """Read a value of a config.

    Raises:
        MediaError: it is missing.
    """
    value = getattr(config, key, None)
    if value is None:
        raise MediaError(f"{where} has no {key!r}; this is needed to lay out the visual tokens")
    return value


def _side(config: Any, key: str, where: str) -> int:
    value = need(config, key, where)
    if isinstance(value, (list, tuple)) and len(set(value)) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MediaError(
            f"{key}={shown(value)} in {where}: expected one positive whole number of pixels (square)"
        )
    return value


def _merge(config: Any, patches: int) -> int:
    """Return the patches along one side of a token, for a view of `patches`, from the ratio by which they shrink."""
    if getattr(config, "mm_tokens_per_image", None) is not None:
        return patches // tokens_per_side(config, patches)
    ratio = downsample_ratio(config)
    if not is_number(ratio) or not 0 < ratio <= 1 or patches % round(1 / ratio) or (1 / ratio) % 1:
        raise MediaError(
            f"downsample_ratio={shown(ratio)} in the model's config: expected one over a whole number that divides the "
            f"{patches} patches along a side of the encoder's pictures"
        )
    return int(round(1 / ratio))


def tokens_per_side(config: Any, patches: int) -> int:
    """Return the tokens along one side of a view of `patches` along it, from Gemma's `mm_tokens_per_image`.

    Raises:
        MediaError: that is no square, or one that does not divide the patches.
    """
    tokens = config.mm_tokens_per_image
    side = math.isqrt(tokens) if is_whole(tokens) and tokens > 0 else 0
    if side == 0 or side**2 != tokens or patches % side:
        raise MediaError(
            f"mm_tokens_per_image={shown(tokens)} in the model's config: expected the square of a number that divides "
            f"the {patches} patches along a side of the encoder's pictures"
        )
    return side


def downsample_ratio(config: Any) -> Any:
    """Tokens per patch along one side, stated in a config or inverse there (Cohere, Idefics3); a text if invalid."""
    factor = getattr(config, "downsample_factor", getattr(config, "scale_factor", 1))
    inverse = 1 / factor if is_whole(factor) and factor > 0 else f"1 / {factor!r}"
    return getattr(config, "downsample_ratio", inverse)


def _stride(config: Any) -> int:
    value = getattr(config, "spatial_pool_stride", 2)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MediaError(
            f"spatial_pool_stride={shown(value)} in the model's config: expected a whole number of at least 1"
        )
    return value

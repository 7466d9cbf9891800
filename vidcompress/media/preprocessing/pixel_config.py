"""Pixel preparation settings, read from a checkpoint's processor files or, where they state none, from its config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vidcompress.adapters.families import Geometry, NativeRules
from vidcompress.adapters.layouts import Size
from vidcompress.checks import is_number, is_whole
from vidcompress.errors import MediaError, shown

Mode = Literal["nearest-exact", "lanczos", "bilinear", "bicubic"]

# Channel means and deviations (red, green, blue, range 0 to 1) that the encoders were trained with.
_CHANNELS = {
    "clip_vision_model": (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
    "siglip_vision_model": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "internvl_vision": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
LARGEST = 1e6
"""Upper bound of means, deviations and factors; its inverse is the lower bound. Beyond it pixels overflow."""

_FILTERS: dict[int, Mode] = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # numbered as in Pillow


@dataclass(frozen=True)
class PixelRecipe:
    """Recipe for the preparation of pixels.

    Attributes:
        size: (height, width) that pictures are resized to, or None to scale the shorter side.
        shortest_edge: length of the shorter side in pixels where `size` is None, else None.
        crop: (height, width) cut from the middle afterwards, or None.
        mode: resize filter.
        mean: per channel, after rescaling.
        std: per channel, after rescaling.
        rescale: factor from grey levels 0 to 255.
        num_frames: frames that the checkpoint takes from a clip file, or None where it states none.
        pad: whether the file pads pictures to a square; read by families that make no crops.
    """

    size: Size | None
    shortest_edge: int | None
    crop: Size | None
    mode: Mode
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale: float
    num_frames: int | None = None
    pad: bool = False

    def target(self, picture: Size) -> Size:
        """Return (height, width) that a picture of (height, width) pixels is resized to, before the crop."""
        if self.size is not None:
            return self.size
        short, long = sorted(picture)
        edge = self.shortest_edge or short
        stretched = int(edge * long / short)
        return (edge, stretched) if picture[0] <= picture[1] else (stretched, edge)

    @property
    def square(self) -> Size:
        """(height, width) that a thumbnail is resized to."""
        edge = self.shortest_edge or 0
        return self.size or (edge, edge)

    @property
    def tile(self) -> int:
        """Side of the crops a canvas is cut into, in pixels."""
        return self.crop[0] if self.crop is not None else self.square[0]


def read_recipe(raw: Mapping[str, Any], geometry: Geometry, origin: str) -> PixelRecipe:
    """Read one processor file.

    Args:
        raw: its keys; an empty mapping gives the defaults of the encoder.
        geometry: of the model, which decides the size of the result.
        origin: name of the file, for messages.

    Returns:
        The recipe. Keys that are missing are filled from the model: its `image_size`, bicubic, 1/255, and the
        channel statistics of CLIP or SigLIP.

    Raises:
        MediaError: a value has the wrong type, statistics are neither given nor known, or the result would not be
            pictures of `image_size`.
    """
    side = geometry.image_size
    if raw.get("do_resize") is False:
        raise MediaError(
            f"{origin}: do_resize=False; the encoder takes {side} x {side} only, remove the entry"
        )
    size, edge = _read_size(raw.get("size") or {"height": side, "width": side}, "size", origin)
    crop: Size | None = None
    if raw.get("do_center_crop") and raw.get("crop_size") is not None:
        crop_size, crop_edge = _read_size(raw["crop_size"], "crop_size", origin)
        crop = crop_size or (crop_edge or 0, crop_edge or 0)
    mean, std = _statistics(raw, _CHANNELS.get(geometry.encoder), geometry.encoder, origin)
    frames = read_frames(raw, "num_frames", origin)
    pad = raw.get("do_pad") is True
    recipe = PixelRecipe(size, edge, crop, _filter(raw, origin), mean, std, _factor(raw, origin), frames, pad)
    size = recipe.crop or recipe.square
    if size != (side, side):
        raise MediaError(
            f"{origin} makes pictures of {size} pixels, the model's encoder takes {side} x {side}: "
            "set 'size' (and 'crop_size') to that, or take the file that belongs to the model"
        )
    return recipe


def read_native_recipe(raw: Mapping[str, Any], rules: NativeRules, origin: str) -> PixelRecipe:
    """Read one processor file of a family with native resolution; `read_budget` reads its pixel budget.

    Args:
        raw: its keys; an empty mapping gives the defaults of the family.
        rules: of the family.
        origin: name of the file, for messages.

    Raises:
        MediaError: a value has the wrong type.
    """
    if raw.get("do_resize") is False:
        raise MediaError(
            f"{origin}: do_resize=False; sides must be whole tokens of the encoder, remove the entry"
        )
    mean, std = _statistics(raw, (rules.mean, rules.std), "the family", origin)
    frames = read_frames(raw, "num_frames", origin)
    return PixelRecipe(None, None, None, _filter(raw, origin), mean, std, _factor(raw, origin), frames)


def read_split_recipe(raw: Mapping[str, Any], geometry: Geometry, origin: str) -> PixelRecipe:
    """Read one processor file of a family that scales pictures and cuts them into crops; Lanczos by default.

    Args:
        raw: its keys; an empty mapping gives the defaults of the family.
        geometry: of the model, whose `image_size` is the side of a crop.
        origin: name of the file, for messages.

    Raises:
        MediaError: a value has the wrong type.
    """
    if raw.get("do_resize") is False:
        raise MediaError(f"{origin}: do_resize=False; crops must fill the encoder's square, remove the entry")
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    mean, std = _statistics(raw, half, "the family", origin)
    side, frames = geometry.image_size, read_frames(raw, "num_frames", origin)
    lanczos = raw.get("resample", 1) == 1 and raw.get("resample") is not True
    mode: Mode = "lanczos" if lanczos else _filter(raw, origin)
    return PixelRecipe((side, side), None, None, mode, mean, std, _factor(raw, origin), frames)


def read_frames(raw: Mapping[str, Any], key: str, origin: str) -> int | None:
    """Read a number of frames from a processor file; None where it states none.

    Raises:
        MediaError: the value is not such a number.
    """
    frames = raw.get(key)
    if frames is not None and (isinstance(frames, bool) or not isinstance(frames, int) or frames < 1):
        raise MediaError(
            f"{origin}: {key}={shown(frames)}; expected a whole number of at least 1, or no entry"
        )
    return frames


def _read_size(value: Any, key: str, origin: str) -> tuple[Size | None, int | None]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return (None, value) if key == "size" else ((value, value), None)
    if isinstance(value, Mapping):
        both, edge = (value.get("height"), value.get("width")), value.get("shortest_edge")
        if all(isinstance(side, int) and side > 0 for side in both):
            return (int(both[0] or 0), int(both[1] or 0)), None
        if isinstance(edge, int) and edge > 0:
            return None, edge
    raise MediaError(
        f"{origin}: {key}={shown(value)}; expected {{'height': h, 'width': w}} or {{'shortest_edge': s}} in pixels"
    )


def _statistics(
    raw: Mapping[str, Any],
    defaults: tuple[tuple[float, ...], tuple[float, ...]] | None,
    encoder: str,
    origin: str,
) -> tuple[tuple[float, ...], ...]:
    if raw.get("do_normalize") is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    statistics = []
    for position, key in enumerate(("image_mean", "image_std")):
        value = raw.get(key) if raw.get(key) is not None else (defaults[position] if defaults else None)
        if value is None:
            raise MediaError(f"{origin} has no {key}, and {encoder} has no known one; add it to that file")
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,) * 3
        if len(values) != 3 or not all(is_number(v) and abs(v) < LARGEST for v in values):
            raise MediaError(
                f"{origin}: {key}={shown(value)}; expected three numbers, for red, green and blue"
            )
        statistics.append(tuple(float(v) for v in values))
    if min(statistics[1]) <= 1 / LARGEST:
        raise MediaError(
            f"{origin}: image_std={shown(list(statistics[1]))}; every entry must be above {1 / LARGEST}"
        )
    return statistics[0], statistics[1]


def _filter(raw: Mapping[str, Any], origin: str) -> Mode:
    number = raw.get("resample", 3)
    if not is_whole(number) or number not in _FILTERS:
        raise MediaError(
            f"{origin}: resample={shown(number)}; expected 0 (nearest), 2 (bilinear) or 3 (bicubic)"
        )
    return _FILTERS[number]


def _factor(raw: Mapping[str, Any], origin: str) -> float:
    factor = raw.get("rescale_factor") or 1 / 255
    if raw.get("do_rescale") is False:
        factor = 1.0
    if not is_number(factor) or not 1 / LARGEST < factor < LARGEST:
        raise MediaError(
            f"{origin}: rescale_factor={shown(factor)}; expected a positive number such as 1/255"
        )
    return float(factor)

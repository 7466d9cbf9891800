"""What tells one model family's inputs from another's, as data.

A family says how many placeholder tokens a picture and a clip become, whether pictures are cut into crops, and how
several pictures in one prompt are cut. The processor knows nothing else about families; a new one is one
`register_family` call, here or in the package that brings its adapter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vidcompress.adapters.anyres import Size, best_canvas, capped_grid, unpadded_grid
from vidcompress.adapters.presets import TOKENS_2880, Preset
from vidcompress.checks import MAX_FRAME_PIXELS, is_number, is_whole, word
from vidcompress.errors import MediaError, shown
from vidcompress.registry.catalogue import roll_back

ENCODERS_WITH_CLS = {"clip_vision_model": True, "siglip_vision_model": False}


@dataclass(frozen=True)
class Geometry:
    """The numbers of a model's config that decide how pixels become tokens.

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
    """

    encoder: str
    image_size: int
    patch_size: int
    canvases: tuple[Size, ...]
    aspect_ratio: str
    image_token_id: int
    video_token_id: int | None
    pool_stride: int = 2

    @property
    def side(self) -> int:
        """Tokens along one side of one encoded picture."""
        return self.image_size // self.patch_size

    def canvas(self, picture: Size) -> Size:
        """The crop canvas, (height, width) in pixels, for a picture of (height, width) pixels."""
        return best_canvas(picture, list(self.canvases))

    def covered_grid(self, picture: Size) -> Size:
        """(rows, cols) of the crop tokens of a picture after its border is cut off."""
        height, width = self.canvas(picture)
        return unpadded_grid(
            picture, (height // self.image_size * self.side, width // self.image_size * self.side)
        )


@dataclass(frozen=True)
class Family:
    """How one family writes pictures and clips into a prompt.

    Attributes:
        model_type: of the model's config.
        image_tokens: (geometry, (height, width) in pixels) to the placeholders of a picture that stands alone.
        single_view_tokens: geometry to the placeholders of a picture sent as one view, or None where a prompt with
            several pictures cuts each into crops like any other.
        video_tokens: (geometry, frames) to the placeholders of a clip, or None where the family takes no clips.
        counts_images: whether `batch_num_images` is among the inputs.
        crops: whether pictures are cut into crops on a canvas of `image_grid_pinpoints`. Where not, a picture is one
            view: `pixel_values` is (picture, channel, height, width) and there are no `image_sizes`.
        presets: named layouts of pictures that differ from the family's own, where it has crops.
        clip_note: (duration, times of the frames, both in seconds) to what the family was trained to read before a
            question about a clip, or None.
    """

    model_type: str
    image_tokens: Callable[[Geometry, Size], int]
    single_view_tokens: Callable[[Geometry], int] | None = None
    video_tokens: Callable[[Geometry, int], int] | None = None
    counts_images: bool = False
    clip_note: Callable[[float, Sequence[float]], str] | None = None
    crops: bool = True
    presets: tuple[Preset, ...] = ()


FAMILIES: dict[str, Family] = {}
"""By model type; see `register_family`."""


def register_family(family: Family) -> Family:
    """Make a family known under its `model_type`.

    Raises:
        MediaError: not a `Family`, or that model type is registered already.
    """
    if not isinstance(family, Family):
        raise MediaError(f"register_family takes a vidcompress.media.Family, got {shown(family)}")
    word("model_type", family.model_type, "llava_next", error=MediaError)
    if not callable(family.image_tokens):
        raise MediaError(f"image_tokens={shown(family.image_tokens)}: must be a function of (geometry, size)")
    presets = family.presets
    if not isinstance(presets, tuple) or not all(isinstance(x, Preset) for x in presets):
        raise MediaError(f"presets={shown(presets)}: must be a tuple of vidcompress.adapters.presets.Preset")
    if presets and not family.crops:
        raise MediaError(f"presets={shown(presets)}: need crops=True, for a preset is a canvas of crops")
    if FAMILIES.get(family.model_type, family) != family:
        raise MediaError(f"model_type={family.model_type!r} is registered already; choose another")
    FAMILIES[family.model_type] = family
    return family


def get_family(model_type: str) -> Family:
    """The family of a model type; those of third-party packages come with their adapters.

    Raises:
        MediaError: it is not registered.
    """
    if model_type not in FAMILIES:
        from vidcompress.adapters.base import ADAPTERS

        ADAPTERS.names()
        if model_type not in FAMILIES:
            raise MediaError(
                f"model_type={model_type!r} has no processor here; known: {', '.join(sorted(FAMILIES))}. "
                "Use the model's own processor, or add the family with vidcompress.media.register_family"
            )
    return FAMILIES[model_type]


def read_geometry(config: Any, *, crops: bool = True) -> Geometry:
    """Take the geometry from a model config.

    Args:
        config: of the model.
        crops: whether the family cuts pictures into crops, so that the canvases are needed.

    Raises:
        MediaError: a needed number is missing or impossible; the message names the key.
    """
    vision = _need(config, "vision_config", "the model's config")
    where = "vision_config in the model's config"
    encoder = str(_need(vision, "model_type", where))
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
        image_token_id=_token_id("image_token_id", _need(config, "image_token_id", "the model's config")),
        video_token_id=None if video_token_id is None else _token_id("video_token_id", video_token_id),
        pool_stride=_stride(config),
    )


def _canvases(config: Any, image_size: int) -> tuple[Size, ...]:
    pinpoints = _need(config, "image_grid_pinpoints", "the model's config")
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


def _token_id(key: str, value: Any) -> int:
    if not is_whole(value) or value < 0:
        raise MediaError(f"{key}={shown(value)} in the model's config: expected a whole number of at least 0")
    return int(value)


def _check_strategy(config: Any, encoder: str) -> None:
    """The stock models reshape features to a square: a CLS token must be dropped, and nothing else may be."""
    strategy = _need(config, "vision_feature_select_strategy", "the model's config")
    has_cls = ENCODERS_WITH_CLS.get(encoder)
    if has_cls is not None and (strategy == "default") != has_cls:
        fitting = "default" if has_cls else "full"
        raise MediaError(
            f"vision_feature_select_strategy={shown(strategy)} in the model's config does not fit {encoder}, whose "
            f"features {'start with a' if has_cls else 'have no'} CLS token; set it to {fitting!r}"
        )


def _need(config: Any, key: str, where: str) -> Any:
    value = getattr(config, key, None)
    if value is None:
        raise MediaError(f"{where} has no {key!r}; this is needed to lay out the visual tokens")
    return value


def _side(config: Any, key: str, where: str) -> int:
    value = _need(config, key, where)
    if isinstance(value, (list, tuple)) and len(set(value)) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MediaError(
            f"{key}={shown(value)} in {where}: expected one positive whole number of pixels (square)"
        )
    return value


def _stride(config: Any) -> int:
    value = getattr(config, "spatial_pool_stride", 2)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MediaError(
            f"spatial_pool_stride={shown(value)} in the model's config: expected a whole number of at least 1"
        )
    return value


def time_instruction(duration: float, times: Sequence[float]) -> str:
    """The sentences with which LLaVA-Video was trained to be told when its frames were taken.

    Args:
        duration: of the clip, in seconds.
        times: of the frames, in seconds.
    """
    if not is_number(duration):
        raise MediaError(f"duration={shown(duration)}: must be a number of seconds")
    if not isinstance(times, Sequence) or not all(map(is_number, times)):
        raise MediaError(
            f"times={shown(times)}: must be a list of numbers, the seconds at which frames are shown"
        )
    places = ",".join(f"{time:.2f}s" for time in times)
    return (
        f"The video lasts for {duration:.2f} seconds, and {len(times)} frames are uniformly sampled from it. "
        f"These frames are located at {places}.Please answer the following questions related to this video."
    )


def _next_image_tokens(geometry: Geometry, picture: Size) -> int:
    rows, cols = geometry.covered_grid(picture)
    return geometry.side**2 + rows * (cols + 1)  # thumbnail, then crop rows with a newline each


def _onevision_image_tokens(geometry: Geometry, picture: Size) -> int:
    rows, cols = capped_grid(geometry.covered_grid(picture), geometry.side, geometry.aspect_ratio)
    return geometry.side**2 + rows * (cols + 1)


def _onevision_single_view_tokens(geometry: Geometry) -> int:
    return geometry.side**2 + 1  # the view, then one newline


def _onevision_video_tokens(geometry: Geometry, frames: int) -> int:
    return (
        frames * math.ceil(geometry.side / 2) ** 2 + 1
    )  # frames pooled 2 x 2, then one newline for the clip


def _next_video_tokens(geometry: Geometry, frames: int) -> int:
    return frames * (geometry.side // geometry.pool_stride) ** 2  # no newline


def _video_video_tokens(geometry: Geometry, frames: int) -> int:
    rows = cols = geometry.side // 2
    return frames * rows * (cols + 1)  # a newline after every row of every frame


register_family(Family("llava_next", _next_image_tokens, counts_images=False, presets=(TOKENS_2880,)))
register_family(
    Family(
        "llava_onevision",
        _onevision_image_tokens,
        _onevision_single_view_tokens,
        _onevision_video_tokens,
        counts_images=True,
    )
)
register_family(
    Family("llava_next_video", _next_image_tokens, None, _next_video_tokens, presets=(TOKENS_2880,))
)
register_family(
    Family(
        "llava_video",
        _onevision_image_tokens,
        _onevision_single_view_tokens,
        _video_video_tokens,
        counts_images=True,
        clip_note=time_instruction,
    )
)

roll_back(FAMILIES)  # the families above stay

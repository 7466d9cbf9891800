"""Families with native resolution: a picture keeps its shape, and its sides are rounded to whole tokens in a budget.

No model, no device, no pixels. A grid is (frames, rows, columns) in patches, where a frame stands for `temporal`
pictures. Patches of `merge` x `merge` make one token and stand together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from vidcompress.adapters.family.budgets import EdgeBudget as EdgeBudget
from vidcompress.adapters.family.budgets import Grid as Grid
from vidcompress.adapters.family.budgets import PatchGeometry as PatchGeometry
from vidcompress.adapters.family.budgets import TokenBudget as TokenBudget
from vidcompress.adapters.family.geometry import Geometry, need, token_id
from vidcompress.adapters.layouts import Size, native_layout, video_layout
from vidcompress.checks import flag, is_number, is_whole, one_of, whole_number
from vidcompress.core.layout import Layout
from vidcompress.errors import MediaError, shown

LONGEST_RATIO = 200
"""Largest ratio of long to short side; the families' own processors refuse longer pictures."""


@dataclass(frozen=True)
class PixelBudget:
    """Pixel budget: least and most pixels of a picture or a clip, from which its sides are chosen.

    Attributes:
        least: pixels that smaller pictures are scaled up to.
        most: pixels that larger pictures are scaled down to.
        over_clip: whether `least` and `most` count the pixels of all frames of a clip together (Qwen3-VL), and of all
            frames that a picture stands for (GLM-4V), or the pixels of each frame (Qwen2-VL, Qwen2.5-VL).
        frame_tokens: most tokens of one frame of a clip, where the file sets a cap; None for no cap.
        clip_tokens: most tokens of a whole clip, shared evenly by its frames, where the file sets a cap.
        paired: whether the frames of a clip count as whole patches, the last one repeated (GLM).

    Raises:
        MediaError: a number that is no whole number of at least 1, or `most` below `least`.
    """

    least: int
    most: int
    over_clip: bool = False
    frame_tokens: int | None = None
    clip_tokens: int | None = None
    paired: bool = False

    def __post_init__(self) -> None:
        for name in ("least", "most"):
            whole_number(name, getattr(self, name), error=MediaError)
        for name in ("frame_tokens", "clip_tokens"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name), error=MediaError)
        flag("over_clip", self.over_clip, error=MediaError)
        flag("paired", self.paired, error=MediaError)
        if self.most < self.least:
            raise MediaError(f"most={self.most}: must be at least the {self.least} pixels of least")

    def image_size(self, size: Size, geometry: PatchGeometry) -> Size:
        """Return (height, width) in pixels that a picture of that size is resized to."""
        if self.over_clip:
            depth = geometry.temporal
            return smart_resize_clip(depth, size, geometry.factor, depth, self.least, self.most)
        return smart_resize(size, geometry.factor, self.least, self.most)

    def frame_size(self, frames: int, size: Size, geometry: PatchGeometry) -> Size:
        """Return (height, width) in pixels that a clip's frames are resized to; one frame counts as a whole patch."""
        if self.paired:
            frames = -(-frames // geometry.temporal) * geometry.temporal
        frames, floor, cell = max(frames, geometry.temporal), int(self.least * 1.05), geometry.factor**2
        if not self.over_clip:
            most = self.most
            if self.clip_tokens is not None:
                share = int(self.clip_tokens * cell * 0.9) * geometry.temporal // frames
                most = max(min(most, share), floor)
            return smart_resize(size, geometry.factor, self.least, most)
        most = self.most
        if self.frame_tokens is not None:
            most = max(min(self.frame_tokens * cell, self.most // frames), floor) * frames
        return smart_resize_clip(frames, size, geometry.factor, geometry.temporal, self.least, most)


SizeBudget: TypeAlias = PixelBudget | EdgeBudget | TokenBudget
"""Rule for the sides of pictures and frames."""
Form = Literal["grids", "pictures", "numbered"]
FORMS: tuple[Form, ...] = ("grids", "pictures", "numbered")


def smart_resize(size: Size, factor: int, least: int, most: int) -> Size:
    """Return the nearest sides that are multiples of `factor`, within a budget of pixels.

    Args:
        size: (height, width) in pixels.
        factor: divisor of the sides, in pixels.
        least: pixels that a smaller picture is scaled up to.
        most: pixels that a larger picture is scaled down to.

    Returns:
        (height, width) in pixels; the shape is kept as nearly as the multiples allow.

    Raises:
        MediaError: one side is more than 200 times as long as the other.
    """
    _check_shape(size)
    return _within(size, size[0] * size[1], 1, factor, least, most)


def smart_resize_clip(frames: int, size: Size, factor: int, temporal: int, least: int, most: int) -> Size:
    """Return the nearest sides of all frames of a clip, within a budget of pixels for the whole clip.

    Args:
        frames: number of frames, at least `temporal`, before the last one is repeated.
        size: (height, width) in pixels.
        factor: divisor of the sides, in pixels.
        temporal: pictures in one patch.
        least, most: pixels of the whole clip.

    Returns:
        (height, width) in pixels.

    Raises:
        MediaError: one side is more than 200 times as long as the other.
    """
    if min(size) < factor:  # a side below one token is scaled up before anything else
        scale = max(factor / size[0], factor / size[1])
        size = (int(size[0] * scale), int(size[1] * scale))
    _check_shape(size)
    depth = round(frames / temporal) * temporal
    return _within(size, frames * size[0] * size[1], depth, factor, least, most)


def _within(size: Size, volume: int, depth: int, factor: int, least: int, most: int) -> Size:
    """Round sides to multiples; scale them by the root of the ratio of budget and `volume` where it is out of range."""
    nearest = [round(side / factor) * factor for side in size]
    if depth * math.prod(nearest) > most:
        over = math.sqrt(volume / most)
        nearest = [max(factor, math.floor(side / over / factor) * factor) for side in size]
    elif depth * math.prod(nearest) < least:
        under = math.sqrt(least / volume)
        nearest = [math.ceil(side * under / factor) * factor for side in size]
    return nearest[0], nearest[1]


def _check_shape(size: Size) -> None:
    for side in size:
        whole_number("size", side, error=MediaError)
    if max(size) / min(size) > LONGEST_RATIO:
        raise MediaError(
            f"size={shown(tuple(size))}: one side is more than {LONGEST_RATIO} times as long as the other; cut the "
            "picture into pieces"
        )


@dataclass(frozen=True)
class NativeRules:
    """Rules of a family with native resolution.

    Attributes:
        image_budget: pixels of a picture, where no file states them: those of the hub's checkpoints.
        clip_budget: pixels of a clip, likewise.
        timestamps: whether each temporal patch of a clip is a run of its own with its time before it.
        seconds: whether the inputs have the seconds between temporal patches, as `second_per_grid_ts`.
        multiple: divisor of the number of sampled frames.
        spread: of the sampled frames; see `PacedRule`.
        capped: unit of a file's cap on the pixels of a frame: tokens of a "frame" or of a whole "clip".
        cap_tokens: that cap where the file names none.
        frames: number of frames of a clip file, where its processor file states neither a number nor a rate; None for
            the rate of `PacedRule`.
        mean, std: per channel, of values from 0 to 1, that the encoder was trained with.
        tokens: placeholders of a picture and a clip, where the tokenizer names none.
        around: texts before and behind each run of placeholders, where the tokenizer names none.
        form: of the pixels in the inputs. "grids": patches of all pictures side by side, with a grid for each (Qwen);
            "pictures": (picture, channel, height, width), smaller ones filled with 0 at the bottom and the right, with
            `image_sizes`, and in a prompt a run of placeholders for each row of tokens (Pixtral); "numbered": (picture,
            patch, value), filled with 0 to the most patches, with the column and row of each (Gemma 4).
        row_ends: for "pictures" the texts behind each row of placeholders and behind the last one.
        frame_text: (placeholder of a picture, seconds of the first frame) to the text of a temporal patch, with the
            placeholder once, for families whose clips stand behind the placeholder of pictures (GLM).
        clip_marks: tokens before and behind a clip, of such a family, which part its runs from those of pictures.
        sampling: of clip files: a "rate" as in the Qwen families, every so many "seconds" as in GLM-4.1V, or by
            "lengths" of clips as in GLM-4.6V.

    Raises:
        MediaError: a field of another type, or out of range; the message names it.
    """

    image_budget: SizeBudget
    clip_budget: SizeBudget
    mean: tuple[float, ...]
    std: tuple[float, ...]
    timestamps: bool = False
    seconds: bool = False
    multiple: int = 1
    spread: Literal["nearest", "steps"] = "nearest"
    capped: Literal["frame", "clip"] = "clip"
    cap_tokens: int = 128_000
    frames: int | None = None
    tokens: tuple[str, str] = ("<|image_pad|>", "<|video_pad|>")
    around: tuple[str, str] = ("<|vision_start|>", "<|vision_end|>")
    form: Form = "grids"
    row_ends: tuple[str, str] = ("[IMG_BREAK]", "[IMG_END]")
    frame_text: Callable[[str, float], str] | None = None
    clip_marks: tuple[str, str] = ("<|begin_of_video|>", "<|end_of_video|>")
    sampling: Literal["rate", "seconds", "lengths"] = "rate"

    def __post_init__(self) -> None:
        for name in ("image_budget", "clip_budget"):
            if not isinstance(getattr(self, name), SizeBudget):
                raise MediaError(
                    f"{name}={shown(getattr(self, name))}: must be a PixelBudget, an EdgeBudget or a TokenBudget"
                )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != 3 or not all(map(is_number, values)):
                raise MediaError(f"{name}={shown(values)}: must be a tuple of 3 numbers, one per channel")
        one_of("form", self.form, FORMS, error=MediaError)
        for name in ("tokens", "around", "row_ends", "clip_marks"):
            texts = getattr(self, name)
            if not isinstance(texts, tuple) or len(texts) != 2 or not all(isinstance(x, str) for x in texts):
                raise MediaError(f"{name}={shown(texts)}: must be a tuple of 2 texts")
        for name in ("timestamps", "seconds"):
            flag(name, getattr(self, name), error=MediaError)
        for name in ("multiple", "cap_tokens", *(("frames",) if self.frames is not None else ())):
            whole_number(name, getattr(self, name), error=MediaError)
        one_of("spread", self.spread, ("nearest", "steps"), error=MediaError)
        one_of("capped", self.capped, ("frame", "clip"), error=MediaError)
        one_of("sampling", self.sampling, ("rate", "seconds", "lengths"), error=MediaError)
        if self.frame_text is not None and not callable(self.frame_text):
            raise MediaError(
                f"frame_text={shown(self.frame_text)}: must be a function of (placeholder, seconds), or None"
            )


@dataclass(frozen=True)
class NativeGeometry(Geometry):
    """Geometry of an encoder that takes pictures of any size; `image_size` is 0 and there are no canvases.

    Attributes:
        patches: of the encoder.
        image_budget: sides of a picture.
        clip_budget: sides of the frames of a clip.
    """

    patches: PatchGeometry = field(kw_only=True)
    image_budget: SizeBudget = field(kw_only=True)
    clip_budget: SizeBudget = field(kw_only=True)

    def image_grid(self, picture: Size) -> Grid:
        """Return the grid in patches of a picture of (height, width) pixels."""
        return self.patches.grid(1, self.image_budget.image_size(picture, self.patches))

    def clip_grid(self, frames: int, picture: Size) -> Grid:
        """Return the grid in patches of `frames` frames of (height, width) pixels."""
        return self.patches.grid(frames, self.clip_budget.frame_size(frames, picture, self.patches))


def read_native_geometry(config: Any, rules: NativeRules) -> NativeGeometry:
    """Read the geometry from a model config.

    Args:
        config: of the model.
        rules: of its family.

    Raises:
        MediaError: a needed number is missing or impossible; the message names the key.
    """
    vision = need(config, "vision_config", "the model's config")
    numbers = {key: _patch_number(config, vision, key, rules) for key in _NUMBERS}
    patches = PatchGeometry(*numbers.values())
    video = getattr(config, "video_token_id", None)
    if rules.form == "grids":
        video = need(config, "video_token_id", "the model's config")
    return NativeGeometry(
        encoder=str(getattr(vision, "model_type", "")),
        image_size=0,
        patch_size=patches.patch,
        canvases=(),
        aspect_ratio="",
        image_token_id=token_id("image_token_id", need(config, "image_token_id", "the model's config")),
        video_token_id=None if video is None else token_id("video_token_id", video),
        pool_stride=patches.merge,
        patches=patches,
        image_budget=rules.image_budget,
        clip_budget=rules.clip_budget,
    )


_NUMBERS = ("patch_size", "spatial_merge_size", "temporal_patch_size")


def _patch_number(config: Any, vision: Any, key: str, rules: NativeRules) -> int:
    """Read a number of the encoder, which some families state beside it (Mistral 3), by another name (Gemma 4), or not.

    Raises:
        MediaError: it is missing or impossible.
    """
    value, where = getattr(vision, key, None), "vision_config in the model's config"
    if value is None and rules.form != "grids":
        if key == "temporal_patch_size":
            return 1
        if getattr(config, key, None) is not None:
            value, where = getattr(config, key), "the model's config"
        elif key == "spatial_merge_size":
            key = "pooling_kernel_size"
            value = getattr(vision, key, None)
    value = need(vision, key, where) if value is None else value
    if not is_whole(value) or not 1 <= value <= 1024:
        raise MediaError(f"{key}={shown(value)} in {where}: expected a whole number from 1 to 1024")
    return int(value)


def native_image_layout(geometry: Geometry, picture: Size, device: str = "cpu") -> Layout:
    """Return the layout of a picture: one view of its own shape, without newlines."""
    native = _native(geometry)
    _, rows, cols = native.image_grid(picture)
    merge = native.patches.merge
    return native_layout((rows // merge, cols // merge), device)


def native_clip_layout(geometry: Geometry, frames: int, picture: Size, device: str = "cpu") -> Layout:
    """Return the layout of a clip: a view for each temporal patch, without newlines."""
    native = _native(geometry)
    depth, rows, cols = native.clip_grid(frames, picture)
    merge = native.patches.merge
    return video_layout(depth, (rows // merge, cols // merge), "none", device=device)


def _native(geometry: Geometry) -> NativeGeometry:
    if not isinstance(geometry, NativeGeometry):
        raise MediaError(f"geometry={shown(geometry)}: this family needs one of read_native_geometry")
    return geometry


CLIP_CHANNELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF_CHANNELS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

QWEN2_RULES = NativeRules(
    image_budget=PixelBudget(56 * 56, 16384 * 28 * 28),
    clip_budget=PixelBudget(56 * 56, 16384 * 28 * 28),
    mean=CLIP_CHANNELS[0],
    std=CLIP_CHANNELS[1],
    multiple=2,
    spread="steps",
)
QWEN3_RULES = NativeRules(
    image_budget=PixelBudget(64 * 32 * 32, 16384 * 32 * 32),
    clip_budget=PixelBudget(4 * 32 * 32, 24576 * 32 * 32, over_clip=True),
    mean=HALF_CHANNELS[0],
    std=HALF_CHANNELS[1],
    timestamps=True,
    capped="frame",
    cap_tokens=768,
)


def _whole_seconds(placeholder: str, seconds: float) -> str:
    return f"<|begin_of_image|>{placeholder}<|end_of_image|>{int(seconds)}"


def _tenths_of_seconds(placeholder: str, seconds: float) -> str:
    return f"<|begin_of_image|>{placeholder}<|end_of_image|>{seconds:.1f} seconds"


GLM4_RULES = NativeRules(
    image_budget=PixelBudget(112 * 112, 28 * 28 * 15000, over_clip=True),
    clip_budget=PixelBudget(112 * 112, 28 * 28 * 2 * 30000, over_clip=True, paired=True),
    mean=CLIP_CHANNELS[0],
    std=CLIP_CHANNELS[1],
    tokens=("<|image|>", "<|video|>"),
    frame_text=_whole_seconds,
    sampling="seconds",
)
GLM46_RULES = replace(GLM4_RULES, frame_text=_tenths_of_seconds, sampling="lengths")

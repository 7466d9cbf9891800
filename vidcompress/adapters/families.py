"""Model families as data: how the inputs of one differ from those of another.

A family states the layouts of a picture and a clip, whose length is the number of placeholders, whether pictures are
cut into crops, and how several pictures in one prompt are cut. The processor knows nothing else about families; a new
one is one `register_family` call, here or in the package with its adapter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from vidcompress.adapters.family.geometry import Geometry as Geometry
from vidcompress.adapters.family.geometry import (
    next_image_layout,
    next_preset_layout,
    next_video_layout,
    one_view_layout,
    onevision_image_layout,
    onevision_video_layout,
    single_view_layout,
    tiled_image_layout,
    tiled_video_layout,
    video_video_layout,
)
from vidcompress.adapters.family.geometry import read_geometry as read_geometry
from vidcompress.adapters.family.native import (
    GLM4_RULES,
    GLM46_RULES,
    QWEN2_RULES,
    QWEN3_RULES,
    native_clip_layout,
    native_image_layout,
    read_native_geometry,
)
from vidcompress.adapters.family.native import NativeRules as NativeRules
from vidcompress.adapters.family.native import PixelBudget as PixelBudget
from vidcompress.adapters.family.split import read_split_geometry, split_clip_text, split_text
from vidcompress.adapters.layouts import Size, closest_grid
from vidcompress.adapters.presets import TOKENS_2880, Preset
from vidcompress.checks import flag, is_number, word
from vidcompress.core.layout import Layout
from vidcompress.errors import MediaError, nearest, shown
from vidcompress.registry import record


@dataclass(frozen=True)
class Family:
    """Model family: the layouts of its pictures and clips, and their text in a prompt.

    Attributes:
        model_type: of the model's config.
        image_layout: (geometry, (height, width) in pixels) to the layout of a picture that stands alone: views, crops,
            newlines and tokens, from numbers alone.
        single_view_layout: geometry to the layout of a picture sent as one view, or None where a prompt with several
            pictures cuts each into crops like any other.
        video_layout: (geometry, frames) to the layout of a clip, or None where the family takes no clips, or follows
            `clip_layout`.
        counts_images: whether `batch_num_images` is among the inputs.
        crops: whether pictures are cut into crops on a canvas of `image_grid_pinpoints`. Where not, a picture is one
            view: `pixel_values` is (picture, channel, height, width) and there are no `image_sizes`.
        presets: named layouts of pictures that differ from the family's own, where it has crops.
        preset_layout: (geometry, preset, (height, width)) to the layout of a picture in a preset, of a family that has
            any.
        clip_note: (duration, times of the frames, both in seconds) to what the family was trained to read before a
            question about a clip, or None.
        native: rules of a family that takes pictures and clips of any size; None where views are squares of one size.
        clip_layout: (geometry, frames, (height, width) in pixels) to the layout of a clip, for such a family.
        tiles: whether pictures are stretched onto `Geometry.tile_grid` and clips are sent as frames, all of them in one
            `pixel_values` (picture, channel, height, width) in the order of the prompts, with a row (height, width,
            frames) of `image_sizes` per picture and clip.
        split: whether pictures are scaled and cut into crops with text before each, instead of stretched onto a grid;
            for a family with `tiles`, whose `pixel_values` is then (row, picture, channel, height, width) without
            `image_sizes`, which are there for clips only.
        tile_rule: rule for the grid of tiles, as in `Geometry`.
        image_token: placeholder of a picture in a prompt, where neither the tokenizer nor the processor's file names
            one.
        image_text: (that placeholder, views) to the text for a picture, with the placeholder once, or once per view
            for a family with tiles; the placeholder itself by default.
        prompt_token: what stands for a picture in a prompt before it is written out, where this is another token than
            the one that `image_text` repeats (Gemma 3).
        token_types: name of the per-token input that is 1 at placeholders of pictures, 2 at those of clips and 0
            elsewhere; None where the family has none.
        resample: number of the resize filter in Pillow, where no file states one.
        clip_text: (that placeholder, frames) to the text for a clip, with the placeholder once per frame; by default
            a clip has a placeholder of its own, and one run.
        segments: number of equal parts of a clip file; the middle frame of each is taken unless a file states another
            number. None for even places from the first to the last frame.
    """

    model_type: str
    image_layout: Callable[[Geometry, Size], Layout]
    single_view_layout: Callable[[Geometry], Layout] | None = None
    video_layout: Callable[[Geometry, int], Layout] | None = None
    counts_images: bool = False
    clip_note: Callable[[float, Sequence[float]], str] | None = None
    crops: bool = True
    presets: tuple[Preset, ...] = ()
    preset_layout: Callable[[Geometry, Preset, Size], Layout] | None = None
    native: NativeRules | None = None
    clip_layout: Callable[[Geometry, int, Size], Layout] | None = None
    tiles: bool = False
    split: bool = False
    tile_rule: Callable[[Size, int, int, int], Size] = closest_grid
    image_token: str = "<image>"
    image_text: Callable[[str, int], str] | None = None
    prompt_token: str | None = None
    token_types: str | None = None
    resample: int = 3
    clip_text: Callable[[str, int], str] | None = None
    segments: int | None = None

    def __repr__(self) -> str:
        kinds = "images and videos" if self.takes_clips else "images"
        presets = [preset.name for preset in self.presets]
        native = ", native resolution" if self.native is not None else ""
        return f"Family({self.model_type!r}, {kinds}, crops={self.crops}, presets={presets}{native})"

    @property
    def takes_clips(self) -> bool:
        """Whether the family takes clips."""
        return self.video_layout is not None or self.clip_layout is not None

    @property
    def placeholders(self) -> tuple[str, str]:
        """Placeholders of a picture and a clip in a prompt, where the tokenizer names none."""
        return (self.image_token, "<video>") if self.native is None else self.native.tokens

    def geometry(self, config: Any) -> Geometry:
        """Read the numbers of a model's config that this family needs.

        Raises:
            MediaError: a needed number is missing or impossible.
        """
        if self.native is not None:
            return read_native_geometry(config, self.native)
        if self.split:
            return read_split_geometry(config)
        return replace(read_geometry(config, crops=self.crops), tile_rule=self.tile_rule)


def repeated_token(family: Family, image_token: str) -> str:
    """Return the token that stands for each token of a picture, where `image_token` stands for it in a prompt."""
    return image_token if family.prompt_token is None else family.image_token


def image_runs(family: Family, geometry: Geometry, length: int) -> tuple[int, ...]:
    """Return the lengths of the runs of a picture with `length` placeholders."""
    if family.image_text is None:
        return (length,)
    views = length // geometry.side**2
    count = family.image_text(family.image_token, views).count(family.image_token)
    return (length // count,) * count


def clip_runs(family: Family, tokens: int, frames: int) -> tuple[int, ...]:
    """Return the lengths of the runs of a clip with `tokens` placeholders: one run, or one per frame."""
    return (tokens,) if family.clip_text is None else (tokens // frames,) * frames


FAMILIES: dict[str, Family] = {}
"""Families by model type; see `register_family`."""


def register_family(family: Family) -> Family:
    """Register a family under its `model_type`.

    Raises:
        MediaError: not a `Family`, or that model type is registered already.
    """
    if not isinstance(family, Family):
        raise MediaError(f"register_family takes a vidcompress.media.Family, got {shown(family)}")
    word("model_type", family.model_type, "llava_next", error=MediaError)
    if not callable(family.image_layout):
        raise MediaError(f"image_layout={shown(family.image_layout)}: must be a function of (geometry, size)")
    if not callable(family.tile_rule):
        raise MediaError(
            f"tile_rule={shown(family.tile_rule)}: must be a function of (picture, fewest, most, side)"
        )
    flag("split", family.split, error=MediaError)
    if family.split and not family.tiles:
        raise MediaError("split=True: needs tiles=True, for its crops are pictures among others")
    if family.native is not None and not isinstance(family.native, NativeRules):
        raise MediaError(f"native={shown(family.native)}: must be NativeRules, or None")
    presets = family.presets
    if not isinstance(presets, tuple) or not all(isinstance(x, Preset) for x in presets):
        raise MediaError(f"presets={shown(presets)}: must be a tuple of vidcompress.adapters.presets.Preset")
    if presets and not family.crops:
        raise MediaError(f"presets={shown(presets)}: need crops=True, for a preset is a canvas of crops")
    if presets and not callable(family.preset_layout):
        raise MediaError(
            f"preset_layout={shown(family.preset_layout)}: must be a function of (geometry, preset, size), for "
            f"presets={shown(presets)}"
        )
    if FAMILIES.get(family.model_type, family) != family:
        raise MediaError(f"model_type={family.model_type!r} is registered already; choose another")
    module = sys._getframe(1).f_globals.get("__name__", "")  # of the caller, which may fail after this call
    record(FAMILIES, family.model_type, family, module)
    return family


def tiled_family(model_type: str, **others: Any) -> Family:
    """Make a family that stretches pictures onto tiles of the encoder's size, with a thumbnail behind several tiles, as
    InternVL does.

    Args:
        model_type: of the model's config.
        **others: fields of `Family` in which it differs.

    Raises:
        MediaError: a model type that is no text, or a field that `Family` does not have.
    """
    word("model_type", model_type, "internvl", error=MediaError)
    allowed = {field.name for field in fields(Family)} - {"model_type", "image_layout", "crops", "tiles"}
    for name in others:
        if name not in allowed:
            raise MediaError(f"tiled_family has no argument {name!r}; {nearest(name, allowed)}")
    return Family(model_type, tiled_image_layout, crops=False, tiles=True, **others)


def native_family(model_type: str, rules: NativeRules, *, clips: bool = True) -> Family:
    """Make a family that takes pictures of any size as patches, as Qwen-VL does.

    Args:
        model_type: of the model's config.
        rules: of its pixels and clips.
        clips: whether its processor here takes clips.

    Raises:
        MediaError: a model type that is no text, or rules that are none.
    """
    word("model_type", model_type, "qwen3_vl", error=MediaError)
    if not isinstance(rules, NativeRules):
        raise MediaError(f"rules={shown(rules)}: must be NativeRules")
    flag("clips", clips, error=MediaError)
    return Family(
        model_type,
        native_image_layout,
        crops=False,
        clip_layout=native_clip_layout if clips else None,
        native=rules,
    )


def get_family(model_type: str) -> Family:
    """Return the family of a model type; families of third-party packages come with their adapters.

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


def time_instruction(duration: float, times: Sequence[float]) -> str:
    """Return sentences about the times of frames, in the form of LLaVA-Video's training.

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


def _framed_image(placeholder: str, views: int = 1) -> str:
    return f"<img>{placeholder}</img>"


def _framed_clip(placeholder: str, frames: int) -> str:
    return "\n".join(f"Frame{number}: {_framed_image(placeholder)}" for number in range(1, frames + 1))


def _split_image(placeholder: str, views: int = 1) -> str:
    """Return the text of a picture whose crops stand in one row; the processor knows the rows."""
    return split_text(placeholder, (1, max(1, views - 1)))


def _split_clip(placeholder: str, frames: int) -> str:
    """Return the text of a clip with a frame each second; the processor knows the times."""
    return split_clip_text(placeholder, range(frames), frames)


register_family(Family("llava", one_view_layout, crops=False))
register_family(tiled_family("idefics3", split=True, image_text=_split_image))
register_family(
    tiled_family(
        "smolvlm",
        split=True,
        video_layout=tiled_video_layout,
        image_text=_split_image,
        clip_text=_split_clip,
    )
)
register_family(
    tiled_family(
        "internvl",
        video_layout=tiled_video_layout,
        image_token="<IMG_CONTEXT>",
        image_text=_framed_image,
        clip_text=_framed_clip,
        segments=8,
    )
)
register_family(
    Family("llava_next", next_image_layout, presets=(TOKENS_2880,), preset_layout=next_preset_layout)
)
register_family(
    Family(
        "llava_onevision",
        onevision_image_layout,
        single_view_layout,
        onevision_video_layout,
        counts_images=True,
    )
)
register_family(
    Family(
        "llava_next_video",
        next_image_layout,
        video_layout=next_video_layout,
        presets=(TOKENS_2880,),
        preset_layout=next_preset_layout,
    )
)
register_family(
    Family(
        "llava_video",
        onevision_image_layout,
        single_view_layout,
        video_video_layout,
        counts_images=True,
        clip_note=time_instruction,
    )
)
for _name, _rules in (
    ("qwen2_vl", QWEN2_RULES),
    ("qwen2_5_vl", replace(QWEN2_RULES, seconds=True)),
    ("qwen3_vl", QWEN3_RULES),
    ("qwen3_vl_moe", QWEN3_RULES),
    ("qwen3_5", QWEN3_RULES),
    ("qwen3_5_moe", QWEN3_RULES),
    ("glm4v", GLM4_RULES),
    ("glm46v", GLM46_RULES),
):
    register_family(native_family(_name, _rules))

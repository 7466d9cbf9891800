"""Pixel budgets and frame rules of native resolution, read from a checkpoint's processor files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vidcompress.adapters.families import NativeRules
from vidcompress.adapters.family.native import (
    NativeGeometry,
    PatchGeometry,
    PixelBudget,
    SizeBudget,
    TokenBudget,
)
from vidcompress.checks import is_number, is_whole
from vidcompress.errors import MediaError, shown
from vidcompress.media.preprocessing.pixel_config import read_frames, read_native_recipe
from vidcompress.media.video.glm_rules import glm_rule
from vidcompress.media.video.paced_rule import PacedRule
from vidcompress.media.video.sampling import SamplingRule

MOST_PIXELS_OF_SIDE = 2**16
"""Largest longest side, and most tokens of a picture; a file from elsewhere may state any number."""
_AROUND = (("vision_start_token", "vision_end_token"), ("boi_token", "eoi_token"))
_EDGES = (("shortest_edge", "min_pixels"), ("longest_edge", "max_pixels"))


def native_settings(
    rules: NativeRules,
    geometry: NativeGeometry,
    image: tuple[Mapping[str, Any], str],
    video: tuple[Mapping[str, Any], str],
    tokenizer: Any,
    joint: Mapping[str, Any],
) -> dict[str, Any]:
    """Read the fields of a `NativeProcessor` from the files of a checkpoint.

    Args:
        rules: of the family.
        geometry: of the model's config.
        image, video: content of the file about pictures and of the one about clips, each with its name for messages.
        tokenizer: of the checkpoint.
        joint: content of processor_config.json, for what is neither of pictures nor of clips.

    Raises:
        MediaError: a value has the wrong type, or does not fit the model.
    """
    if rules.form == "pictures":  # the stock processor reads these of the joint file only
        _check_patches(joint, geometry.patches, "processor_config.json")
    else:
        for raw, origin in (image, video):
            _check_patches(raw, geometry.patches, origin)
    around = tuple(
        str(getattr(tokenizer, name, None) or default)
        for name, default in zip(_AROUND[rules.form == "numbered"], rules.around, strict=True)
    )
    return {
        "geometry": replace(
            geometry,
            image_budget=_budget(image[0], rules.image_budget, image[1]),
            clip_budget=_capped(_budget(video[0], rules.clip_budget, video[1]), video[0], rules, video[1]),
        ),
        "image_recipe": read_native_recipe(image[0], rules, image[1]),
        "video_recipe": read_native_recipe(video[0], rules, video[1]),
        "paced": read_rule(video[0], rules, video[1]),
        "around": around,
        "row_ends": tuple(
            _text(joint, name, default)
            for name, default in zip(("image_break_token", "image_end_token"), rules.row_ends, strict=True)
        ),
    }


def _text(joint: Mapping[str, Any], name: str, default: str) -> str:
    value = joint.get(name, default)
    if not isinstance(value, str) or not value:
        raise MediaError(
            f"processor_config.json: {name}={shown(value)}; expected a token's text, or no entry"
        )
    return value


def _budget(raw: Mapping[str, Any], default: SizeBudget, origin: str) -> SizeBudget:
    """Read a budget of the kind of the family's own."""
    if isinstance(default, PixelBudget):
        return read_budget(raw, default, origin)
    if isinstance(default, TokenBudget):
        most, key = raw.get("max_soft_tokens", default.most), "max_soft_tokens"
    else:
        size, key = raw.get("size"), "longest_edge"
        if size is None:
            return default
        most = size.get(key) if isinstance(size, Mapping) else size
        if most is None and isinstance(size, Mapping) and size.get("height") == size.get("width"):
            most = size.get("height")
    if not is_whole(most) or not 1 <= most <= MOST_PIXELS_OF_SIDE:
        raise MediaError(
            f"{origin}: {key}={shown(most)}; expected a whole number from 1 to {MOST_PIXELS_OF_SIDE}; fetch the "
            "processor's files again"
        )
    return replace(default, most=int(most))


def read_budget(raw: Mapping[str, Any], default: PixelBudget, origin: str) -> PixelBudget:
    """Read the pixel budget of one processor file: `size`, or the older `min_pixels` and `max_pixels`, which win.

    Raises:
        MediaError: not two whole numbers, the first at most the second.
    """
    size = raw.get("size") if raw.get("size") is not None else {}
    if not isinstance(size, Mapping):
        raise MediaError(
            f"{origin}: size={shown(size)}; expected {{'shortest_edge': least, 'longest_edge': most}}"
        )
    bounds = []
    for (edge, older), fallback in zip(_EDGES, (default.least, default.most), strict=True):
        value = next(
            (v for v in (raw.get(older), size.get(edge), size.get(older)) if v is not None), fallback
        )
        if not is_whole(value) or not 1 <= value < 2**53:
            raise MediaError(f"{origin}: {edge}={shown(value)} of size; expected a whole number of pixels")
        bounds.append(int(value))
    if bounds[0] > bounds[1]:
        raise MediaError(f"{origin}: size={shown(bounds)}; shortest_edge must be at most longest_edge")
    return replace(default, least=bounds[0], most=bounds[1])


def _capped(budget: SizeBudget, raw: Mapping[str, Any], rules: NativeRules, origin: str) -> SizeBudget:
    if raw.get("cap_pixels_per_frame") is not True or not isinstance(budget, PixelBudget):
        return budget
    tokens = raw.get("max_video_tokens", rules.cap_tokens)
    if not is_whole(tokens) or tokens < 1:
        raise MediaError(f"{origin}: max_video_tokens={shown(tokens)}; expected a whole number of at least 1")
    if rules.capped == "frame":
        return replace(budget, frame_tokens=int(tokens))
    return replace(budget, clip_tokens=int(tokens))


def read_rule(raw: Mapping[str, Any], rules: NativeRules, origin: str) -> SamplingRule:
    """Read the frame rule of one processor file.

    Raises:
        MediaError: a value is not such a number.
    """
    if rules.sampling != "rate":
        return _seconds_rule(raw, rules, origin)
    fps, frames = raw.get("fps"), read_frames(raw, "num_frames", origin)
    if fps is not None and (not is_number(fps) or fps <= 0):
        raise MediaError(f"{origin}: fps={shown(fps)}; expected a number above 0, or no entry")
    if fps is None and frames is None:
        fps, frames = PacedRule.fps, rules.frames
    return PacedRule(
        num_frames=frames,
        fps=None if frames is not None else fps,
        min_frames=read_frames(raw, "min_frames", origin) or PacedRule.min_frames,
        most_frames=read_frames(raw, "max_frames", origin) or PacedRule.most_frames,
        multiple=rules.multiple,
        spread=rules.spread,
    )


def _seconds_rule(raw: Mapping[str, Any], rules: NativeRules, origin: str) -> SamplingRule:
    stated: dict[str, Any] = {}
    for key in ("fps", "max_duration"):
        value = raw.get(key)
        if value is not None and (not is_number(value) or value <= 0):
            raise MediaError(f"{origin}: {key}={shown(value)}; expected a number above 0, or no entry")
        stated |= {} if value is None else {key: float(value)}
    return glm_rule(rules.sampling, **stated)


def _check_patches(raw: Mapping[str, Any], patches: PatchGeometry, origin: str) -> None:
    for key, own in (
        ("patch_size", patches.patch),
        ("merge_size", patches.merge),
        ("spatial_merge_size", patches.merge),
        ("pooling_kernel_size", patches.merge),
        ("temporal_patch_size", patches.temporal),
    ):
        if raw.get(key) not in (None, own):
            raise MediaError(
                f"{origin}: {key}={shown(raw[key])}, the model's encoder has {own}; take the file that belongs to the "
                "model"
            )

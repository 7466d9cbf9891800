"""Longest edges and frame rules of families that cut scaled pictures, read from a checkpoint's processor files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vidcompress.adapters.family.split import SplitGeometry
from vidcompress.checks import is_number
from vidcompress.errors import MediaError, shown
from vidcompress.media.preprocessing.pixel_config import PixelRecipe, read_frames, read_split_recipe
from vidcompress.media.video.centre_rule import CentreRule


def split_settings(
    geometry: SplitGeometry, image: tuple[Mapping[str, Any], str], video: tuple[Mapping[str, Any], str]
) -> dict[str, Any]:
    """Read the fields of a `SplitProcessor` from the files of a checkpoint.

    Args:
        geometry: of the model's config.
        image, video: content of the file about pictures and of the one about clips, each with its name for messages.

    Raises:
        MediaError: a value has the wrong type, or does not fit the model.
    """
    sampling = video[0].get("video_sampling") or {}
    if not isinstance(sampling, Mapping):
        raise MediaError(f"{video[1]}: video_sampling={shown(sampling)}; expected a JSON object, or no entry")
    image_recipe, video_recipe = (_recipe(raw, geometry, origin) for raw, origin in (image, video))
    splits = image[0].get("do_image_splitting")
    if splits not in (None, True, False):
        raise MediaError(
            f"{image[1]}: do_image_splitting={shown(splits)}; expected true or false, or no entry"
        )
    fps = sampling.get("fps", video[0].get("fps"))
    if fps is not None and (not is_number(fps) or fps <= 0):
        raise MediaError(f"{video[1]}: fps={shown(fps)}; expected a number above 0, or no entry")
    frames = read_frames(sampling, "max_frames", video[1]) or read_frames(video[0], "num_frames", video[1])
    return {
        "geometry": replace(
            geometry,
            longest_edge=_edge(image[0].get("size"), geometry.longest_edge, image[1]),
            clip_edge=_edge(sampling.get("video_size", video[0].get("size")), geometry.clip_edge, video[1]),
            splits=splits is not False,
        ),
        "image_recipe": image_recipe,
        "video_recipe": video_recipe,
        "paced": CentreRule(frames or CentreRule.num_frames, fps or CentreRule.fps),
    }


def _recipe(raw: Mapping[str, Any], geometry: SplitGeometry, origin: str) -> PixelRecipe:
    side = geometry.image_size
    if _edge(raw.get("max_image_size"), side, origin) != side:
        raise MediaError(
            f"{origin}: max_image_size={shown(raw['max_image_size'])}, the model's encoder takes {side} x {side}; take "
            "the file that belongs to the model"
        )
    return read_split_recipe(raw, geometry, origin)


def _edge(value: Any, usual: int, origin: str) -> int:
    """Read a longest edge in pixels; `usual` where the file states none."""
    if value is None:
        return usual
    edge = value.get("longest_edge") if isinstance(value, Mapping) else value
    if isinstance(edge, bool) or not isinstance(edge, int) or not 1 <= edge <= 2**20:
        raise MediaError(f"{origin}: size={shown(value)}; expected {{'longest_edge': pixels}}")
    return edge

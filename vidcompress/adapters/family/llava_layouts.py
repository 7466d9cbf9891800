"""Layouts of the LLaVA families from the numbers of a config: no model, no device, no pixels.

Adapters take them for inputs, `Family` for planning; they are the one description of where tokens stand.
"""

from __future__ import annotations

import math

from vidcompress.adapters.family.geometry import Geometry
from vidcompress.adapters.layouts import Size, image_layout, shrunk_canvas, unpadded_box, video_layout
from vidcompress.adapters.presets import Preset
from vidcompress.core.layout import Layout


def next_image_layout(geometry: Geometry, picture: Size, device: str = "cpu") -> Layout:
    """Layout of a picture of LLaVA-NeXT: a thumbnail, then crops with their border cut off and a newline per row."""
    side, crops = geometry.side, geometry.crop_grid(picture)
    return image_layout((side, side), crops, unpadded=geometry.covered_box(picture, crops), device=device)


def next_preset_layout(geometry: Geometry, preset: Preset, picture: Size, device: str = "cpu") -> Layout:
    """Layout of a picture on the canvas of a preset: nothing is cut off, and there are no newlines."""
    side = geometry.side
    top, left, height, width = unpadded_box(picture, preset.canvas(side))
    if height == 0:  # thinner than a patch: it shows where the rows in the middle meet
        top, height = top - 1, 2
    if width == 0:
        left, width = left - 1, 2
    shown = (top, left, height, width)
    return image_layout((side, side), preset.crops, picture=shown, newline=False, device=device)


def next_video_layout(geometry: Geometry, frames: int, device: str = "cpu") -> Layout:
    """Layout of a clip of LLaVA-NeXT-Video: frames pooled by the config's stride, without newlines."""
    side = geometry.side // geometry.pool_stride
    return video_layout(frames, (side, side), "none", device=device)


def onevision_image_layout(
    geometry: Geometry, picture: Size, device: str = "cpu", *, max_views: int | None = None
) -> Layout:
    """Layout of a picture of LLaVA-OneVision: as of LLaVA-NeXT, and a canvas of too many tokens is resized.

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
    """Layout of a picture that is sent as one view, with one newline."""
    return image_layout((geometry.side, geometry.side), device=device)


def onevision_video_layout(geometry: Geometry, frames: int, device: str = "cpu") -> Layout:
    """Layout of a clip of LLaVA-OneVision: frames halved, rounded up, and one newline behind the clip."""
    side = math.ceil(geometry.side / 2)
    return video_layout(frames, (side, side), "end", device=device)


def video_video_layout(geometry: Geometry, frames: int, device: str = "cpu") -> Layout:
    """Layout of a clip of LLaVA-Video: frames halved, rounded down, with a newline after every row."""
    side = geometry.side // 2
    return video_layout(frames, (side, side), "row", device=device)

"""Pictures and clips at their own resolution: sides, patches, grids and times for Qwen's encoders.

NumPy and Pillow only; no model, no device. The numbers are those of `adapters.family.native`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from vidcompress.adapters.family.native import Grid as Grid
from vidcompress.adapters.family.native import PatchGeometry as PatchGeometry
from vidcompress.adapters.family.native import PixelBudget as PixelBudget
from vidcompress.adapters.family.native import smart_resize as smart_resize
from vidcompress.adapters.family.native import smart_resize_clip as smart_resize_clip
from vidcompress.adapters.layouts import Size
from vidcompress.checks import is_number
from vidcompress.errors import MediaError, shown

Frames = TypeVar("Frames", bound=Any)


def filled(frames: Frames, temporal: int) -> Frames:
    """Repeat the last frame, of an array or a tensor, until the number is a multiple of `temporal`."""
    count = len(frames)
    if count % temporal == 0:
        return frames
    whole: Frames = frames[[min(number, count - 1) for number in range(-(-count // temporal) * temporal)]]
    return whole


def to_patches(frames: Frames, geometry: PatchGeometry) -> Frames:
    """Cut a picture or a clip into patches, in the order of the encoder.

    Args:
        frames: (frame, channel, height, width), an array or a tensor; sides are multiples of `factor`. One picture
            is used for all pictures of a patch.
        geometry: of the encoder.

    Returns:
        (frame * row * column, channel * temporal * patch * patch): block by block, in a block row by row.
    """
    patches: Frames = rearrange(
        filled(frames, geometry.temporal),
        "(t s) c (h m p) (w n q) -> (t h w m n) (c s p q)",
        s=geometry.temporal,
        m=geometry.merge,
        n=geometry.merge,
        p=geometry.patch,
        q=geometry.patch,
    )
    return patches


def patch_times(times: Sequence[float], temporal: int) -> tuple[float, ...]:
    """Return the time of each temporal patch: the mean of its first and last frame; the clip's last frame is repeated.

    Args:
        times: of the frames, in seconds.
        temporal: frames in one patch.
    """
    last = len(times) - 1
    return tuple(
        (times[start] + times[min(start + temporal - 1, last)]) / 2
        for start in range(0, len(times), temporal)
    )


def timestamp(seconds: float) -> str:
    """Return the text before each temporal patch of a clip of Qwen3-VL."""
    return f"<{seconds:.1f} seconds>"


def seconds_per_grid(sampled: int, total: int, fps: float, temporal: int) -> float:
    """Return the seconds from one temporal patch to the next, which Qwen2.5-VL's positions follow.

    Args:
        sampled: frames that were taken.
        total: frames of the whole clip.
        fps: frame rate of the whole clip; 0 where it is not known, which counts as 24.
        temporal: frames in one patch.
    """
    return temporal / (sampled / total * (fps if fps > 0 else 24.0))


def image_patches(
    picture: Any, geometry: PatchGeometry, budget: PixelBudget, *, mean: Sequence[float], std: Sequence[float]
) -> tuple[NDArray[np.float32], Grid]:
    """Make the patches of a picture, and its grid.

    Args:
        picture: an RGB picture of Pillow, or uint8 (height, width, channel).
        geometry: of the encoder.
        budget: of pixels.
        mean: per channel, of values from 0 to 1.
        std: per channel.
    """
    array = np.asarray(picture)
    size = budget.image_size((array.shape[0], array.shape[1]), geometry)
    return _patches(array[None], size, geometry, mean, std)


def clip_patches(
    frames: NDArray[np.uint8],
    geometry: PatchGeometry,
    budget: PixelBudget,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[NDArray[np.float32], Grid]:
    """Make the patches of a clip's frames, uint8 (frame, height, width, channel), and its grid; else as a picture."""
    size = budget.frame_size(len(frames), (frames.shape[1], frames.shape[2]), geometry)
    return _patches(frames, size, geometry, mean, std)


def _patches(
    frames: NDArray[np.uint8],
    size: Size,
    geometry: PatchGeometry,
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[NDArray[np.float32], Grid]:
    from PIL import Image

    if not all(is_number(level) for level in (*mean, *std)) or min(std) <= 0:
        raise MediaError(f"mean={shown(mean)}, std={shown(std)}: must be numbers per channel, std above 0")
    bicubic = Image.Resampling.BICUBIC
    resized = [np.asarray(Image.fromarray(frame).resize(size[::-1], bicubic)) for frame in frames]
    levels = np.stack(resized).astype(np.float32)
    centre, spread = (np.asarray(level, np.float32) * np.float32(255) for level in (mean, std))
    values = rearrange((levels - centre) / spread, "frame h w c -> frame c h w")
    return np.ascontiguousarray(to_patches(values, geometry)), geometry.grid(len(frames), size)

"""Pictures and clips at their own resolution: sides, patches, grids and times as Qwen's encoders take them.

Numbers, NumPy and Pillow only; no model, no device. A grid is (frames, rows, columns) in patches, where a frame stands
for `temporal` pictures. Patches of `merge` x `merge` make one token and stand together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from vidcompress.adapters.layouts import Size
from vidcompress.checks import is_number, whole_number
from vidcompress.errors import MediaError, shown

Grid: TypeAlias = tuple[int, int, int]
Frames = TypeVar("Frames", bound=Any)

LONGEST_RATIO = 200
"""Long side by short side at most; the families' own processors refuse what is longer."""


@dataclass(frozen=True)
class PatchGeometry:
    """Numbers of an encoder that takes patches.

    Attributes:
        patch: side of a patch in pixels.
        merge: patches along one side that make one token.
        temporal: pictures in one patch.
    """

    patch: int
    merge: int = 2
    temporal: int = 2

    @property
    def factor(self) -> int:
        """What sides are multiples of: pixels along one side of a token."""
        return self.patch * self.merge

    def grid(self, frames: int, size: Size) -> Grid:
        """Grid in patches of so many pictures of (height, width) pixels, which are multiples of `factor`."""
        return -(-frames // self.temporal), size[0] // self.patch, size[1] // self.patch

    def tokens(self, grid: Grid) -> int:
        """Tokens of a grid."""
        return math.prod(grid) // self.merge**2


@dataclass(frozen=True)
class PixelBudget:
    """Least and most pixels of a picture or a clip, after which its sides are chosen.

    Attributes:
        least: pixels that less is scaled up to.
        most: pixels that more is scaled down to.
        over_clip: whether `least` and `most` count the pixels of all frames of a clip together (Qwen3-VL), or those of
            each frame (Qwen2-VL, Qwen2.5-VL).
        frame_tokens: most tokens of one frame that a clip is given where its file asks for a cap; None for no cap.
        clip_tokens: tokens of a whole clip, of which a frame gets an even share at most, where its file asks for it.
    """

    least: int
    most: int
    over_clip: bool = False
    frame_tokens: int | None = None
    clip_tokens: int | None = None

    def image_size(self, size: Size, geometry: PatchGeometry) -> Size:
        """(height, width) in pixels that a picture of that size is resized to."""
        return smart_resize(size, geometry.factor, self.least, self.most)

    def frame_size(self, frames: int, size: Size, geometry: PatchGeometry) -> Size:
        """(height, width) in pixels that the frames of a clip are resized to; one frame counts as a whole patch."""
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


def smart_resize(size: Size, factor: int, least: int, most: int) -> Size:
    """The nearest sides that are multiples of `factor`, within a budget of pixels.

    Args:
        size: (height, width) in pixels.
        factor: what sides are multiples of.
        least: pixels that less is scaled up to.
        most: pixels that more is scaled down to.

    Returns:
        (height, width) in pixels; the shape is kept as nearly as the multiples allow.

    Raises:
        MediaError: one side is more than 200 times as long as the other.
    """
    _check_shape(size)
    return _within(size, size[0] * size[1], 1, factor, least, most)


def smart_resize_clip(frames: int, size: Size, factor: int, temporal: int, least: int, most: int) -> Size:
    """The nearest sides of all frames of a clip, within a budget of pixels for the whole clip.

    Args:
        frames: how many frames, at least `temporal`, before the last one is repeated.
        size: (height, width) in pixels.
        factor: what sides are multiples of.
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
    """Sides rounded to multiples; scaled by the root of what the `volume` is over or under the budget."""
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


def filled(frames: Frames, temporal: int) -> Frames:
    """Frames, an array or a tensor, with the last one repeated until they are a multiple of `temporal`."""
    count = len(frames)
    if count % temporal == 0:
        return frames
    whole: Frames = frames[[min(number, count - 1) for number in range(-(-count // temporal) * temporal)]]
    return whole


def to_patches(frames: Frames, geometry: PatchGeometry) -> Frames:
    """Patches of a picture or a clip in the order in which the encoder takes them.

    Args:
        frames: (frame, channel, height, width), an array or a tensor; sides are multiples of `factor`. One picture
            stands for all pictures of a patch.
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
    """Time of each temporal patch: the mean of its first and its last frame, the last frame of a clip being repeated.

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
    """What Qwen3-VL reads before each temporal patch of a clip."""
    return f"<{seconds:.1f} seconds>"


def seconds_per_grid(sampled: int, total: int, fps: float, temporal: int) -> float:
    """Seconds from one temporal patch to the next, which Qwen2.5-VL's positions follow.

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
    """Patches of a picture, and its grid.

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
    """Patches of the frames of a clip, uint8 (frame, height, width, channel), and its grid; else as for a picture."""
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

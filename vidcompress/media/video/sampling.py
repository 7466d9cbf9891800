"""Frame sampling: which frames of a clip are taken, in integer arithmetic shared by every backend."""

from __future__ import annotations

import numpy as np

from vidcompress.checks import DEFAULT_NUM_FRAMES, is_whole, positive, whole_number
from vidcompress.errors import MediaError, SamplingError, shown

MAX_SOURCE_FPS = 100_000
"""Highest frame rate that is believed where `fps` leans on it: high-speed cameras are below."""


def sample_indices(total: int, num_frames: int) -> list[int]:
    """Spread `num_frames` indices evenly over a clip, first and last frame included.

    Args:
        total: frames in the clip, at least 1.
        num_frames: frames wanted, at least 1. One frame is the first one.

    Returns:
        Ascending indices in [0, total - 1]: `linspace(0, total - 1, num_frames)` rounded down, as
        LLaVA-OneVision samples. A clip with fewer frames than asked for gives each of its frames once.

    Raises:
        MediaError: `total` or `num_frames` is below 1.
    """
    if not is_whole(total) or not 1 <= total < 2**53:
        raise MediaError(
            f"total={shown(total)}: must be a whole number, a clip needs at least one frame; check that the file holds "
            "video"
        )
    whole_number("num_frames", num_frames, error=SamplingError)
    if total <= num_frames:
        return list(range(total))
    return [int(i) for i in np.linspace(0, total - 1, num_frames, dtype=int)]


def choose_indices(
    total: int, source_fps: float, *, num_frames: int | None, fps: float | None, max_frames: int
) -> list[int]:
    """Turn what the caller asked for into frame indices.

    Args:
        total: frames in the clip.
        source_fps: average frame rate of the clip in frames per second; used only with `fps`.
        num_frames: how many frames, or None.
        fps: frames per second of clip time, or None: one frame out of every `round(source_fps / fps)`,
            and when that gives more than `max_frames`, `max_frames` of the whole clip instead (LLaVA-Video's rule).
        max_frames: the most frames to return.

    Returns:
        Ascending indices, at most `max_frames` of them. With neither `num_frames` nor `fps`, 32 are taken.

    Raises:
        MediaError: both were given, one is out of range, or `num_frames` exceeds `max_frames`.
    """
    check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
    if fps is None:
        count = min(DEFAULT_NUM_FRAMES, max_frames) if num_frames is None else num_frames
        return sample_indices(total, count)
    if not source_fps > 0:
        raise MediaError(f"fps={fps}: the clip does not state its own frame rate; pass num_frames instead")
    if source_fps > MAX_SOURCE_FPS:
        raise MediaError(
            f"fps={fps}: the clip claims {source_fps:.3g} frames per second, which no camera makes; "
            "pass num_frames instead"
        )
    indices = range(0, total, _step(source_fps, fps, total))
    return list(indices) if len(indices) <= max_frames else sample_indices(total, max_frames)


def _step(source_fps: float, fps: float, total: int) -> int:
    return max(1, round(min(source_fps / fps, float(total))))


def sampling_note(total: int, source_fps: float, *, fps: float | None, max_frames: int) -> tuple[str, ...]:
    """Note on a clip of `choose_indices` whose `fps` could not be met.

    Returns:
        One sentence, or none.
    """
    if fps is None:
        return ()
    count = len(range(0, total, _step(source_fps, fps, total)))
    if count > max_frames:
        taken = f"max_frames={max_frames} of them were taken, spread over all"
        return (f"fps={fps:g} makes {count} frames of this clip; {taken}",)
    if fps > source_fps * 1.01:
        return (f"fps={fps:g} is more than the clip's own {source_fps:g}; every frame was taken",)
    return ()


def check_request(*, num_frames: int | None, fps: float | None, max_frames: int) -> None:
    """Refuse an impossible sampling request before any file is opened.

    Raises:
        SamplingError: both `num_frames` and `fps` were given, or a value is out of range.
    """
    whole_number("max_frames", max_frames, error=SamplingError)
    if num_frames is not None and fps is not None:
        raise SamplingError(
            f"num_frames={shown(num_frames)} and fps={shown(fps)} exclude each other; pass one of them"
        )
    if num_frames is not None and not is_whole(num_frames):
        raise SamplingError(f"num_frames={shown(num_frames)}: must be a whole number of frames")
    if num_frames is not None and not 1 <= num_frames <= max_frames:
        raise SamplingError(f"num_frames={num_frames}: must be from 1 to {max_frames} (max_frames)")
    if fps is not None:
        positive("fps", fps, "frames per second", error=SamplingError)

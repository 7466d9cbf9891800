"""Needle-in-a-haystack benchmark: a digit in one frame of a clip, by length of the clip and position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Final

from vidcompress.tools.evaluation.shapes import ClipScene, paint_clip, sample_clip
from vidcompress.tools.evaluation.suite.entry import Entry, Media

LENGTHS: Final = (8, 16, 32, 64, 128, 256)
"""Frames of a clip."""

POSITIONS: Final = tuple(eighth / 8 for eighth in range(9))
"""Where the frame with the digit is: 0 is the first frame, 1 the last."""

SIDE: Final = 112
MAX_ITEMS: Final = 2


def needle(questions: int, first: int) -> Iterator[Entry]:
    """Questions over every length with every position, in turns.

    Every clip is a new one, so that no cell depends on a few scenes. All frames must be sampled (`num_frames` at least
    256): a sampler that skips the frame makes the question unanswerable.
    """
    cells, seeds = [(frames, position) for frames in LENGTHS for position in POSITIONS], count(first)
    for number in range(questions):
        turn, place = divmod(number, len(cells))
        frames, position = cells[place]
        scene = with_needle(haystack(seeds, frames), position, (place + 7 * turn) % 10)
        name = f"{frames:03d}-{round(1000 * position):04d}-{turn}"
        facts = {"frames": frames, "position": position, "frame": scene.flash_frame}
        media = Media(f"media/{name}.mp4", partial(paint_clip, scene))
        yield Entry(name, "what digit is shown?", _digit(scene), (media,), f"{frames} frames", facts=facts)


def with_needle(scene: ClipScene, position: float, digit: int) -> ClipScene:
    """The clip with another digit, in the frame nearest to `position` (0 the first, 1 the last; halves go up).

    Args:
        scene: a clip with a digit. position: 0 to 1. digit: 0 to 9.
    """
    frame = int(position * (scene.frames - 1) + 0.5)
    return replace(
        scene, flash=None if scene.flash is None else replace(scene.flash, value=digit), flash_frame=frame
    )


def haystack(seeds: Iterator[int], frames: int) -> ClipScene:
    """The clip of the next seed that has a free spot for a digit."""
    scenes = (sample_clip(seed, frames, MAX_ITEMS, (SIDE, SIDE)) for seed in seeds)
    return next(scene for scene in scenes if scene.flash is not None)


def _digit(scene: ClipScene) -> str:
    return "" if scene.flash is None else str(scene.flash.value)

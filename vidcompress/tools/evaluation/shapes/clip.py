"""Clips: objects that appear one after another and move, and a digit that flashes in a single frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt

from vidcompress.tools.evaluation.shapes.draw import background, paint_digit, paint_item
from vidcompress.tools.evaluation.shapes.scene import (
    Box,
    Digit,
    SceneObject,
    overlaps,
    sample_kinds,
    sample_position,
    tinted,
)
from vidcompress.tools.evaluation.shapes.vocabulary import DIRECTIONS

CLIP_SIZES: Final[tuple[tuple[int, int], ...]] = (
    (112, 112),
    (160, 120),
    (128, 96),
    (96, 128),
    (192, 144),
    (176, 160),
)
"""(width, height) of clips, pixels; drawn with equal chances."""

MAX_CLIP_ITEMS: Final = 4
"""The largest number of objects in a clip."""

_STEPS: Final = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Actor:
    """One object of a clip.

    Attributes:
        item: the object where it stands in the frame in which it appears.
        appears: index of the first frame that shows it; it stays to the end.
        direction: one of `DIRECTIONS`, or None if it stands still.
        speed: pixels per frame.
    """

    item: SceneObject
    appears: int
    direction: str | None = None
    speed: float = 0.0

    def at(self, frame: int) -> SceneObject | None:
        """Return the object as frame number `frame` shows it, or None before it appears."""
        if frame < self.appears:
            return None
        if self.direction is None:
            return self.item
        dx, dy = _STEPS[self.direction]
        way = self.speed * (frame - self.appears)
        return replace(self.item, x=round(self.item.x + dx * way), y=round(self.item.y + dy * way))


@dataclass(frozen=True)
class ClipScene:
    """A clip before it is painted.

    Attributes:
        width: pixels, even.
        height: pixels, even.
        frames: how many frames.
        actors: the objects; no two are the same colour and shape.
        flash: the digit, or None.
        flash_frame: index of the only frame that shows the digit.
        background: seed of the texture, the same in all frames.
    """

    width: int
    height: int
    frames: int
    actors: tuple[Actor, ...]
    flash: Digit | None
    flash_frame: int
    background: int


def _swept(first: Box, last: Box) -> Box:
    """Return the smallest box around two boxes."""
    return (min(first[0], last[0]), min(first[1], last[1]), max(first[2], last[2]), max(first[3], last[3]))


def _sample_actor(
    rng: np.random.Generator,
    kind: tuple[str, str],
    appears: int,
    moves: bool,
    size: tuple[int, int],
    frames: int,
) -> Actor | None:
    """Draw where an object stands and how it moves, or None if it does not fit."""
    width, height = size
    scale = min(width, height) / 112
    side = int(rng.integers(round(22 * scale), round(34 * scale)))
    if not moves:
        x, y = sample_position(rng, width, height, side)
        return Actor(SceneObject(*kind, x, y, side, tinted(kind[0], rng)), appears)
    direction = DIRECTIONS[int(rng.integers(len(DIRECTIONS)))]
    dx, dy = _STEPS[direction]
    extent = width if dx else height
    way = rng.uniform(0.38, 0.62) * extent
    low_x, high_x = 1 + (way if dx < 0 else 0), width - side - 1 - (way if dx > 0 else 0)
    low_y, high_y = 1 + (way if dy < 0 else 0), height - side - 1 - (way if dy > 0 else 0)
    if low_x > high_x or low_y > high_y:
        return None
    x, y = round(rng.uniform(low_x, high_x)), round(rng.uniform(low_y, high_y))
    item = SceneObject(*kind, x, y, side, tinted(kind[0], rng))
    return Actor(item, appears, direction, way / (frames - 1 - appears))


def _sample_flash(rng: np.random.Generator, size: tuple[int, int], taken: list[Box]) -> Digit | None:
    """Draw the flashing digit in a free spot, or None if there is none."""
    width, height = size
    scale = min(width, height) / 112
    for _ in range(30):
        tall = int(rng.integers(round(20 * scale), round(30 * scale)))
        wide = round(tall * 5 / 7)
        x, y = int(rng.integers(2, width - wide - 2)), int(rng.integers(2, height - tall - 2))
        if not overlaps((x, y, x + wide, y + tall), taken, gap=2):
            return Digit(int(rng.integers(10)), x, y, tall, 255 if rng.random() < 0.5 else 0)
    return None


def sample_clip(
    seed: int, frames: int = 8, max_items: int = MAX_CLIP_ITEMS, size: tuple[int, int] | None = None
) -> ClipScene:
    """Draw a clip.

    Args:
        seed: the same seed and arguments always give the same clip.
        frames: its number of frames, at least 1; with fewer than 4 nothing moves.
        max_items: at most this many objects (1 to 4).
        size: (width, height) in pixels, even; drawn at random if None.

    Returns:
        The clip; paths of objects never cross and the digit hides nothing.

    Raises:
        ValueError: if `frames` is below 1.
    """
    if frames < 1:
        raise ValueError(f"frames={frames} must be at least 1; ask for one frame or more")
    rng = np.random.default_rng([seed, 3])
    size = size or CLIP_SIZES[int(rng.integers(len(CLIP_SIZES)))]
    count = int(rng.integers(1, min(max_items, MAX_CLIP_ITEMS) + 1))
    appears = [0] * count
    if count > 1 and frames >= 4 and rng.random() < 0.65:
        later = 1 + rng.permutation(frames - 2)[: count - 1]
        appears = [0, *(int(frame) for frame in later)][:count]
        appears += [0] * (count - len(appears))
    actors: list[Actor] = []
    taken: list[Box] = []
    movers = 0
    for index, kind in enumerate(sample_kinds(rng, count)):
        may_move = frames >= 4 and appears[index] <= frames - 4 and movers < 2
        moves = may_move and rng.random() < 0.6
        for _ in range(40):
            actor = _sample_actor(rng, kind, appears[index], moves, size, frames)
            if actor is None:
                continue
            last = actor.at(frames - 1)
            box = _swept(actor.item.box, last.box if last else actor.item.box)
            if not overlaps(box, taken, gap=2):
                actors.append(actor)
                taken.append(box)
                movers += int(moves)
                break
    flash = _sample_flash(rng, size, taken) if rng.random() < 0.6 else None
    order = rng.permutation(len(actors))
    return ClipScene(
        size[0],
        size[1],
        frames,
        tuple(actors[index] for index in order),
        flash,
        int(rng.integers(frames)),
        int(rng.integers(2**31)),
    )


def paint_clip(scene: ClipScene) -> npt.NDArray[np.uint8]:
    """Paint a clip.

    Returns:
        uint8 (frames, height, width, 3).
    """
    empty = background(scene.background, scene.width, scene.height)
    frames = np.repeat(empty[None], scene.frames, axis=0)
    for number, canvas in enumerate(frames):
        for actor in scene.actors:
            item = actor.at(number)
            if item is not None:
                paint_item(canvas, item)
        if scene.flash is not None and number == scene.flash_frame:
            paint_digit(canvas, scene.flash)
    return frames


def write_frames(
    frames: npt.NDArray[np.uint8], path: str | Path, fps: int = 2, crf: int = 16, threads: int | None = None
) -> None:
    """Write frames as an H.264 file (x264, yuv420p).

    Args:
        frames: uint8 (T, height, width, 3); height and width even.
        path: the file to write; its ending names the container (".mp4").
        fps: frames per second.
        crf: x264's constant rate factor; lower is better and larger.
        threads: of the encoder, on which its bytes depend; None is one per core or so, as x264 chooses.

    Raises:
        ValueError: if a side of the frames is odd.
    """
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(
            f"frames are {width}x{height}; H.264 needs even sides, so crop or pad them by one pixel"
        )
    options = {"crf": str(crf), "preset": "medium"} | ({} if threads is None else {"threads": str(threads)})
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())

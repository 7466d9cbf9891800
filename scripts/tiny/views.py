"""Crowded scenes cut into views, with a label for every patch, for the training of the encoders."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tiny.architecture import GRID, PATCH, VIEW
from vidcompress.tools.evaluation.shapes.draw import background, paint_digit, paint_item
from vidcompress.tools.evaluation.shapes.scene import Digit, SceneObject, overlaps, place_digit, tinted
from vidcompress.tools.evaluation.shapes.vocabulary import COLORS, SHAPES

Ints = npt.NDArray[np.int64]
IGNORE = -100
COLOR_NAMES, SHAPE_NAMES = list(COLORS), list(SHAPES)
TAGS = len(COLORS) + len(SHAPES) + len(COLORS) * len(SHAPES) + 10
"""Entries of the multi-label target: colours, shapes, colour x shape pairs, digits."""


@dataclass
class Views:
    """A batch of labelled views.

    Attributes:
        pixels: uint8 (N, 112, 112, 3), or (N, 2, 112, 112, 3) for pairs of frames.
        color: (N, 64), 0 for background, else 1 + the colour's index; -100 where not asked.
        shape: (N, 64), likewise for shapes.
        digit: (N, 64), 0 for no digit, else 1 + the digit.
        tags: uint8 (N, TAGS), which colours, shapes, pairs and digits the view shows; 2 where not asked.
    """

    pixels: npt.NDArray[np.uint8]
    color: Ints
    shape: Ints
    digit: Ints
    tags: npt.NDArray[np.uint8]


def jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """Return uint8 (H, W, 3) after a JPEG round trip: the blur of stored images and video frames."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _crowd(rng: np.random.Generator, side: int) -> tuple[list[SceneObject], list[Digit]]:
    """Draw objects and digits for a crowded square picture of `side` pixels."""
    if side == VIEW:
        count, sizes, digits, tall = int(rng.integers(0, 5)), (18, 48), int(rng.integers(0, 4)), (16, 30)
    else:
        count, sizes, digits, tall = int(rng.integers(1, 15)), (18, 52), int(rng.integers(1, 9)), (14, 26)
    items: list[SceneObject] = []
    for _ in range(count):
        for _ in range(12):
            size = int(rng.integers(*sizes))
            x, y = (int(v) for v in rng.integers(1, side - size, 2))
            if not overlaps((x, y, x + size, y + size), [item.box for item in items], gap=1):
                color = COLOR_NAMES[int(rng.integers(len(COLORS)))]
                shape = SHAPE_NAMES[int(rng.integers(len(SHAPES)))]
                items.append(SceneObject(color, shape, x, y, size, tinted(color, rng)))
                break
    placed: list[Digit] = []
    for _ in range(digits):
        taken = [item.box for item in items] + [digit.box for digit in placed]
        digit = place_digit(rng, side, side, items, taken, tall)
        if digit is not None and not overlaps(digit.box, [other.box for other in placed], gap=1):
            placed.append(digit)
    return items, placed


def _coverage(ids: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int64]:
    """Count, per patch, the pixels of every instance: uint8 (112, 112) ids 0..count to (count, 64)."""
    if count == 0:
        return np.zeros((0, GRID * GRID), dtype=np.int64)
    patches = np.arange(VIEW) // PATCH
    cell = patches[:, None] * GRID + patches[None, :]
    flat = np.bincount((cell * (count + 1) + ids).ravel(), minlength=GRID * GRID * (count + 1))
    return flat.reshape(GRID * GRID, count + 1).T[1:]


def _label(
    ids: npt.NDArray[np.uint8],
    digit_ids: npt.NDArray[np.uint8],
    items: list[SceneObject],
    digits: list[Digit],
    scale: float,
) -> dict[str, Any]:
    """Label one view from its instance maps; `scale` is view pixels per scene pixel."""
    color, shape, digit = (np.zeros(GRID * GRID, dtype=np.int64) for _ in range(3))
    tags = np.zeros(TAGS, dtype=np.uint8)
    first_shape, first_pair = len(COLORS), len(COLORS) + len(SHAPES)
    covered = _coverage(ids, len(items))
    for index, item in enumerate(items):
        cells = covered[index]
        pixels = cells.sum()
        if pixels == 0:
            continue
        fill = {"circle": 0.78, "ring": 0.6, "square": 0.77, "triangle": 0.46, "star": 0.3, "cross": 0.54}[
            item.shape
        ]
        share = pixels / (fill * (item.size * scale) ** 2)
        mine = (cells == covered.max(axis=0)) & (cells >= 20)
        hue, form = COLOR_NAMES.index(item.color), SHAPE_NAMES.index(item.shape)
        color[mine] = 1 + hue
        shape[mine] = 1 + form if share > 0.5 else IGNORE
        color[(cells > 0) & (cells < 20) & (color == 0)] = IGNORE
        for tag in (hue, first_shape + form, first_pair + hue * len(SHAPES) + form):
            tags[tag] = 1 if share > 0.5 else max(tags[tag], 2 * int(tags[tag] != 1))
    shape[color == IGNORE] = IGNORE
    covered = _coverage(digit_ids, len(digits))
    for index, one in enumerate(digits):
        cells = covered[index]
        if cells.sum() == 0:
            continue
        height = one.height * scale
        whole = cells.sum() > 0.85 * height * height * 5 / 7
        legible = whole and height >= 12
        digit[cells > 0] = IGNORE
        digit[cells > 45] = 1 + one.value if legible else IGNORE
        tag = TAGS - 10 + one.value
        tags[tag] = 1 if legible else max(tags[tag], 2 * int(tags[tag] != 1))
    return {"color": color, "shape": shape, "digit": digit, "tags": tags}


def _cut(
    picture: npt.NDArray[np.uint8], maps: npt.NDArray[np.uint8], items: list[SceneObject], digits: list[Digit]
) -> list[dict[str, Any]]:
    """Cut a square picture into its views: itself, or a thumbnail and four crops."""
    side = picture.shape[0]
    if side == VIEW:
        return [{"pixels": picture, **_label(maps[0], maps[1], items, digits, 1.0)}]
    small = np.asarray(Image.fromarray(picture).resize((VIEW, VIEW), Image.Resampling.BICUBIC))
    views = [{"pixels": small, **_label(maps[0, ::2, ::2], maps[1, ::2, ::2], items, digits, 0.5)}]
    for top in (0, VIEW):
        for left in (0, VIEW):
            window = (slice(top, top + VIEW), slice(left, left + VIEW))
            views.append(
                {"pixels": picture[window], **_label(maps[0][window], maps[1][window], items, digits, 1.0)}
            )
    return views


def crowded_views(seed: int, pairs: bool = False) -> list[dict[str, Any]]:
    """Paint one crowded picture and cut it: five views of 224 pixels, or one of 112, with labels.

    Args:
        seed: of the picture.
        pairs: every view is a pair of frames, as a temporal patch has them; half of the time the frames differ: things
            that are in one of them only are labelled as well.
    """
    if pairs:
        return _crowded_pairs(seed)
    rng = np.random.default_rng([seed, 11])
    side = VIEW if rng.random() < 0.5 else 2 * VIEW
    items, digits = _crowd(rng, side)
    picture = background(int(rng.integers(2**31)), side, side)
    maps = np.zeros((2, side, side), dtype=np.uint8)
    before = picture.copy()
    for index, item in enumerate(items):
        paint_item(picture, item)
        x0, y0, x1, y1 = item.box
        changed = (picture[y0:y1, x0:x1] != before[y0:y1, x0:x1]).any(axis=2)
        maps[0, y0:y1, x0:x1][changed] = index + 1
    for index, digit in enumerate(digits):
        paint_digit(picture, digit)
        x0, y0, x1, y1 = digit.box
        maps[1, y0:y1, x0:x1] = index + 1
    return _cut(_worn(picture, rng), maps, items, digits)


def _worn(picture: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Pass a square picture through JPEG or another size, half of the time."""
    side, style = picture.shape[0], rng.random()
    if style < 0.25:
        return jpeg(picture, int(rng.integers(60, 96)))
    if style < 0.5:
        other = int(side * rng.uniform(0.65, 1.3))
        resized = Image.fromarray(picture).resize((other, other), Image.Resampling.BICUBIC)
        return np.asarray(resized.resize((side, side), Image.Resampling.BICUBIC))
    return picture


def _crowded_pairs(seed: int) -> list[dict[str, Any]]:
    """Paint a crowded picture twice; half of the time 2 in 5 things are in one of the two only."""
    rng = np.random.default_rng([seed, 12])
    side = VIEW if rng.random() < 0.5 else 2 * VIEW
    items, digits = _crowd(rng, side)
    ground = background(int(rng.integers(2**31)), side, side)
    same = rng.random() < 0.5
    frames = [ground.copy(), ground.copy()]
    maps = np.zeros((2, side, side), dtype=np.uint8)
    for layer, things, brush in ((0, items, paint_item), (1, digits, paint_digit)):
        for index, thing in enumerate(things):
            shown = 2 if same else int(rng.choice(3, p=(0.2, 0.2, 0.6)))
            x0, y0, x1, y1 = thing.box
            for frame, picture in enumerate(frames):
                if shown in (frame, 2):
                    before = picture[y0:y1, x0:x1].copy()
                    brush(picture, thing)
                    changed = (picture[y0:y1, x0:x1] != before).any(axis=2)
                    maps[layer, y0:y1, x0:x1][changed | (layer == 1)] = index + 1
    worn = int(rng.integers(2**31))
    pictures = [_worn(picture, np.random.default_rng([worn, 13])) for picture in frames]
    first, second = (_cut(picture, maps, items, digits) for picture in pictures)
    return [
        {**one, "pixels": np.stack([one["pixels"], two["pixels"]])}
        for one, two in zip(first, second, strict=True)
    ]


def labelled_views(first_seed: int, count: int, pairs: bool = False) -> Views:
    """Collect at least `count` views (of pairs of frames, if asked) from consecutive seeds, and cut to `count`."""
    views: list[dict[str, Any]] = []
    seed = first_seed
    while len(views) < count:
        views.extend(crowded_views(seed, pairs))
        seed += 1
    views = views[:count]
    return Views(**{key: np.stack([view[key] for view in views]) for key in views[0]})

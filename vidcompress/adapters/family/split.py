"""Families that scale a picture to a longest edge and cut it into crops, as Idefics3 and SmolVLM do.

No model, no device, no pixels. The sides are rounded up to whole crops, so that the crops cover the whole picture, and
the picture is stretched to them. A picture that becomes one crop is one view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from vidcompress.adapters.family.geometry import Geometry, read_geometry
from vidcompress.adapters.layouts import Size
from vidcompress.errors import MediaError

LONGEST_SIDE = 4096
"""Largest side of a scaled picture in pixels, whatever a file states."""
USUAL_CROPS = 4
"""Crops along the longer side, where no file states the longest edge."""
MOST_CROPS = 1000
"""Most crops of one picture; a file from elsewhere may state any edge."""

MARK, GLOBAL_MARK = "<fake_token_around_image>", "<global-img>"


@dataclass(frozen=True)
class SplitGeometry(Geometry):
    """Geometry of a family that cuts scaled pictures into crops of the encoder's size.

    Attributes:
        longest_edge: longer side in pixels that a picture is scaled to before it is cut.
        clip_edge: longer side in pixels that a frame is scaled to before it becomes a square.
        splits: whether pictures are cut; where not, each is one view.
    """

    longest_edge: int = field(kw_only=True)
    clip_edge: int = field(kw_only=True)
    splits: bool = field(default=True, kw_only=True)

    def tile_grid(self, picture: Size) -> Size:
        """Return (rows, cols) of crops of a picture of (height, width) pixels; (1, 1) for one that is a single view.

        Raises:
            MediaError: more than 1,000 crops.
        """
        if not self.splits:
            return 1, 1
        height, width = self.crop_size(picture)
        rows, cols = height // self.image_size, width // self.image_size
        if rows * cols > MOST_CROPS:
            raise MediaError(
                f"longest_edge={self.longest_edge}: makes {rows} x {cols} crops of a picture of "
                f"{picture[0]} x {picture[1]} pixels, more than {MOST_CROPS}; take the file that belongs to the model"
            )
        return rows, cols

    def scale_size(self, picture: Size) -> Size:
        """Return (height, width) of a picture whose longer side is `longest_edge`; the shorter one is even."""
        return scaled_size(picture, self.longest_edge)

    def crop_size(self, picture: Size) -> Size:
        """Return (height, width) of whole crops that a scaled picture is stretched to."""
        height, width = self.scale_size(picture)
        side, ratio = self.image_size, width / height

        def up(length: float) -> int:
            return math.ceil(length / side) * side

        if width >= height:
            width = up(width)
            return up(int(width / ratio)), width
        height = up(height)
        return height, up(int(height * ratio))


def scaled_size(picture: Size, edge: int) -> Size:
    """Return (height, width) of a picture whose longer side becomes `edge` pixels, at most 4,096."""
    height, width = picture
    ratio = width / height
    if width >= height:
        width, height = edge, _even(edge / ratio)
    else:
        height, width = edge, _even(edge * ratio)
    height, width = max(height, 1), max(width, 1)
    if max(height, width) > LONGEST_SIDE:
        ratio = width / height
        if width >= height:
            width, height = LONGEST_SIDE, int(LONGEST_SIDE / ratio)
        else:
            height, width = LONGEST_SIDE, int(LONGEST_SIDE * ratio)
    return max(height, 1), max(width, 1)


def _even(length: float) -> int:
    return int(length) + int(length) % 2


def read_split_geometry(config: Any) -> SplitGeometry:
    """Read the geometry from a model config, with the longest edges of the published checkpoints.

    Args:
        config: of the model.

    Raises:
        MediaError: a needed number is missing or impossible; the message names the key.
    """
    plain = read_geometry(config, crops=False)
    edge = USUAL_CROPS * plain.image_size
    own = {entry.name: getattr(plain, entry.name) for entry in fields(plain)}
    return SplitGeometry(**own, longest_edge=edge, clip_edge=edge)


def split_text(placeholder: str, crops: Size, *, mark: str = MARK, global_mark: str = GLOBAL_MARK) -> str:
    """Return what stands in a prompt for a picture of (rows, cols) crops; (1, 1) is a whole picture alone.

    Args:
        placeholder: of a picture, written once per view.
        crops: of the picture.
        mark: before every view and behind the last one.
        global_mark: before the whole picture.
    """
    whole = f"{mark}{global_mark}{placeholder}{mark}"
    if crops == (1, 1):
        return whole
    rows = [
        "".join(f"{mark}<row_{row}_col_{col}>{placeholder}" for col in range(1, crops[1] + 1)) + "\n"
        for row in range(1, crops[0] + 1)
    ]
    return "".join(rows) + f"\n{whole}"


def split_clip_text(
    placeholder: str,
    times: Sequence[float],
    duration: float,
    *,
    mark: str = MARK,
    global_mark: str = GLOBAL_MARK,
) -> str:
    """Return what stands in a prompt for a clip: its length, and before every frame its time.

    Args:
        placeholder: of a picture, written once per frame.
        times: of the frames, in seconds.
        duration: of the clip, in seconds.
        mark, global_mark: as in `split_text`.
    """
    whole = split_text(placeholder, (1, 1), mark=mark, global_mark=global_mark)
    seconds = int(duration)
    length = f"{seconds // 3600 % 24}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if seconds >= 86400:
        days = seconds // 86400
        length = f"{days} day{'s' if days > 1 else ''}, {length}"
    frames = "".join(f"\nFrame from {int(time // 60):02d}:{int(time % 60):02d}:{whole}" for time in times)
    return (
        f"You are provided the following series of {in_words(len(times))} frames from a {length} [H:MM:SS] video.\n"
        f"{frames}\n\n"
    )


_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def in_words(number: int) -> str:
    """Return a whole number from 0 to 999,999 in English words, such as "one hundred and twenty-one"."""
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_SMALL[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_SMALL[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    if not rest:
        return f"{in_words(thousands)} thousand"
    return f"{in_words(thousands)} thousand{' and' if rest < 100 else ','} {in_words(rest)}"

"""Where a picture goes on a canvas of crops, and how much of the canvas it covers: integers in, integers out.

Both supported families cut high-resolution pictures the same way: choose the canvas that keeps most of the
picture, fit the picture into it without distortion, centre it on black, and cut the canvas into crops of the
encoder's size. After the encoder the model cuts the black border off again. Processor and model must agree to
the token, so each rounding below is the model's own.
"""

from __future__ import annotations

import math
import re

from vidcompress.errors import MediaError

Size = tuple[int, int]


def best_canvas(picture: Size, canvases: list[Size]) -> Size:
    """The canvas on which most of the picture's pixels survive; among equals, the one with least left empty.

    Args:
        picture: (height, width) in pixels, each at least 1.
        canvases: (height, width) candidates in pixels; earlier ones win ties.
    """

    def rank(canvas: Size) -> tuple[int, int]:
        scale = min(canvas[1] / picture[1], canvas[0] / picture[0])
        kept = min(int(picture[1] * scale) * int(picture[0] * scale), picture[0] * picture[1])
        return kept, -(canvas[0] * canvas[1] - kept)

    return max(canvases, key=rank)


def fit_inside(picture: Size, canvas: Size) -> Size:
    """Largest (height, width) of the picture's shape inside the canvas; the free side is rounded up."""
    scale_h, scale_w = canvas[0] / picture[0], canvas[1] / picture[1]
    if scale_w < scale_h:
        return min(math.ceil(picture[0] * scale_w), canvas[0]), canvas[1]
    return canvas[0], min(math.ceil(picture[1] * scale_h), canvas[1])


def unpadded_grid(picture: Size, grid: Size) -> Size:
    """Rows and columns of a canvas's token grid that are left once its border is cut off.

    Args:
        picture: (height, width) of the picture in pixels.
        grid: (rows, cols) of the whole canvas in tokens.

    Returns:
        (rows, cols). The border is cut equally on both sides, so an odd token of it stays.
    """
    rows, cols = grid
    if picture[1] / picture[0] > cols / rows:
        covered = int(round(picture[0] * (cols / picture[1]), 7))
        return rows - (rows - covered) // 2 * 2, cols
    covered = int(round(picture[1] * (rows / picture[0]), 7))
    return rows, cols - (cols - covered) // 2 * 2


def capped_grid(grid: Size, side: int, aspect_ratio: str) -> Size:
    """The token grid after OneVision shrinks a canvas that holds too many tokens.

    Args:
        grid: (rows, cols) after the border was cut off.
        side: tokens along one side of one crop.
        aspect_ratio: "anyres_max_<k>": the cap is k crops' worth of tokens, with 21 % of slack.

    Returns:
        (rows, cols), unchanged when within the cap.

    Raises:
        MediaError: `aspect_ratio` has another form.
    """
    match = re.fullmatch(r"anyres_max_(\d+)", aspect_ratio)
    if match is None or int(match[1]) < 1:
        raise MediaError(
            f"vision_aspect_ratio={aspect_ratio!r} in the model's config: expected 'anyres_max_<k>', k >= 1"
        )
    ratio = math.sqrt(grid[0] * grid[1] / (int(match[1]) * side**2))
    return (int(grid[0] // ratio), int(grid[1] // ratio)) if ratio > 1.1 else grid

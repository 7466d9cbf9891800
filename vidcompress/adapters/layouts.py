"""Layouts of images and videos, from sizes alone.

All families cut high-resolution pictures in the same way: the canvas that keeps most of the picture is chosen, the
picture is fitted into it without distortion and centred on black, and the canvas is cut into crops of the encoder's
size. After the encoder the model cuts the black border off again. Processor and model must agree to the token, so
each rounding is the model's own, written from `select_best_resolution`, `pack_image_features`, `unpad_image` and
`apply_pooling` in transformers; the adapters check the resulting lengths against the real features at every call.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Layout, View

Newlines = Literal["none", "end", "row"]
Size = tuple[int, int]


def best_canvas(picture: Size, canvases: list[Size]) -> Size:
    """Return the canvas that keeps most of the picture's pixels; among equals, the one with the least empty area.

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
    """Return the largest (height, width) of the picture's shape inside the canvas; the free side is rounded up."""
    scale_h, scale_w = canvas[0] / picture[0], canvas[1] / picture[1]
    if scale_w < scale_h:
        return min(math.ceil(picture[0] * scale_w), canvas[0]), canvas[1]
    return canvas[0], min(math.ceil(picture[1] * scale_h), canvas[1])


def unpadded_box(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return (top, left, rows, cols) of a padded canvas without its padding, in tokens.

    Args:
        size: (height, width) of the original image in pixels.
        canvas: (rows, cols) of the padded canvas in tokens.
    """
    height, width = size
    rows, cols = canvas
    if width / height > cols / rows:
        pad = (rows - int(round(height * (cols / width), 7))) // 2
        return pad, 0, rows - 2 * pad, cols
    pad = (cols - int(round(width * (rows / height), 7))) // 2
    return 0, pad, rows, cols - 2 * pad


def shrunk_canvas(canvas: tuple[int, int], grid: tuple[int, int], max_views: int | None) -> tuple[int, int]:
    """Return the canvas after the `anyres_max_k` rule: at most about k views of tokens, else shrunk bilinearly."""
    rows, cols = canvas
    if max_views is None:
        return canvas
    ratio = math.sqrt(rows * cols / (max_views * grid[0] ** 2))
    return (int(rows // ratio), int(cols // ratio)) if ratio > 1.1 else canvas


def closest_grid(picture: Size, fewest: int, most: int, side: int) -> Size:
    """Return (rows, cols) of square tiles whose shape is closest to a picture's, as in InternVL and its relatives.

    Grids are compared in the order of their number of tiles, then of their columns. A later one that is equally close
    is taken where the picture has more than half the pixels of that grid.

    Args:
        picture: (height, width) in pixels, each at least 1.
        fewest: least number of tiles.
        most: largest number of tiles, at least `fewest`.
        side: of a tile, in pixels.
    """
    height, width = picture
    grids = [
        (rows, cols)
        for cols in range(1, most + 1)
        for rows in range(1, most // cols + 1)
        if rows * cols >= fewest
    ]
    closest, least = (1, 1), math.inf
    for rows, cols in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        distance = abs(width / height - cols / rows)
        large = height * width > 0.5 * side * side * rows * cols
        if distance < least or (distance == least and large):
            closest, least = (rows, cols), distance
    return closest


@lru_cache(maxsize=256)
@outside_caller_modes
def tiled_layout(grid: tuple[int, int], tiles: Size | int, device: str = "cpu") -> Layout:
    """Return the layout of whole tiles in row order and the thumbnail behind them; one tile is a single view.

    Args:
        grid: (rows, cols) of tokens of one view.
        tiles: (rows, cols) of tiles on the picture, or their number where their places are not known: they then have
            no boxes, and there is no canvas.
        device: where the index tensors live.
    """
    if device != "cpu":
        return tiled_layout(grid, tiles).to(device)
    count = tiles if isinstance(tiles, int) else tiles[0] * tiles[1]
    if count == 1:
        return image_layout(grid, newline=False, device=device)
    rows, cols = grid
    view = torch.arange(count + 1).repeat_interleave(rows * cols)
    cell = torch.arange(rows * cols).repeat(count + 1)
    row, col = cell // cols, cell % cols
    views = [View("crop", rows, cols) for _ in range(count)]
    canvas = None
    if not isinstance(tiles, int):
        canvas = (tiles[0] * rows, tiles[1] * cols)
        places = [(i, j) for i in range(tiles[0]) for j in range(tiles[1])]
        views = [_crop(i, j, rows, cols, grid, tiles, (0, 0, *canvas)) for i, j in places]
        in_tile = view < count
        row = row + torch.where(in_tile, view // tiles[1] * rows, 0)
        col = col + torch.where(in_tile, view % tiles[1] * cols, 0)
    flat = (view, row, col, torch.zeros_like(view), torch.zeros_like(view))
    views.append(View("thumbnail", rows, cols))
    sizes = (rows * cols,) * (count + 1)
    return _layout("image", tuple(views), flat, None, grid, canvas, sizes, 0, device)


@lru_cache(maxsize=256)
@outside_caller_modes
def image_layout(
    grid: tuple[int, int],
    crops: tuple[int, int] | None = None,
    *,
    unpadded: tuple[int, int, int, int] | None = None,
    shrunk: tuple[int, int] | None = None,
    picture: tuple[int, int, int, int] | None = None,
    padded_rows_keep_newline: bool = False,
    newline: bool = True,
    device: str = "cpu",
) -> Layout:
    """Return the layout of a thumbnail, then (with crops) a canvas in row order with a newline after every row.

    Args:
        grid: (rows, cols) of tokens of one view.
        crops: (rows, cols) of the crop grid, or None for a single view followed by one newline.
        unpadded: (top, left, rows, cols) of the canvas that survives unpadding; the whole canvas by default.
        picture: (top, left, rows, cols) of the canvas that shows the picture, where the padding stays; the whole canvas
            by default.
        shrunk: (rows, cols) of the unpadded canvas after a further resize, if any. A token belongs to the crop
            in which its centre lies.
        padded_rows_keep_newline: also emit the newline of rows that are all padding, as the authors' code does.
        newline: whether rows of the canvas, or a single view, are followed by their newline.
        device: where the index tensors live.
    """
    if device != "cpu":
        cut = {"unpadded": unpadded, "shrunk": shrunk, "picture": picture}
        whole = image_layout(
            grid, crops, **cut, padded_rows_keep_newline=padded_rows_keep_newline, newline=newline
        )
        return whole.to(device)
    rows, cols = grid
    size = rows * cols
    thumb = torch.arange(size)
    thumbnail = View("thumbnail", rows, cols)
    if crops is None:
        flat = (torch.zeros(size), thumb // cols, thumb % cols, torch.zeros(size), torch.zeros(size))
        end = (
            torch.tensor([1]),
            torch.tensor([rows - 1]),
            torch.tensor([cols]),
            torch.tensor([0]),
            torch.tensor([1]),
        )
        last = end if newline else None
        return _layout("image", (thumbnail,), flat, last, grid, None, (size,), int(newline), device)
    full = (crops[0] * rows, crops[1] * cols)
    top, left, height, width = unpadded or (0, 0, *full)
    out_rows, out_cols = shrunk or (height, width)
    row_view = _owner(out_rows, height, top, rows)
    col_view = _owner(out_cols, width, left, cols)
    before, after = (top, full[0] - top - height) if padded_rows_keep_newline else (0, 0)
    width_of_line = out_cols + newline
    r, c = torch.meshgrid(torch.arange(-before, out_rows + after), torch.arange(width_of_line), indexing="ij")
    inside = ((r >= 0) & (r < out_rows)) | (c == out_cols)
    r, c = r[inside], c[inside]
    is_newline = c == out_cols
    num_views = 1 + crops[0] * crops[1]
    owner = torch.full_like(r, num_views)
    owner[~is_newline] = 1 + row_view[r[~is_newline]] * crops[1] + col_view[c[~is_newline]]
    lines = out_rows + before + after if newline else 0
    flat = (torch.zeros(size), thumb // cols, thumb % cols, torch.full((size,), lines), torch.zeros(size))
    views, sizes = [thumbnail], [size]
    for i in range(crops[0]):
        for j in range(crops[1]):
            n_rows, n_cols = int((row_view == i).sum()), int((col_view == j).sum())
            n_rows, n_cols = (n_rows, n_cols) if n_rows and n_cols else (0, 0)
            views.append(_crop(i, j, n_rows, n_cols, grid, crops, picture or (top, left, height, width)))
            sizes.append(n_rows * n_cols)
    rest = (owner, r, c, r + before if newline else torch.zeros_like(r), is_newline)
    canvas = (out_rows, out_cols) if out_rows and out_cols else None
    seen = None if picture == (0, 0, *full) else picture
    return _layout("image", tuple(views), flat, rest, grid, canvas, tuple(sizes), lines, device, seen)


@lru_cache(maxsize=256)
@outside_caller_modes
def native_layout(grid: tuple[int, int], device: str = "cpu") -> Layout:
    """Return the layout of a picture at native resolution: one view of its own shape, kind `image`, without newlines.

    Args:
        grid: (rows, cols) of its tokens.
        device: where the index tensors live.
    """
    return replace(image_layout(grid, newline=False, device=device), views=(View("image", *grid),))


@lru_cache(maxsize=256)
@outside_caller_modes
def video_layout(
    frames: int,
    grid: tuple[int, int],
    newlines: Newlines = "end",
    times: tuple[float, ...] | None = None,
    device: str = "cpu",
) -> Layout:
    """Return the layout of a clip: frames in row order, with newlines at the end, after every row, or nowhere.

    Args:
        frames: number of frames, at least 1.
        grid: (rows, cols) of tokens of one pooled frame.
        newlines: `end` one for the whole clip (LLaVA-OneVision), `row` one per row (LLaVA-Video), `none`.
        times: seconds of each frame, for reports.
        device: where the index tensors live.
    """
    if times is not None:
        return _timed(video_layout(frames, grid, newlines, None, device), times)
    if device != "cpu":
        return video_layout(frames, grid, newlines).to(device)
    rows, cols = grid
    width = cols + (newlines == "row")
    t, r, c = (x.flatten() for x in torch.meshgrid(*map(torch.arange, (frames, rows, width)), indexing="ij"))
    newline = c == cols
    line = t * rows + r if newlines == "row" else torch.zeros_like(t)
    body = (torch.where(newline, frames, t), r, c, line, newline)
    end = tuple(torch.tensor([x]) for x in (frames, rows - 1, cols, 0, 1)) if newlines == "end" else None
    lines = {"row": frames * rows, "end": 1, "none": 0}[newlines]
    views = (View("frame", rows, cols),) * frames
    return _layout("video", views, body, end, grid, None, (rows * cols,) * frames, lines, device)


def _timed(layout: Layout, times: tuple[float, ...]) -> Layout:
    """Return a clip's layout with the times of its frames; tensors and cached values are shared."""
    views = tuple(replace(view, time=time) for view, time in zip(layout.views, times, strict=True))
    timed = replace(layout, views=views)
    if layout.view.device.type == "meta":  # where nothing can be computed
        return timed
    computed = ("run", "sizes_tensor", "token_index", "separator_index", "table")
    vars(timed).update({name: getattr(layout, name) for name in computed})
    return timed


def _owner(count: int, length: int, offset: int, size: int) -> Tensor:
    """Return the view along one axis of each of `count` resized cells: the view in which its centre lies."""
    centres = (torch.arange(count, dtype=torch.float64) + 0.5) * (length / max(count, 1)) + offset
    return (centres / size).floor().to(torch.int64)


def _crop(
    i: int,
    j: int,
    n_rows: int,
    n_cols: int,
    grid: tuple[int, int],
    crops: tuple[int, int],
    unpadded: tuple[int, int, int, int],
) -> View:
    """Return the view of crop (i, j) with its boxes on the thumbnail's grid, which shows the image without padding."""
    top, left, height, width = unpadded
    box = (
        *_part(i * grid[0], (i + 1) * grid[0], top, height, grid[0]),
        *_part(j * grid[1], (j + 1) * grid[1], left, width, grid[1]),
    )
    step = (grid[0] // crops[0], grid[1] // crops[1])
    nominal = (i * step[0], j * step[1], (i + 1) * step[0], (j + 1) * step[1])
    return View(
        "crop",
        n_rows,
        n_cols,
        box=(box[0], box[2], box[1], box[3]),
        nominal_box=(float(nominal[0]), float(nominal[1]), float(nominal[2]), float(nominal[3])),
    )


def _part(start: int, stop: int, offset: int, length: int, cells: int) -> tuple[float, float]:
    """Map [start, stop) of a padded axis onto `cells` cells that show only [offset, offset + length)."""
    if length == 0:  # an image so thin that unpadding leaves nothing of the canvas
        return 0.0, 0.0
    low = min(max(start - offset, 0), length)
    high = min(max(stop - offset, 0), length)
    return low * cells / length, high * cells / length


def _layout(
    modality: Literal["image", "video"],
    views: tuple[View, ...],
    first: tuple[Tensor, ...],
    second: tuple[Tensor, ...] | None,
    grid: tuple[int, int],
    canvas: tuple[int, int] | None,
    sizes: tuple[int, ...],
    lines: int,
    device: str,
    picture: tuple[int, int, int, int] | None = None,
) -> Layout:
    parts = (first, second) if second is not None else (first,)
    view, row, col, line, newline = (torch.cat(column) for column in zip(*parts, strict=True))
    separators = int(newline.sum())
    index = {
        name: value.to(torch.int64).to(device)
        for name, value in (("view", view), ("row", row), ("col", col), ("line", line))
    }
    return Layout(
        modality=modality,
        views=views,
        separator=newline.to(torch.bool).to(device),
        grid=grid,
        canvas=canvas,
        sizes=sizes,
        num_separators=separators,
        num_lines=lines,
        picture=picture,
        source=torch.arange(view.shape[0], device=device),
        full_length=int(view.shape[0]),
        **index,
    )

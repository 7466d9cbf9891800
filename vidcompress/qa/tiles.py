"""Tiles: the views of a selection as the model saw them, with dropped tokens darkened."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from vidcompress.errors import ArgumentError, shown
from vidcompress.media import ImageSource, MediaError, load_image

if TYPE_CHECKING:
    from vidcompress.core.report.visual import VisualReport

Picture: TypeAlias = ImageSource
Mask: TypeAlias = NDArray[np.bool_]
Cuts: TypeAlias = tuple[list[int], list[int]]

PAPER = (250, 250, 248)
INK = (32, 34, 40)
FAINT = (110, 114, 124)
MARGIN = 16


def make_tiles(
    visual: VisualReport, picture: Picture | Sequence[Picture], width: int, *, most_frames: int | None = None
) -> list[tuple[Tile, int]]:
    """Make the tiles to draw, each with its width in pixels.

    Args:
        visual: one of `report.visuals`.
        picture: as for `draw_overlay`.
        width: of the sheet, in pixels.
        most_frames: largest number of frames; of a longer clip they are evenly spaced.

    Raises:
        As `draw_overlay`.
    """
    if visual.modality == "video":
        return _video_tiles(visual, picture, width, most_frames)
    return _image_tiles(visual, picture, width)


class Tile:
    """A picture with a token grid over it and a caption below."""

    def __init__(
        self, picture: Image.Image, keep: Mask, caption: str, cuts: tuple[list[int], list[int]]
    ) -> None:
        self.picture, self.keep, self.caption = picture, keep, caption
        self.cuts = cuts  # rows and columns of the grid at which one view ends and the next begins

    def render(self, width: int) -> Image.Image:
        """Draw the tile about `width` pixels wide, each cell a whole number of pixels."""
        rows, cols = self.keep.shape
        cell_w = max(1, round(width / cols))
        height = cell_w * cols * self.picture.height / self.picture.width
        cell_h = max(1, round(height / rows))
        size = (cell_w * cols, cell_h * rows)
        full = self.picture.resize(size, Image.Resampling.LANCZOS)
        dark = ImageEnhance.Brightness(ImageEnhance.Color(full).enhance(0.3)).enhance(0.3)
        mask = Image.fromarray(self.keep.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
        out = Image.composite(full, dark, mask)
        pen = ImageDraw.Draw(out, "RGBA")
        if min(cell_w, cell_h) >= 5:
            _rules(pen, range(1, rows), range(1, cols), (cell_w, cell_h), size, (255, 255, 255, 40), 1)
        _outline(pen, self.keep, cell_w, cell_h)
        _rules(pen, *self.cuts, (cell_w, cell_h), size, (255, 214, 10, 230), 2)
        return out


def _rules(
    pen: ImageDraw.ImageDraw,
    rows: Iterable[int],
    cols: Iterable[int],
    cell: tuple[int, int],
    size: tuple[int, int],
    ink: tuple[int, int, int, int],
    width: int,
) -> None:
    """Draw lines across the whole picture along the given rows and columns of cells."""
    for row in rows:
        pen.line([(0, row * cell[1]), (size[0], row * cell[1])], fill=ink, width=width)
    for col in cols:
        pen.line([(col * cell[0], 0), (col * cell[0], size[1])], fill=ink, width=width)


def _outline(pen: ImageDraw.ImageDraw, keep: Mask, cell_w: int, cell_h: int) -> None:
    """Draw the border between kept and dropped cells, so that dark pictures can be read too."""
    ink, width = (255, 255, 255, 200), 2 if min(cell_w, cell_h) >= 12 else 1
    for row, col in zip(*np.nonzero(keep[1:] != keep[:-1]), strict=True):
        y = (int(row) + 1) * cell_h
        pen.line([(int(col) * cell_w, y), ((int(col) + 1) * cell_w, y)], fill=ink, width=width)
    for row, col in zip(*np.nonzero(keep[:, 1:] != keep[:, :-1]), strict=True):
        x = (int(col) + 1) * cell_w
        pen.line([(x, int(row) * cell_h), (x, (int(row) + 1) * cell_h)], fill=ink, width=width)


def _image_tiles(
    visual: VisualReport, picture: Picture | Sequence[Picture], sheet_width: int
) -> list[tuple[Tile, int]]:
    """Make the tiles of the global view, and of the crops on their common canvas where they have places."""
    if isinstance(picture, (list, tuple)):
        if len(picture) != 1:
            raise ArgumentError(
                f"picture: an image is drawn over one, got a list of {len(picture)}; pass the one"
            )
        picture = picture[0]
    image = _open(picture)
    masks = _kept_cells(visual)
    whole = [view for view in visual.views if view.kind != "crop"]
    crops = [view for view in visual.views if view.kind == "crop" and visual.layout.canvas is not None]
    room = sheet_width - 2 * MARGIN
    tiles: list[tuple[Tile, int]] = []
    for view, keep in zip(whole, masks, strict=False):
        caption = f"{view.kind}   {view.kept} of {view.total}"
        tiles.append((Tile(image, keep, caption, ([], [])), room // 3 if crops else room // 2))
    if crops:
        counts = ", ".join(str(view.kept) for view in crops)
        kept, total = sum(view.kept for view in crops), sum(view.total for view in crops)
        label = "1 crop" if len(crops) == 1 else f"{len(crops)} crops"
        caption = f"{label}   {kept} of {total}" + (f"   ({counts})" if len(crops) > 1 else "")
        shown_on = _on_canvas(image, visual)
        tiles.append((Tile(shown_on, masks[-1], caption, _crop_cuts(visual)), room - room // 3 - MARGIN))
    return tiles


def _on_canvas(image: Image.Image, visual: VisualReport) -> Image.Image:
    """Return the picture as the crops show it: on black where the canvas keeps its padding."""
    canvas, box = visual.layout.canvas, visual.layout.picture
    if canvas is None or box is None:
        return image
    top, left, rows, cols = box
    down, right = canvas[0] - top - rows, canvas[1] - left - cols
    cell_w, cell_h = image.width / cols, image.height / rows
    border = (round(left * cell_w), round(top * cell_h), round(right * cell_w), round(down * cell_h))
    return ImageOps.expand(image, border)


def _video_tiles(
    visual: VisualReport,
    picture: Picture | Sequence[Picture],
    sheet_width: int,
    most_frames: int | None,
) -> list[tuple[Tile, int]]:
    if isinstance(picture, (str, PathLike, Image.Image)):
        frames: list[Any] = [picture]
    elif isinstance(picture, (list, tuple)) or getattr(picture, "ndim", 0) > 0:
        frames = list(picture)
    else:
        raise ArgumentError(f"picture={shown(picture)}: pass the list of {len(visual.views)} sampled frames")
    frames = one_per_view(frames, len(visual.views))
    pictures = [_open(frame) for frame in frames]
    aspect = pictures[0].width / pictures[0].height
    count = min(len(frames), most_frames or len(frames))
    drawn = [number * len(frames) // count for number in range(count)]
    columns = _columns(count, aspect)
    width = min(360, (sheet_width - MARGIN * (columns + 1)) // columns)
    masks = _kept_cells(visual)
    tiles = []
    for number in drawn:
        view, image, keep = visual.views[number], pictures[number], masks[number]
        when = f"{view.time:.1f} s" if view.time is not None else f"#{number}"
        tiles.append((Tile(image, keep, f"{when}   {view.kept} of {view.total}", ([], [])), width))
    return tiles


def one_per_view(frames: list[Any], views: int) -> list[Any]:
    """Return one frame for each view: all, or the first of every two where two make one temporal patch.

    Raises:
        ArgumentError: the number of frames does not match the views.
    """
    if len(frames) == views:
        return frames
    if -(-len(frames) // 2) == views:
        return frames[::2]
    raise ArgumentError(
        f"picture: {views} frames were encoded, got {len(frames)}; pass the frames that were sampled"
    )


def _open(picture: Any) -> Image.Image:
    try:
        image: Image.Image = load_image(picture)
        return image
    except MediaError as error:
        raise MediaError(f"picture: {error}") from error


def _columns(count: int, aspect: float) -> int:
    """Return the frames per row: a sheet about 1.5 times as wide as high, with few empty places in the last row."""
    target = max(1.0, math.sqrt(count * 1.5 / aspect))
    around = range(max(1, math.floor(target * 0.7)), math.ceil(target * 1.4) + 1)
    return min(
        count, min(around, key=lambda columns: (-count % columns) / count + 0.3 * abs(columns / target - 1))
    )


def _kept_cells(visual: VisualReport) -> list[Mask]:
    """Return (rows, cols) bool per global view or frame, in order, then one for the crop canvas if there is one."""
    layout = visual.layout
    view, row, col = (tensor.cpu().numpy() for tensor in (layout.view, layout.row, layout.col))
    entries = visual.kept_entries.numpy()
    whole = [number for number, kind in enumerate(layout.views) if kind.kind != "crop"]
    masks = [np.zeros((layout.views[n].rows, layout.views[n].cols), dtype=np.bool_) for n in whole]
    slot = np.full(len(layout.views) + 1, len(whole))
    slot[whole] = np.arange(len(whole))
    slot[-1] = -1
    if layout.canvas is not None:
        masks.append(np.zeros(layout.canvas, dtype=np.bool_))
    owner = slot[view[entries]]
    for number, mask in enumerate(masks):
        mine = entries[owner == number]
        mask[row[mine], col[mine]] = True
    return masks


def _crop_cuts(visual: VisualReport) -> Cuts:
    """Return the rows and columns of the canvas at which a crop other than the first begins."""
    layout = visual.layout
    view, row, col = (tensor.cpu().numpy() for tensor in (layout.view, layout.row, layout.col))
    tops, lefts = set(), set()
    for number, (kind, size) in enumerate(zip(layout.views, layout.sizes, strict=True)):
        if kind.kind == "crop" and size:
            tops.add(int(row[view == number].min()))
            lefts.add(int(col[view == number].min()))
    return sorted(tops - {0}), sorted(lefts - {0})


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return the font of headings and captions, `size` pixels high."""
    return ImageFont.load_default(size=size)

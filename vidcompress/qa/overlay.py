"""Overlay: a picture or the frames of a clip on one sheet, with dropped tokens darkened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from vidcompress.checks import is_whole
from vidcompress.core.report import Report
from vidcompress.errors import ArgumentError, shown
from vidcompress.qa.tiles import FAINT, INK, MARGIN, PAPER, Picture, Tile, font, make_tiles

if TYPE_CHECKING:
    from vidcompress.core.report.visual import VisualReport

_WIDTH = 1440
"""Target width in pixels; a sheet is a little wider or narrower, so that every cell has whole pixels."""


def draw_overlay(report: Report, picture: Picture | Sequence[Picture], *, index: int = 0) -> Image.Image:
    """Draw the kept tokens of a picture or the frames of a clip: dropped ones are darkened.

    Args:
        report: of the call, such as `inputs.report`.
        picture: the image (PIL image, (H, W, 3) uint8 array or tensor, or path), or for a video its
            sampled frames in order (a list of pictures, or a (T, H, W, 3) uint8 array or tensor). Where two frames make
            one temporal patch, the first of them is drawn.
        index: number of the visual in `report.visuals`, 0 <= index < len(report.visuals).

    Returns:
        An RGB image: the global view and crops side by side, or a contact sheet of the frames.

    Raises:
        ArgumentError: no report, no such visual in it, or another number of frames than was encoded.
        MediaError: a picture cannot be read.
    """
    visual = visual_of(report, index)
    heading = heading_of(report, visual)
    if visual.separators_total:
        heading += f", {visual.separators_kept} of {visual.separators_total} separators among them"
    return _sheet(make_tiles(visual, picture, _WIDTH), heading)


def visual_of(report: Report, index: int) -> VisualReport:
    """Return the visual of a report to draw.

    Args:
        report: of a call.
        index: number of the visual in `report.visuals`, from 0.

    Raises:
        ArgumentError: no report, or no such visual in it.
    """
    if not isinstance(report, Report):
        raise ArgumentError(
            f"report={shown(report)}: must be a Report; pass the one of what compress_inputs returned, as in "
            "draw_overlay(inputs.report, picture)"
        )
    if not is_whole(index) or not 0 <= index < len(report.visuals):
        raise ArgumentError(
            f"index={shown(index)}: this report has {len(report.visuals)} visual inputs, counted from 0; "
            "pass a whole number below that"
        )
    return report.visuals[index]


def heading_of(report: Report, visual: VisualReport) -> str:
    """Return a heading with the method of a call and the number of kept tokens of one visual."""
    share = f"{100 * visual.kept / visual.total:.1f} %" if visual.total else "none"
    return f"{report.method}: {visual.kept} of {visual.total} visual tokens ({share})"


def _sheet(tiles: list[tuple[Tile, int]], heading: str) -> Image.Image:
    """Lay the tiles out in rows under a heading."""
    drawn = [(tile.render(width), tile.caption) for tile, width in tiles]
    caption_size = 20 if max(image.width for image, _ in drawn) >= 260 else 15
    small, large = font(caption_size), font(24)
    rows: list[list[tuple[Image.Image, str]]] = [[]]
    used = MARGIN
    for image, caption in drawn:
        if rows[-1] and used + image.width + MARGIN > _WIDTH + 64:
            rows.append([])
            used = MARGIN
        rows[-1].append((image, caption))
        used += image.width + MARGIN
    below = caption_size + MARGIN
    width = max(sum(image.width + MARGIN for image, _ in row) for row in rows) + MARGIN
    width = max(width, int(large.getlength(heading)) + 2 * MARGIN)
    top = 24 + 2 * MARGIN
    height = top + sum(max(image.height for image, _ in row) + below + 8 for row in rows)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), heading, fill=INK, font=large)
    for row in rows:
        left = MARGIN
        for image, caption in row:
            sheet.paste(image, (left, top))
            pen.text((left, top + image.height + 6), caption, fill=FAINT, font=small)
            left += image.width + MARGIN
        top += max(image.height for image, _ in row) + below + 8
    return sheet

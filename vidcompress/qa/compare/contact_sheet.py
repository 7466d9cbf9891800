"""Contact sheet of a comparison: a row per method, a column per budget, the kept tokens in each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from vidcompress.core.report.visual import VisualReport
from vidcompress.errors import ArgumentError
from vidcompress.qa.compare.row import ComparisonRow
from vidcompress.qa.tiles import FAINT, INK, PAPER, Picture, font, make_tiles

if TYPE_CHECKING:
    from vidcompress.qa.answer import Answer

MOST_COLUMNS, MOST_ROWS = 8, 40
_WIDTH, _HEIGHT = 1800, 12_000
"""Largest width and height of a sheet in pixels, text not counted."""
_MARGIN, _GAP = 16, 4
_MOST_FRAMES = 16
"""Most frames of a clip in a cell, evenly spaced."""
_WORDS = 16
_LINE = _WORDS + 6


def draw_contact_sheet(rows: Sequence[ComparisonRow], *, question: str, model: str) -> Image.Image:
    """Draw every row of a comparison as a cell.

    Args:
        rows: the uncompressed model first; at most 8 budgets and 40 methods besides.
        question: text of the question, for the heading.
        model: name of the model, for the heading.

    Returns:
        An RGB image of at most about 1,800 x 14,000 pixels. The uncompressed model stands alone in the first line.

    Raises:
        ArgumentError: too many budgets or methods.
    """
    first, *others = rows
    budgets = list(dict.fromkeys(row.budget_text for row in others))
    labels = list(dict.fromkeys(row.label for row in others))
    if len(budgets) > MOST_COLUMNS or len(labels) > MOST_ROWS:
        raise ArgumentError(
            f"overlay: {len(labels)} methods at {len(budgets)} budgets; a sheet takes at most {MOST_ROWS} and "
            f"{MOST_COLUMNS}, compare fewer"
        )
    grid = {(row.label, row.budget_text): row for row in others}
    lines: list[list[ComparisonRow | None]] = [
        [first],
        *([grid.get((m, b)) for b in budgets] for m in labels),
    ]
    across = max(2, len(budgets))
    width = min(480, (_WIDTH - _MARGIN) // across - _MARGIN)
    height = max(48, min(width, _HEIGHT // len(lines)))
    cells = [[_cell(row, (width, height)) for row in line] for line in lines]
    heading = f'"{question}"  {model}: what was kept (a pooled token where its centre lies)'
    return _paste(heading, cells, width, across)


def _cell(row: ComparisonRow | None, box: tuple[int, int]) -> Image.Image:
    """Cell of one row: the kept tokens, and below them method, budget, count and answer."""
    if row is None or row.answer is None:
        picture = Image.new("RGB", (box[0], 24), PAPER)
        said = "" if row is None else "out of reach"
        return _captioned(picture, [] if row is None else [f"{row.label}   {row.budget_text}", said], box[0])
    pictures = _pictures(row.answer, box)
    text = " ".join(row.answer.text.split()) or "(no words)"
    count = f"{row.kept} of {row.total}"
    if (
        row.answer.report.inside is not None
    ):  # the cell shows the tokens sent; the tokens kept differ from layer to layer
        count += f", then {row.effective:.0f} on average"
    return _captioned(pictures, [f"{row.label}   {row.budget_text}   {count}", text], box[0])


def _pictures(answer: Answer, box: tuple[int, int]) -> Image.Image:
    """Draw all images and videos of an answer, one above the other, in a box of (width, height) pixels."""
    room = box[1] // len(answer.media)
    drawn = []
    for visual, media in zip(answer.report.visuals, answer.media, strict=True):
        picture = draw_selection(visual, getattr(media, "frames", media), box[0])
        picture.thumbnail((box[0], max(16, room)))
        drawn.append(picture)
    return _stack(drawn)


def draw_selection(visual: VisualReport, picture: Picture | Sequence[Picture], width: int) -> Image.Image:
    """Draw the kept tokens of one image or video without captions, about `width` pixels wide."""
    drawn = []
    for tile, room in make_tiles(visual, picture, width, most_frames=_MOST_FRAMES):
        highest = 2 * width * tile.picture.width // tile.picture.height  # for a long and thin picture
        drawn.append(tile.render(max(8, min(room, highest))))
    rows: list[list[Image.Image]] = [[]]
    for image in drawn:
        if rows[-1] and sum(other.width + _GAP for other in rows[-1]) + image.width > 1.05 * width:
            rows.append([])
        rows[-1].append(image)
    return _stack([_beside(row) for row in rows])


def _beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures in a row."""
    wide = sum(picture.width + _GAP for picture in pictures) - _GAP
    out = Image.new("RGB", (wide, max(picture.height for picture in pictures)), PAPER)
    left = 0
    for picture in pictures:
        out.paste(picture, (left, 0))
        left += picture.width + _GAP
    return out


def _stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures one above the other."""
    high = sum(picture.height + _GAP for picture in pictures) - _GAP
    out = Image.new("RGB", (max(picture.width for picture in pictures), high), PAPER)
    top = 0
    for picture in pictures:
        out.paste(picture, (0, top))
        top += picture.height + _GAP
    return out


def _captioned(picture: Image.Image, lines: Sequence[str], width: int) -> Image.Image:
    out = Image.new("RGB", (width, picture.height + _LINE * len(lines) + 4), PAPER)
    out.paste(picture, (0, 0))
    pen = ImageDraw.Draw(out)
    for number, (line, ink) in enumerate(zip(lines, (FAINT, INK), strict=False)):
        pen.text((0, picture.height + 4 + number * _LINE), _short(line, width), fill=ink, font=font(_WORDS))
    return out


def _short(text: str, width: int) -> str:
    """Cut the text with dots where it is wider than `width` pixels."""
    face = font(_WORDS)
    text = text[:200]
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _paste(heading: str, cells: list[list[Image.Image]], width: int, across: int) -> Image.Image:
    top = _LINE + 2 * _MARGIN
    heights = [max(cell.height for cell in line) + _MARGIN for line in cells]
    sheet = Image.new("RGB", (_MARGIN + across * (width + _MARGIN), top + sum(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), _short(heading, sheet.width - 2 * _MARGIN), fill=INK, font=font(_WORDS))
    for line, height in zip(cells, heights, strict=True):
        for number, cell in enumerate(line):
            sheet.paste(cell, (_MARGIN + number * (width + _MARGIN), top))
        top += height
    return sheet

"""Drawing of the pictures: a card, panels with rounded corners, captions."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from vidcompress.qa.tiles import FAINT, INK, PAPER, font

MARGIN = 36
RADIUS = 14
_BORDER = (214, 216, 220)


class Card:
    """Card: an opaque sheet with round corners, readable on a light and on a dark page."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self.pen = ImageDraw.Draw(self.image)

    def panel(self, picture: Image.Image, left: int, top: int) -> None:
        """Paste a picture with rounded corners."""
        self.image.paste(picture, (left, top), _rounded(picture.size, RADIUS))

    def text(
        self,
        words: str,
        left: int,
        top: int,
        size: int,
        *,
        faint: bool = False,
        ink: tuple[int, int, int] = INK,
    ) -> None:
        """Write one line, `size` pixels high."""
        self.pen.text((left, top), words, fill=FAINT if faint else ink, font=font(size))

    def save(self, path: Path, colors: int = 250) -> None:
        """Write a PNG with a palette of so many colours, at most 255; outside the round corners it is transparent."""
        width, height = self.image.size
        self.pen.rounded_rectangle((0, 0, width - 1, height - 1), 20, outline=_BORDER, width=2)
        palette = self.image.quantize(colors, Image.Quantize.MEDIANCUT, kmeans=2)
        few = self.image.quantize(palette=palette, dither=Image.Dither.NONE)
        outside = _rounded(self.image.size, 20).point(lambda value: 255 if value < 128 else 0)
        few.paste(colors, (0, 0), outside)
        few.save(path, "PNG", optimize=True, transparency=colors)


def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    """A mask: 255 inside a rectangle with round corners."""
    large = Image.new("L", (2 * size[0], 2 * size[1]))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, 2 * size[0] - 1, 2 * size[1] - 1), 2 * radius, fill=255)
    return large.resize(size, Image.Resampling.BOX)

"""Animation: the frames of a clip one after another, each with its kept tokens bright and its count below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from os import PathLike
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np
from PIL import Image, ImageDraw

from vidcompress.core.report import Report
from vidcompress.core.report.visual import ViewReport, VisualReport
from vidcompress.errors import ArgumentError, MediaError, one_line
from vidcompress.qa.overlay import heading_of, visual_of
from vidcompress.qa.tiles import FAINT, INK, MARGIN, PAPER, Picture, font, make_tiles

ENDINGS = (".gif", ".mp4")
SHORTEST, LONGEST = 0.1, 0.5
"""Shortest and longest time that a frame is shown, in seconds."""

_WIDTH, _HEIGHT = 480, 480
"""Largest width and height of a frame, text and bars not counted, in pixels."""
_BARS = 44
_BAR = (172, 176, 184)
_MARK = (233, 150, 20)
_COLORS = 256
_CODECS = ("libx264", "mpeg4")


@dataclass(frozen=True, eq=False)
class Animation:
    """Animation: pictures of one size, shown one after another.

    Attributes:
        frames: RGB images with even sides, one per frame of the clip.
        seconds: time that each of them is shown.
    """

    frames: tuple[Image.Image, ...] = field(repr=False)
    seconds: float

    def save(self, path: str | PathLike[str]) -> None:
        """Write a GIF, which repeats for ever, or an MP4 (H.264, or MPEG-4 where there is no H.264 encoder).

        Args:
            path: the file to write; its ending, .gif or .mp4, names the format.

        Raises:
            ArgumentError: another ending. MediaError: an MP4 cannot be encoded. OSError: the file cannot be written.
        """
        ending = Path(path).suffix.lower()
        if ending not in ENDINGS:
            raise ArgumentError(
                f"path={str(path)!r}: an animation is written as .gif or .mp4; for a sheet of all frames as .png save "
                "answer.overlay()"
            )
        if ending == ".gif":
            self._write_gif(Path(path))
        else:
            self._write_mp4(Path(path))

    def _write_gif(self, path: Path) -> None:
        """Write a GIF with one palette for all frames, so that still parts do not flicker."""
        shown = [self.frames[number * len(self.frames) // 8] for number in range(min(8, len(self.frames)))]
        together = Image.new("RGB", (shown[0].width, shown[0].height * len(shown)))
        for number, frame in enumerate(shown):
            together.paste(frame, (0, number * frame.height))
        palette = together.quantize(_COLORS, Image.Quantize.MEDIANCUT)
        first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames)
        duration = 10 * round(100 * self.seconds)  # a GIF counts hundredths of a second
        first.save(path, "GIF", save_all=True, append_images=rest, duration=duration, loop=0, optimize=True)

    def _write_mp4(self, path: Path) -> None:
        import av

        codec = next((name for name in _CODECS if name in av.codecs_available), None)
        if codec is None:
            raise MediaError(f"path={str(path)!r}: PyAV has no encoder for MP4 here; save a .gif instead")
        options = {"crf": "18"} if codec == "libx264" else {"qscale": "3"}
        try:
            with av.open(str(path), "w", format="mp4") as container:
                rate = Fraction(1 / self.seconds).limit_denominator(1000)
                stream = cast("av.VideoStream", container.add_stream(codec, rate=rate, options=options))
                stream.width, stream.height = self.frames[0].size
                stream.pix_fmt = "yuv420p"
                for frame in self.frames:
                    container.mux(
                        stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame), format="rgb24"))
                    )
                container.mux(stream.encode())
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise MediaError(f"path={str(path)!r}: PyAV cannot encode it ({one_line(error)})") from error


def draw_animation(
    report: Report, frames: Sequence[Picture], *, index: int = 0, heading: str | None = None
) -> Animation:
    """Draw a clip frame by frame: dropped tokens are darkened, below are the time, the count and a bar per frame.

    Args:
        report: of the call, such as `inputs.report`.
        frames: the sampled frames in order: a list of pictures, or a (T, H, W, 3) uint8 array or tensor.
        index: number of the visual in `report.visuals`, 0 <= index < len(report.visuals).
        heading: text above every frame; by default the method and the number of tokens.

    Returns:
        One picture per frame, shown for the distance of two frames in the clip, from 0.1 to 0.5 seconds.

    Raises:
        ArgumentError: no report, no such visual in it, a picture instead of a clip, or another number of frames than
            was encoded.
        MediaError: a frame cannot be read.
    """
    visual = visual_of(report, index)
    if visual.modality != "video":
        raise ArgumentError(
            f"index={index}: visual {index} is a picture, and only clips are animated; draw a picture with "
            "draw_overlay(report, picture) or answer.overlay(), and save it as .png"
        )
    tiles = [tile for tile, _ in make_tiles(visual, frames, 4 * _WIDTH)]
    text = heading_of(report, visual) if heading is None else heading
    drawn = []
    for number, tile in enumerate(tiles):
        widest = min(_WIDTH, _HEIGHT * tile.picture.width // tile.picture.height)
        drawn.append(_frame(tile.render(max(8, widest)), visual.views, number, text))
    return Animation(tuple(drawn), _seconds(visual))


def _seconds(visual: VisualReport) -> float:
    """Return the time that a frame is shown, in seconds: the median distance of two frames, within limits."""
    times = [view.time for view in visual.views if view.time is not None]
    apart = median(after - before for before, after in pairwise(times)) if len(times) > 1 else LONGEST
    return round(min(LONGEST, max(SHORTEST, apart)), 2)


def _frame(picture: Image.Image, views: Sequence[ViewReport], number: int, heading: str) -> Image.Image:
    """Draw one frame of the animation: heading, picture, time and count, and a bar per frame of the clip."""
    words, small = font(17), font(15)
    view, most = views[number], max(1, *(view.kept for view in views))
    width = max(picture.width, 320)
    lines = _wrapped(heading, width)
    above = MARGIN + 22 * len(lines) + 4
    height = above + picture.height + 8 + 20 + _BARS + MARGIN
    size = (width + 2 * MARGIN, height)
    out = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), PAPER)
    pen = ImageDraw.Draw(out)
    for place, line in enumerate(lines):
        pen.text((MARGIN, MARGIN - 4 + 22 * place), line, fill=INK, font=words)
    out.paste(picture, (MARGIN + (width - picture.width) // 2, above))
    top = above + picture.height + 6
    when = f"{view.time:.1f} s" if view.time is not None else f"frame {number}"
    pen.text((MARGIN, top), when, fill=FAINT, font=small)
    count = f"{view.kept} of {view.total} tokens"
    pen.text((MARGIN + width - small.getlength(count), top), count, fill=INK, font=small)
    bottom = height - MARGIN
    step = width / len(views)
    gap = 2 if step >= 6 else 0
    for place, one in enumerate(views):
        left, right = MARGIN + round(place * step), MARGIN + round((place + 1) * step) - 1 - gap
        tall = round((_BARS - 8) * one.kept / most)
        ink = _MARK if place == number else _BAR
        pen.rectangle((left, bottom - tall, max(left, right), bottom), fill=ink)
    return out


def _wrapped(text: str, width: int) -> list[str]:
    """Break the text into lines of at most `width` pixels, at its own line ends and at spaces."""
    face, lines = font(17), []
    for paragraph in text.splitlines():
        lines.append("")
        for word in paragraph.split(" "):
            longer = f"{lines[-1]} {word}" if lines[-1] else word
            if face.getlength(longer) <= width or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(word)
    return lines

"""Page of the viewer: rows and pictures as JSON in one HTML file that asks nothing of any other."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidcompress.errors import ArgumentError
from vidcompress.media import load_image
from vidcompress.qa.tiles import one_per_view
from vidcompress.qa.viewer.pictures import small_pictures
from vidcompress.qa.viewer.rows import ViewerRow

if TYPE_CHECKING:
    from PIL.Image import Image

    from vidcompress.core.report.maps import ViewMap

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""Content security policy of the page: it loads nothing but what it carries."""
PAGE_BYTES = 148_000
"""Size that pictures are made small for. A page is larger only where its masks and texts are, or has many pictures."""
_MOST, _LEAST = 72_000, 1_500
"""Bytes of all pictures together at most, and of each at least that it may take whatever the page's size."""
_FRAME_HEIGHT = 760
"""Height of the frame in pixels where its page may not set it."""
_TITLE = 80
"""Most characters of a question in the title of its page."""
_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LEVELS = len(_SIGNS) - 2
"""Largest level of a score or mass; the last sign of the 64 stands for a cell without one."""


def viewer_page(
    rows: Sequence[ViewerRow],
    *,
    question: str,
    media: Sequence[Any],
    remarks: Sequence[str] = (),
) -> str:
    """Make the page that shows what was kept.

    Args:
        rows: one or more, all about the same media; with several the page lets choose among them.
        question: text of the question.
        media: for each visual of the rows the picture (PIL image, array or path), or the frames of the clip in order
            (`VideoFrames`, a list, or a (T, H, W, 3) uint8 array or tensor), as in `Answer.media`.
        remarks: sentences below everything, such as the meaning of the times.

    Returns:
        A whole HTML file. It loads nothing, and texts in it are never read as HTML. About 25 KB and its pictures, masks
        and scores; pictures are made smaller so that the whole stays below 150 KB where there are few of them.

    Raises:
        ArgumentError: no rows, rows about different visuals, or other media than they are about.
        MediaError: a picture cannot be read.
    """
    return page_of(viewer_data(rows, question=question, media=media, remarks=remarks))


def embedded(page: str) -> str:
    """Return a page in a frame, for notebooks and for places where scripts of inserted HTML do not run.

    Args:
        page: from `viewer_page`. It sets the height of its frame.
    """
    style = f"width:100%;height:{_FRAME_HEIGHT}px;border:0;display:block"
    return f'<iframe title="What was kept" style="{style}" srcdoc="{html.escape(page)}"></iframe>'


def page_of(data: dict[str, Any]) -> str:
    """Return the HTML file of `viewer_data`."""
    head, _, tail = _shell().partition("@data@")
    printable = "".join(sign if sign.isprintable() else " " for sign in str(data.get("question", "")))
    question = shorten(printable, _TITLE, placeholder=" ...")
    head = head.replace(
        "@title@", html.escape(f"{question} - what was kept" if question else "What was kept")
    )
    return head + json_in_html(data) + tail


def json_in_html(data: Any) -> str:
    """Return JSON that can stand in a script element: no text in it ends the element or opens a comment."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def part(name: str) -> str:
    """Return a file of the viewer: `template.html`, `viewer.css` or `viewer.js`."""
    return files("vidcompress.qa.viewer").joinpath(name).read_text(encoding="utf-8")


@cache
def _shell() -> str:
    """Return the page without its data."""
    page = part("template.html").replace("@policy@", POLICY)
    for mark, name in (("@style@", "viewer.css"), ("@script@", "viewer.js")):
        lines = (line.strip() for line in part(name).splitlines())
        page = page.replace(mark, "".join(f"{line}\n" for line in lines if line))
    return page


def viewer_data(
    rows: Sequence[ViewerRow],
    *,
    question: str,
    media: Sequence[Any],
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what the page shows as JSON types; arguments and errors as in `viewer_page`.

    Masks are bits in base64, row by row. Scores and masses have one sign per cell: one of 63 levels, or none. Equal
    texts stand once, under `blobs`.
    """
    if not rows:
        raise ArgumentError("rows=[]: there is nothing to show; pass at least one row")
    blobs = _Blobs()
    shown_rows = [row for row in rows if row.visuals]
    pictures: list[Image] = []
    visuals = []
    for number, one in enumerate(media):
        views = _views_of(shown_rows, number, len(media))
        mine = _pictures_of(one, views)
        visuals.append(
            {
                "kind": "video" if views and views[0].kind == "frame" else "image",
                "pictures": list(range(len(pictures), len(pictures) + len(mine))),
                "size": [mine[0].width, mine[0].height],
                "views": [_geometry(view, blobs) for view in views],
            }
        )
        pictures += mine
    entries = [_row(row, blobs) for row in rows]
    data = {
        "question": question,
        "remarks": list(remarks),
        "visuals": visuals,
        "rows": entries,
        "blobs": blobs.texts,
    }
    rest = PAGE_BYTES - len(_shell()) - len(json_in_html(data))
    room = max(_LEAST * len(pictures), min(_MOST, rest * 3 // 4 - 40 * len(pictures)))
    return {
        **data,
        "pictures": [
            "data:image/webp;base64," + base64.b64encode(file).decode("ascii")
            for file in small_pictures(pictures, room)
        ],
    }


class _Blobs:
    """Texts that stand once, each under its number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> list[str]:
        """The texts by number."""
        return list(self._numbers)

    def add(self, text: str) -> int:
        """Return the number of a text."""
        return self._numbers.setdefault(text, len(self._numbers))

    def bits(self, mask: NDArray[np.bool_]) -> int:
        """Return the number of a mask as bits, row by row, the first cell in the highest bit."""
        return self.add(base64.b64encode(np.packbits(mask.ravel()).tobytes()).decode("ascii"))


def _views_of(rows: Sequence[ViewerRow], number: int, visuals: int) -> Sequence[ViewMap]:
    """Return the maps of the first row for one visual, whose geometry stands for all rows."""
    for row in rows:
        if len(row.visuals) != visuals:
            raise ArgumentError(
                f"media: {visuals} pictures and clips for a row about {len(row.visuals)}; pass one for each visual"
            )
    if not rows:
        return ()
    first, *others = (row.visuals[number] for row in rows)
    shape = [view.kept.shape for view in first]
    if any([view.kept.shape for view in other] != shape for other in others):
        raise ArgumentError(
            f"rows: they cut visual {number} into different views; make a page of rows about the same input"
        )
    return first


def _pictures_of(media: Any, views: Sequence[ViewMap]) -> list[Image]:
    """Return the picture, or one frame for each view of a clip."""
    media = getattr(media, "frames", media)
    if views and views[0].kind == "frame":
        return [load_image(frame) for frame in one_per_view(list(media), len(views))]
    if getattr(media, "ndim", 0) == 4 or isinstance(media, (list, tuple)):
        media = media[0]  # no row has an answer: the first frame of the clip
    return [load_image(media)]


def _geometry(view: ViewMap, blobs: _Blobs) -> dict[str, Any]:
    """Return what all rows share of a view."""
    return {
        "kind": view.kind,
        "time": None if view.time is None else round(view.time, 3),
        "grid": list(view.kept.shape),
        "place": None if view.place is None else [round(edge, 5) for edge in view.place],
        "cells": blobs.bits(view.cells),
    }


def _row(row: ViewerRow, blobs: _Blobs) -> dict[str, Any]:
    """Return a row as JSON types."""
    return {
        "method": row.method,
        "budget": row.budget,
        "text": row.text,
        "kept": row.kept,
        "total": row.total,
        "mean": None if row.mean_kept is None else round(row.mean_kept, 1),
        "same": row.same,
        "timing": {phase: round(ms, 2) for phase, ms in row.timing_ms.items()},
        "notes": list(row.notes),
        "separators": None if row.separators is None else list(row.separators),
        "visuals": [_visual(row, number, blobs) for number in range(len(row.visuals))],
    }


def _visual(row: ViewerRow, number: int, blobs: _Blobs) -> dict[str, Any]:
    """Return the masks of one visual in a row, and its scores and masses on scales that views share.

    Scores have a scale for each kind of view, as those of a thumbnail and of crops are not comparable; masses have one.
    """
    views = row.visuals[number]
    counts = row.counts[number] if row.counts else [int(view.kept.sum()) for view in views]
    ends = {
        kind: _range([v.scores for v in views if v.kind == kind and v.scores is not None])
        for kind in _scored(views)
    }
    heavy = [view.mass[view.kept] for view in views if view.mass is not None]
    most = max((float(mass.max()) for mass in heavy if mass.size), default=1.0)
    entries = []
    for view, count in zip(views, counts, strict=True):
        entry: dict[str, Any] = {"kept": blobs.bits(view.kept), "count": count}
        if view.scores is not None and view.kind in ends:
            entry["scores"] = blobs.add(_signs(view.scores, *ends[view.kind]))
        if view.mass is not None:
            entry["mass"] = blobs.add(
                _signs(np.log(np.maximum(view.mass[view.kept], 1e-6)), 0.0, np.log(most))
            )
        if view.stages:
            entry["stages"] = {str(layer): blobs.bits(left) for layer, left in view.stages.items()}
        entries.append(entry)
    return {
        "views": entries,
        "scores": {kind: [float(f"{end:.4g}") for end in pair] for kind, pair in ends.items()} or None,
        "mass": float(f"{most:.4g}") if heavy else None,
    }


def _scored(views: Sequence[ViewMap]) -> list[str]:
    """Return the kinds of view in which a token has a score, in order."""
    scored = (view.kind for view in views if view.scores is not None and np.isfinite(view.scores).any())
    return list(dict.fromkeys(scored))


def _range(scored: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Return the ends of the scale of scores: their 1st and 99th percentile, so that outliers leave it readable."""
    values = np.concatenate([scores.ravel() for scores in scored])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values.astype(np.float64), [1, 99])
    return float(low), float(high)


def _signs(values: NDArray[Any], low: float, high: float) -> str:
    """Return one sign per value for its level between the ends of the scale; the last sign where it is no number."""
    level = (values.ravel().astype(np.float64) - low) / max(high - low, 1e-12)
    level = np.where(np.isposinf(level), 1.0, np.where(np.isneginf(level), 0.0, level))
    number = np.where(np.isnan(level), _LEVELS + 1, np.clip(level, 0, 1) * _LEVELS).round().astype(np.int64)
    return "".join(_SIGNS[one] for one in number.tolist())

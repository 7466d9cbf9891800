"""Masks of one question: the journals' views over the pictures and clips that were asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidcompress.checks import DEFAULT_MAX_FRAMES
from vidcompress.core.report.maps import ViewMap
from vidcompress.errors import ArgumentError, VidcompressError, one_line
from vidcompress.media import load_image, read_video
from vidcompress.media.video.sampling import SamplingRule
from vidcompress.qa.viewer.page import viewer_data
from vidcompress.qa.viewer.rows import ViewerRow
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.evaluation.report.page.questions import QuestionGroup


@dataclass(frozen=True)
class FramesAtTimes(SamplingRule):
    """Sampling rule that takes the frames nearest to given times.

    Attributes:
        times: seconds from the start of the clip, ascending.
    """

    times: tuple[float, ...] = ()

    def choose(
        self,
        total: int,
        source_fps: float,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> list[int]:
        """Return the indices of the frames, ascending, each once."""
        wanted = {min(total - 1, max(0, round(time * source_fps))) for time in self.times}
        return sorted(wanted)[:max_frames]


def rows_with_views(group: QuestionGroup, name: str) -> list[int]:
    """Return the numbers of the rows whose journal states what they kept for a question."""
    return [place for place, lines in enumerate(group.lines) if lines.get(name, {}).get("views")]


def viewer_of(group: QuestionGroup, name: str) -> dict[str, Any] | str:
    """Return what the viewer shows of a question: a row for each of `rows_with_views`.

    Args:
        group: of the question.
        name: its id.

    Returns:
        The data of the viewer, or the reason why there is none.
    """
    first = group.rows[0]
    at = first.ids.index(name)
    rows, maps = [], []
    for place in rows_with_views(group, name):
        row, line, label = group.rows[place], group.lines[place][name], group.names[place]
        try:
            views = [[ViewMap.from_dict(view) for view in visual] for visual in line["views"]]
            rows.append(_viewer_row(group, row, line, views, name))
        except (VidcompressError, TypeError, AttributeError) as error:
            return f"the journal of {label} is damaged: {one_line(error)}"
        maps.append(views)
    if not rows:
        return "the journals of these rows state no views; rows of this version or a newer one do"
    try:
        media = _media(first, (first.media or ((),) * len(first.ids))[at], maps[0])
        return viewer_data(rows, question=(first.prompts or ())[at], media=media)
    except (VidcompressError, OSError) as error:
        return f"its picture or clip cannot be shown: {one_line(error)}"


def _viewer_row(
    group: QuestionGroup,
    row: ResultRow,
    line: Mapping[str, Any],
    views: Sequence[Sequence[ViewMap]],
    name: str,
) -> ViewerRow:
    right = group.is_right(row, name)
    verdict = "in no score" if right is None else "right" if right else "wrong"
    base = group.lines[0].get(name, {}).get("answer") if group.rows[0].is_baseline else None
    answer = str(line.get("answer", ""))
    sent = sum(int(view.kept.sum()) for visual in views for view in visual)
    inside = any(view.stages for visual in views for view in visual)
    kept = float(line.get("kept") or sent)  # inside the language model a mean over its layers
    speed = (
        f"; the row's median to the first token is {row.first_token_ms:.0f} ms" if row.first_token_ms else ""
    )
    return ViewerRow(
        "none" if row.is_baseline else row.method,
        "all" if row.is_baseline else row.budget,
        answer,
        sent if inside else round(kept),
        round(float(line.get("total") or 0)),
        kept if inside else None,
        views,
        same=None if base is None or row.is_baseline else answer == base,
        notes=[f"{verdict}{speed}"],
    )


def _media(row: ResultRow, paths: Sequence[str], views: Sequence[Sequence[ViewMap]]) -> list[Any]:
    """Read the pictures and the clip of a question, of the clip the frames that were sent to the encoder.

    Raises:
        ArgumentError: a path that leads out of the folders of the run and of its data.
    """
    folder = row.path.parent.parent
    head = row.provenance.get("head")
    task = str(head.get("task", "")) if isinstance(head, dict) else ""
    kind, _, rest = task.partition(":")
    home = Path(rest).parent if kind == "parquet" and Path(rest).is_file() else Path(rest)
    homes = [folder, *([home] if kind in ("data", "parquet") else [])]
    media: list[Any] = []
    for path, visual in zip(paths, views, strict=False):
        place = folder / path
        if not any(place.resolve().is_relative_to(home.resolve()) for home in homes):
            raise ArgumentError(
                f"media={path!r}: lies outside the folders of the run and of its data; run it again"
            )
        if visual and visual[0].kind == "frame":
            times = [view.time if view.time is not None else float(n) for n, view in enumerate(visual)]
            read = read_video(place, rule=FramesAtTimes(times=tuple(times)))
            nearest = np.abs(np.asarray(read.times)[None] - np.asarray(times)[:, None]).argmin(1)
            media.append([read.frames[int(n)] for n in nearest])
        else:
            media.append(load_image(place))
    return media

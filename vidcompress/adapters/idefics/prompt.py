"""Pictures in the prompts of Idefics3 and SmolVLM, read from the ids alone.

Before every crop stand two marks, one of all pictures and one of its place: `<fake_token_around_image><row_1_col_2>`. A
row of crops ends with a line break. The whole picture is last, before it `<fake_token_around_image><global-img>` and
behind it the first mark again. A picture without crops, and a frame of a clip, is a whole picture alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from vidcompress.core.prompt import columns_of_runs


class WrittenPicture(NamedTuple):
    """One picture of a prompt as its text shows it.

    Attributes:
        runs: columns of its runs of placeholders; the last one is the whole picture.
        crops: (rows, cols) of its crops, (0, 0) without any; None where the text does not tell.
    """

    runs: tuple[range, ...]
    crops: tuple[int, int] | None


def written_pictures(ids: Tensor, token: int) -> list[list[WrittenPicture]]:
    """Return the pictures in each row of a batch of prompts, in order.

    Args:
        ids: (row, column) int64.
        token: the placeholder.
    """
    rows = ids.detach().to("cpu")
    return [_pictures(row.tolist(), columns_of_runs(row, token)) for row in rows]


def without_marks(pictures: Sequence[WrittenPicture], *, frames: bool) -> list[WrittenPicture]:
    """Return the runs of a row as the frames of one clip, or as one picture, for prompts without marks."""
    runs = [run for picture in pictures for run in picture.runs]
    return [WrittenPicture((run,), (0, 0)) for run in runs] if frames else [WrittenPicture(tuple(runs), None)]


def crop_text(row: Tensor, runs: Sequence[range]) -> list[list[range]]:
    """Find the marks of each view of a picture with crops; line breaks between rows of crops are no view's.

    Args:
        row: (column,) int64 ids of the prompt, on the CPU.
        runs: columns of the runs, in order.

    Returns:
        For each run the ranges of columns of its text, as `Visual.view_text` gives them; a single run has none.
    """
    if len(runs) < 2:
        return [[] for _ in runs]
    ids = row.tolist()
    mark, longest = _at(ids, runs[-1].stop), max(b.start - a.stop for a, b in pairwise(runs))
    first = max(0, runs[0].start - longest)
    edges = [first, *(run.stop for run in runs)]
    texts: list[list[range]] = []
    for edge, run in zip(edges, runs, strict=False):
        places = [column for column in range(edge, run.start) if ids[column] == mark]
        texts.append([range(places[-1], run.start)] if places else [])
    if mark is not None:
        texts[-1].append(range(runs[-1].stop, runs[-1].stop + 1))
    return texts


def _pictures(row: list[int], runs: list[range]) -> list[WrittenPicture]:
    if not runs:
        return []
    # A prompt's last run is a whole picture: the ids around it are the marks to look for.
    whole = _at(row, runs[-1].start - 1)
    pictures: list[WrittenPicture] = []
    own: list[range] = []
    for run in runs:
        own.append(run)
        if _at(row, run.start - 1) == whole:
            pictures.append(WrittenPicture(tuple(own), _crops(row, own, _at(row, runs[-1].stop))))
            own = []
    return pictures


def _crops(row: list[int], runs: list[range], mark: int | None) -> tuple[int, int] | None:
    """Return (rows, cols) of the crops before a whole picture; a gap that does not begin with the mark ends a row."""
    count = len(runs) - 1
    if count == 0:
        return 0, 0
    ends = [number for number, run in enumerate(runs[:-1], start=1) if _at(row, run.stop) != mark]
    cols = ends[0] if ends else 0
    if cols == 0 or ends != list(range(cols, count + 1, cols)) or count % cols:
        return None
    return count // cols, cols


def _at(row: list[int], column: int) -> int | None:
    return row[column] if 0 <= column < len(row) else None

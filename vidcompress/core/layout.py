"""Layouts: the views of an image or a video, their geometry, and their tokens in sequence order.

An image is a thumbnail plus crops, or one view of its own shape; a video is its frames. Each becomes one flat sequence
of N positions; a `Layout` holds the view and the cell of every position, and which are separators (the `image_newline`
embeddings). A layout follows from geometry alone, before any feature exists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from einops import rearrange
from torch import Tensor

from vidcompress.checks import flag, is_number, is_whole, one_of, whole_number
from vidcompress.core.devices import outside_caller_modes
from vidcompress.errors import ArgumentError, shown

ViewKind = Literal["thumbnail", "image", "crop", "frame", "tile"]
Modality = Literal["image", "video"]
GLOBAL_VIEWS: tuple[ViewKind, ...] = ("thumbnail", "image")
"""Kinds of view that show a whole image; an image has one of them."""


@dataclass(frozen=True)
class View:
    """View: one picture that the vision encoder takes in, or a tile of one.

    Attributes:
        kind: `thumbnail`, `crop`, `frame`, `image` (at native resolution), or `tile`, a part of one that a method cut.
        rows, cols: the token grid of the view, in tokens. For a crop it is the part of the canvas that belongs
            to it after unpadding and resizing; (0, 0) when the crop is all padding.
        box: (top, left, bottom, right) of a crop or tile in the commander's own grid, in tokens of the thumbnail
            or places of the pooled evidence (fractions allowed); None for others.
        time: seconds from the start of the clip, when known; frames only.
        nominal_box: the same box with padding ignored, as the authors' code cuts it.
        shaped: whether rows and cols are known; where not, the tokens are stated as one row.
    """

    kind: ViewKind
    rows: int
    cols: int
    box: tuple[float, float, float, float] | None = None
    time: float | None = None
    nominal_box: tuple[float, float, float, float] | None = None
    shaped: bool = True

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(ViewKind))
        whole_number("rows", self.rows, least=0)
        whole_number("cols", self.cols, least=0)
        for name, box in (("box", self.box), ("nominal_box", self.nominal_box)):
            if box is not None and (
                not isinstance(box, (tuple, list)) or len(box) != 4 or not all(map(is_number, box))
            ):
                raise ArgumentError(
                    f"{name}={shown(box)}: must be (top, left, bottom, right) in tokens of the thumbnail, or None"
                )
        if self.time is not None and not is_number(self.time):
            raise ArgumentError(f"time={shown(self.time)}: must be a number of seconds, or None")
        flag("shaped", self.shaped)


@dataclass(frozen=True, eq=False)
class Layout:
    """Geometry of one image or one video as a sequence of N positions.

    Layouts are shared between calls: read their tensors, never write into them.

    Attributes:
        modality: `image` or `video`.
        views: the V views in order.
        view: (N,) int64, the view of each position; V for separators, so that it can index a (V + 1,) table.
        row, col: (N,) int64, the cell of each position in its picture: the thumbnail's grid, the crop canvas
            (shared by all crops) or the frame's grid. Separators have the row they end and the column after it.
        line: (N,) int64, the line of each position; one separator ends one line; `num_lines`
            for positions that no separator ends, such as the thumbnail's.
        separator: (N,) bool.
        grid: (rows, cols) of the commander's grid (thumbnail, pooled evidence, or one frame).
        canvas: (rows, cols) of the crop canvas after unpadding and resizing, or of the view that tiles are cut from;
            None without either.
        picture: (top, left, rows, cols) of the part of the canvas that shows the picture, where padding was kept; None
            where the whole canvas shows it.
        sizes: V ints, positions of each view.
        num_separators, num_lines: ints.
        source: (N,) int64, position of each token in the full sequence; differs from 0..N-1 only when frames
            were left out before the encoder.
        full_length: length of that full sequence.
    """

    modality: Modality
    views: tuple[View, ...]
    view: Tensor
    row: Tensor
    col: Tensor
    line: Tensor
    separator: Tensor
    grid: tuple[int, int]
    canvas: tuple[int, int] | None
    sizes: tuple[int, ...]
    num_separators: int
    num_lines: int
    source: Tensor
    full_length: int
    picture: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        """Check kinds and shapes; nothing is read from the device."""
        one_of("modality", self.modality, get_args(Modality))
        if not isinstance(self.views, tuple) or not all(isinstance(view, View) for view in self.views):
            raise ArgumentError(f"views={shown(self.views)}: must be a tuple of View")
        for name in ("view", "row", "col", "line", "source", "separator"):
            _check_index(name, getattr(self, name), self.view)
        for name, grid in (("grid", self.grid), ("canvas", self.canvas)):
            pair = isinstance(grid, tuple) and len(grid) == 2 and all(is_whole(n) and n >= 0 for n in grid)
            if not pair and (name == "grid" or grid is not None):
                raise ArgumentError(f"{name}={shown(grid)}: must be (rows, cols), whole numbers of tokens")
        for name in ("num_separators", "num_lines", "full_length"):
            whole_number(name, getattr(self, name), least=0)
        if self.picture is not None and not _is_inside(self.picture, self.canvas):
            raise ArgumentError(
                f"picture={shown(self.picture)}: must be (top, left, rows, cols) inside the canvas {self.canvas}, "
                "with at least one row and column, or None"
            )
        sizes = self.sizes if isinstance(self.sizes, tuple) and all(map(is_whole, self.sizes)) else ()
        if len(sizes) != len(self.views) or sum(sizes) + self.num_separators != len(self):
            raise ArgumentError(
                f"sizes={shown(self.sizes)}: must be one number of tokens for each of {len(self.views)} views, and "
                f"with num_separators={self.num_separators} sum to the {len(self)} positions"
            )
        if self.full_length < len(self):
            raise ArgumentError(
                f"full_length={self.full_length}: must be at least the {len(self)} positions there are"
            )

    def __len__(self) -> int:
        return int(self.view.shape[0])

    def __repr__(self) -> str:
        return (
            f"Layout({self.modality}, views={len(self.views)}, positions={len(self)}, "
            f"separators={self.num_separators}, grid={self.grid}, canvas={self.canvas})"
        )

    @property
    def num_tokens(self) -> int:
        """Number of positions that are not separators."""
        return len(self) - self.num_separators

    @property
    def trailing_separator(self) -> bool:
        """Whether the only separator is one newline, which then ends the sequence."""
        return self.num_separators == 1

    @cached_property
    @outside_caller_modes
    def sizes_tensor(self) -> Tensor:
        """(V + 1,) int64: positions per view, then the number of separators; on the layout's device."""
        return torch.tensor((*self.sizes, self.num_separators), dtype=torch.int64, device=self.view.device)

    @cached_property
    @outside_caller_modes
    def token_index(self) -> Tensor:
        """(num_tokens,) int64: positions that are not separators, ascending."""
        return _first(~self.separator, self.num_tokens)

    @cached_property
    @outside_caller_modes
    def separator_index(self) -> Tensor:
        """(num_separators,) int64: positions of the separators, ascending."""
        return _first(self.separator, self.num_separators)

    @cached_property
    @outside_caller_modes
    def run(self) -> int | None:
        """Positions per frame, its own separators included, when every frame is one contiguous run of equal length
        in order (and what follows the last frame are separators); None for images and for any other order."""
        frames, tail = len(self.views), self.num_separators
        if self.modality != "video" or frames == 0 or len(set(self.sizes)) != 1:
            return None
        length = self.sizes[0] + (tail // frames if tail % frames == 0 else 0)
        body = rearrange(self.view[: frames * length], "(frame place) -> frame place", frame=frames)
        owner = torch.arange(frames, device=body.device)[:, None]
        own = ((body == owner).sum(1) == self.sizes[0]) & ((body == owner) | (body == frames)).all(1)
        return length if bool(own.all().item()) else None

    @cached_property
    @outside_caller_modes
    def table(self) -> Tensor:
        """(V, max size) int64: the positions of each view, ascending, then N, so that it can index an (N + 1,) row."""
        width = max(self.sizes, default=0)
        order = torch.argsort(self.view, stable=True)
        order = torch.cat((order, order.new_full((width,), len(self))))
        sizes = self.sizes_tensor[:-1]
        column = torch.arange(width, device=order.device)
        place = (sizes.cumsum(0) - sizes)[:, None] + column
        return torch.where(column < sizes[:, None], order[place], len(self))

    def to(self, device: torch.device | str) -> Layout:
        """Return the layout with its index tensors on `device` (itself when it is there already)."""
        return self if self.view.device == torch.device(device) else self._moved(device)

    @outside_caller_modes
    def _moved(self, device: torch.device | str) -> Layout:
        names = ("view", "row", "col", "line", "separator", "source")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @outside_caller_modes
    def restrict_to_frames(self, frames: Tensor, indices: tuple[int, ...]) -> Layout:
        """Return the layout of a video with only some frames encoded; separators stay.

        Args:
            frames: (F,) int64, kept frame numbers, ascending, on the layout's device.
            indices: the same numbers as Python ints.
        """
        size = self.sizes[0]
        inside = torch.full((len(self.views) + 1,), -1, dtype=torch.int64, device=self.view.device)
        inside[frames] = torch.arange(len(indices), device=self.view.device)
        inside[-1] = len(indices)
        keep = _first(inside[self.view] >= 0, size * len(indices) + self.num_separators)
        pick = {name: getattr(self, name)[keep] for name in ("row", "col", "line", "separator", "source")}
        return replace(
            self,
            views=tuple(self.views[i] for i in indices),
            view=inside[self.view[keep]],
            sizes=(size,) * len(indices),
            **pick,
        )


def _is_inside(box: Any, canvas: tuple[int, int] | None) -> bool:
    if canvas is None or not isinstance(box, tuple) or len(box) != 4 or not all(map(is_whole, box)):
        return False
    top, left, rows, cols = box
    inside = top + rows <= canvas[0] and left + cols <= canvas[1]
    return bool(inside and min(top, left) >= 0 and min(rows, cols) >= 1)


def _check_index(name: str, value: Any, like: Any) -> None:
    dtype = torch.bool if name == "separator" else torch.int64
    if not isinstance(value, Tensor) or value.ndim != 1 or value.dtype != dtype:
        raise ArgumentError(f"{name}={shown(value)}: must be a tensor (N,) of {dtype}")
    if value.shape != like.shape:
        raise ArgumentError(
            f"{name}={shown(value)}: must have one entry per position, {len(like)} as in view"
        )


def _first(mask: Tensor, count: int) -> Tensor:
    """Indices of the `count` true entries of `mask`, ascending; does not synchronise with the device."""
    positions = torch.arange(mask.shape[0], device=mask.device)
    return torch.where(mask, positions, mask.shape[0]).sort().values[:count]

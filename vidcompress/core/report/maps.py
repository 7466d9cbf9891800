"""Maps of a visual: view by view what was sent of each cell, its score, its mass, and what the layers dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vidcompress.checks import is_number, is_whole, one_of, whole_number
from vidcompress.core.layout import Layout, ViewKind
from vidcompress.errors import ArgumentError, shown

Mask: TypeAlias = NDArray[np.bool_]
Place: TypeAlias = tuple[float, float, float, float]

WHOLE: Place = (0.0, 0.0, 1.0, 1.0)
MOST_CELLS = 65_536
"""Most cells of a grid that is read from a file."""


@dataclass(frozen=True, eq=False)
class ViewMap:
    """Map of one view: arrays (rows, cols) over its grid of tokens, and where that grid lies in the picture.

    Attributes:
        kind: `thumbnail`, `image`, `crop` or `frame`.
        time: seconds from the start of the clip, when known; frames only.
        place: (top, left, bottom, right) of the grid as fractions of the picture's or frame's height and width. A crop
            that shows padding reaches below 0 or above 1. None where it is not known, and for a view without tokens.
        cells: (rows, cols) bool, cells that have a token.
        kept: (rows, cols) bool, cells whose token was sent; a merged or pooled token counts where its centre lies.
        scores: (rows, cols) float32, the method's score of each token, higher is kept; NaN where there is none.
            None for a method that does not score tokens. Scores of two views are not always comparable.
        mass: (rows, cols) float32, tokens that each token sent stands for; 0 where none was sent. None without mass.
        stages: for each first layer of a stage inside the language model a (rows, cols) bool: tokens that are left.
    """

    kind: ViewKind
    time: float | None
    place: Place | None
    cells: Mask
    kept: Mask
    scores: NDArray[np.float32] | None = None
    mass: NDArray[np.float32] | None = None
    stages: Mapping[int, Mask] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> ViewMap:
        """Make the map that `to_dict` wrote; without scores, and with a token in every cell.

        Raises:
            ArgumentError: a field is missing or not as `to_dict` writes it.
        """
        kind: Any = entry.get("kind")
        grid: Any = entry.get("grid")
        one_of("kind", kind, get_args(ViewKind))
        pair = isinstance(grid, list) and len(grid) == 2 and all(is_whole(n) and n >= 0 for n in grid)
        if not pair or grid[0] * grid[1] > MOST_CELLS or max(grid) > MOST_CELLS:
            raise ArgumentError(
                f"grid={shown(grid)}: must be [rows, cols], whole numbers, of at most {MOST_CELLS} cells"
            )
        size = (int(grid[0]), int(grid[1]))
        kept = mask_of(entry.get("mask"), size)
        place, time, stages = entry.get("place"), entry.get("time"), entry.get("stages", {})
        if place is not None and not (
            isinstance(place, list) and len(place) == 4 and all(map(is_number, place))
        ):
            raise ArgumentError(f"place={shown(place)}: must be [top, left, bottom, right], numbers")
        if time is not None and not is_number(time):
            raise ArgumentError(f"time={shown(time)}: must be a number of seconds")
        if not isinstance(stages, dict) or not all(str(layer).isdecimal() for layer in stages):
            raise ArgumentError(f"stages={shown(stages)}: must be masks by the number of a layer")
        masses = entry.get("mass")
        if masses is not None and not (
            isinstance(masses, list) and len(masses) == kept.sum() and all(map(is_number, masses))
        ):
            raise ArgumentError(
                f"mass={shown(masses)}: must be a number for each of {int(kept.sum())} tokens"
            )
        mass = None if masses is None else np.zeros(size, np.float32)
        if mass is not None:
            mass[kept] = masses
        top, left, bottom, right = place or WHOLE
        return cls(
            kind,
            None if time is None else float(time),
            None if place is None else (float(top), float(left), float(bottom), float(right)),
            np.ones(size, np.bool_),
            kept,
            mass=mass,
            stages={int(layer): mask_of(runs, size) for layer, runs in stages.items()},
        )

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols), tokens."""
        rows, cols = self.kept.shape
        return rows, cols

    def on_picture(self, values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        """Return values of the grid's cells, such as `kept`, at the pixels of the picture.

        Args:
            values: (rows, cols) bool or float32.
            height, width: of the picture or frame, in pixels.

        Returns:
            (height, width) of the same dtype; False or NaN at pixels that the view does not show.

        Raises:
            ArgumentError: values of another shape, a size below 1, or a view whose place is not known.
        """
        height, width = whole_number("height", height, least=1), whole_number("width", width, least=1)
        if not isinstance(values, np.ndarray) or values.shape != self.kept.shape:
            raise ArgumentError(
                f"values={shown(values)}: must be an array {self.grid} as the view's grid, such as view.kept"
            )
        outside = np.nan if np.issubdtype(values.dtype, np.floating) else False
        pixels = np.full((height, width), outside, dtype=values.dtype)
        if not values.size:
            return pixels
        if self.place is None:
            raise ArgumentError(
                f"place=None: where this {self.kind} lies in the picture is not known; pass image_sizes to the "
                "model, or read its grid"
            )
        top, left, bottom, right = self.place
        down, there = _cells_of(height, top, bottom, self.grid[0])
        across, here = _cells_of(width, left, right, self.grid[1])
        pixels[np.ix_(there, here)] = values[np.ix_(down, across)]
        return pixels

    def to_dict(self) -> dict[str, Any]:
        """Return kind, grid, time, place, mask, stages and masses as JSON types; masks as lengths of runs (`runs_of`).

        Masses are those of the tokens sent, row by row.
        """
        entry: dict[str, Any] = {"kind": self.kind, "grid": list(self.grid)}
        if self.time is not None:
            entry["time"] = round(self.time, 4)
        if self.place is not None:
            entry["place"] = [round(edge, 4) for edge in self.place]
        entry["mask"] = runs_of(self.kept)
        if self.stages:
            entry["stages"] = {str(layer): runs_of(mask) for layer, mask in self.stages.items()}
        if self.mass is not None:
            entry["mass"] = [round(float(mass), 3) for mass in self.mass[self.kept]]
        return entry


def _cells_of(
    pixels: int, low: float, high: float, cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the cell of each pixel's centre along one axis, of the pixels that lie in a cell, and these pixels."""
    centres = (np.arange(pixels) + 0.5) / pixels
    cell = np.floor((centres - low) / (high - low) * cells).astype(np.int64)
    there = np.flatnonzero((cell >= 0) & (cell < cells))
    return cell[there], there


def runs_of(mask: Mask) -> list[int]:
    """Return a mask as lengths of runs: cells not set, set, not set and so on, row by row.

    Args:
        mask: (rows, cols) bool.

    Returns:
        Whole numbers that sum to rows x cols; the first is 0 where the first cell is set. [] of no cells.
    """
    flat = mask.ravel()
    if not flat.size:
        return []
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths


def mask_of(runs: Any, grid: tuple[int, int]) -> Mask:
    """Return the (rows, cols) bool mask that `runs_of` wrote.

    Args:
        runs: lengths of runs, not set first.
        grid: (rows, cols).

    Raises:
        ArgumentError: not a list of whole numbers of at least 0 that sum to rows x cols.
    """
    rows, cols = grid
    right = isinstance(runs, (list, tuple)) and all(is_whole(run) and run >= 0 for run in runs)
    if not right or sum(runs) != rows * cols:
        raise ArgumentError(
            f"runs={shown(runs)}: must be whole numbers of at least 0 that sum to {rows} x {cols} = {rows * cols}"
        )
    flags = np.arange(len(runs)) % 2 == 1
    mask: Mask = np.repeat(flags, np.asarray(runs, dtype=np.int64)).reshape(rows, cols)
    return mask


def view_maps(
    layout: Layout,
    entries: NDArray[np.int64],
    *,
    scores: NDArray[np.float32] | None = None,
    mass: NDArray[np.float32] | None = None,
    stages: Mapping[int, Mask] | None = None,
) -> tuple[ViewMap, ...]:
    """Return the map of each view of a visual, in order.

    Args:
        layout: geometry of the visual, N positions.
        entries: (K,) index in the layout's tensors of each position sent.
        scores: (N,) score of each position; None for a method that scores no tokens.
        mass: (K,) tokens that each position sent stands for; None without mass.
        stages: for each first layer of a stage inside the language model (K,), the positions sent that are left.
    """
    view, row, col = (tensor.cpu().numpy() for tensor in (layout.view, layout.row, layout.col))
    members = np.split(np.argsort(view, kind="stable"), np.cumsum(layout.sizes))[:-1]
    sent = _flags(entries, len(view))
    left = {layer: _flags(entries[there], len(view)) for layer, there in (stages or {}).items()}
    weight = None if mass is None else np.zeros(len(view), np.float32)
    if weight is not None:
        weight[entries] = mass
    maps = []
    for number, mine in enumerate(members):
        one = layout.views[number]
        grid = (one.rows, one.cols)
        first = (int(row[mine].min()), int(col[mine].min())) if len(mine) else (0, 0)
        where = (row[mine] - first[0], col[mine] - first[1])

        def laid(
            values: NDArray[Any], empty: Any, where: Any = where, mine: Any = mine, grid: Any = grid
        ) -> Any:
            """Values of the view's tokens in its grid."""
            out = np.full(grid, empty, dtype=values.dtype)
            out[where] = values[mine]
            return out

        maps.append(
            ViewMap(
                one.kind,
                one.time,
                _place(layout, number, first),
                laid(np.ones(len(view), np.bool_), False),
                laid(sent, False),
                None if scores is None else laid(scores, np.nan),
                None if weight is None else laid(weight, 0.0),
                {layer: laid(flags, False) for layer, flags in left.items()},
            )
        )
    return tuple(maps)


def _flags(entries: NDArray[np.int64], count: int) -> Mask:
    """Return (count,) bool, set at the entries."""
    flags = np.zeros(count, np.bool_)
    flags[entries] = True
    return flags


def _place(layout: Layout, number: int, first: tuple[int, int]) -> Place | None:
    """Return where a view lies in the picture; `first` is its first row and column on the canvas."""
    view = layout.views[number]
    if not layout.sizes[number]:
        return None
    if view.kind != "crop":
        return WHOLE
    if layout.canvas is None:
        return None
    top, left, rows, cols = layout.picture or (0, 0, *layout.canvas)
    down, across = first[0] - top, first[1] - left
    return (down / rows, across / cols, (down + view.rows) / rows, (across + view.cols) / cols)

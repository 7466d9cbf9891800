"""What the language model would see: views, their geometry, and the tokens in sequence order.

An image is a thumbnail plus crops, a video is its frames. Both become one flat sequence of N positions; a
`Layout` says for every position which view and which cell it belongs to, and which positions are separators
(the `image_newline` embeddings). A layout follows from geometry alone, before any feature exists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

import torch
from torch import Tensor

from vidcompress.checks import is_number, is_whole, one_of, whole_number, word
from vidcompress.errors import ArgumentError, shown

ViewKind = Literal["thumbnail", "crop", "frame"]
Modality = Literal["image", "video"]
Quantity = Literal[
    "cls_logits",
    "cls_attention",
    "cls_attention_whole",
    "attention_received",
    "keys",
    "mean_keys",
    "hidden",
    "cls_hidden",
    "question",
    "pooling_attention",
    "pooled",
    "patch_embedding",
    "text_embedding",
]
OF_QUESTION: frozenset[Quantity] = frozenset({"question", "text_embedding"})
AXES: dict[Quantity, str] = {
    "keys": "NC",
    "mean_keys": "NC",
    "hidden": "NC",
    "cls_hidden": "VC",
    "question": "TD",
    "pooled": "VC",
    "patch_embedding": "NE",
    "text_embedding": "SE",
}
"""Axes of the quantities that are not one number per position (N,): see `Evidence`."""


@dataclass(frozen=True)
class View:
    """One picture that the vision encoder saw.

    Attributes:
        kind: `thumbnail`, `crop` or `frame`.
        rows, cols: the token grid of the view, in tokens. For a crop it is the part of the canvas that belongs
            to it after unpadding and resizing; (0, 0) when the crop is all padding.
        box: (top, left, bottom, right) of a crop in the commander's own grid, in tokens of the thumbnail
            (fractions allowed); None for thumbnails and frames.
        time: seconds from the start of the clip, when known; frames only.
        nominal_box: the same box with padding ignored, as the authors' code cuts it.
    """

    kind: ViewKind
    rows: int
    cols: int
    box: tuple[float, float, float, float] | None = None
    time: float | None = None
    nominal_box: tuple[float, float, float, float] | None = None

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


Function = TypeVar("Function", bound=Callable[..., Any])


def as_called_here(function: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    """The same function, called later under the autocast block that is open now: a part of the model, say."""
    if not torch.is_autocast_enabled(device.type):
        return function
    dtype = torch.get_autocast_dtype(device.type)

    def call(values: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype):
            return function(values)

    return call


def ordinary(function: Function) -> Function:
    """Shield what is cached from the caller's modes: no inference tensors, new tensors on the CPU unless placed."""

    @wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.device("cpu"):
            return function(*args, **kwargs)

    return cast(Function, inner)


class FrameSource(ABC):
    """Encoder input of a clip whose frames become ready in order, while earlier ones are encoded.

    It is indexed like the tensor (frame, channel, height, width) that it becomes; indexing waits for what it returns.

    Attributes:
        shape: of the whole, as `ndim`, `device` and `dtype`.
    """

    shape: torch.Size
    ndim: int
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Frames of a slice, or with the numbers of a tensor: (frame, channel, height, width)."""

    @abstractmethod
    def __len__(self) -> int: ...


class _Wanted(NamedTuple):
    quantity: Quantity
    layer: int | Literal["features"] = -1
    auxiliary: str | None = None


class Evidence(_Wanted):
    """A quantity that a method wants beside the features.

    Of an encoder layer, one number per position (N,): `cls_logits` (head-mean of q_cls . k / sqrt(head size), before
    softmax), `cls_attention` (head-mean of its softmax over all encoder tokens), `cls_attention_whole` (the same with
    the heads not split: softmax of q_cls . k / sqrt(width)) and `attention_received` (mean over heads and queries of
    the attention that each token receives).

    Of an encoder layer, one vector per position (N, C): `keys` (the key projection, heads side by side), `mean_keys`
    (its mean over heads) and `hidden` (what the projector reads; only of the layer "features"). Of the CLS token of
    each view, (V, C): `cls_hidden` (likewise).

    Of the prompt: `question` (T, D), the language model's embeddings of the text that follows the visual in its row
    (of the text before it where none follows).

    With weights that the checkpoint lacks, from the folder `auxiliary`: `pooling_attention` (N,) and `pooled` (V, C),
    where the encoder's own pooling head looks and what it makes of each view; `patch_embedding` (N, E) and
    `text_embedding` (S, E), the patches and the S segments of the question in the space that encoder and text tower
    share.

    Attributes:
        quantity: its name.
        layer: index into the encoder's layers, for the first two kinds; negative counts from the last layer; "features"
            is the layer whose output the projector reads.
        auxiliary: folder of a checkpoint, for the last kind.

    Raises:
        ArgumentError: there is no such quantity, the layer is no whole number, or the folder no text.
    """

    __slots__ = ()

    def __new__(
        cls, quantity: Quantity, layer: int | Literal["features"] = -1, auxiliary: str | None = None
    ) -> Evidence:
        """Check all."""
        one_of("quantity", quantity, get_args(Quantity))
        if not is_whole(layer) and not (isinstance(layer, str) and layer == "features"):
            raise ArgumentError(
                f"layer={shown(layer)}: must be a whole number, such as -1 for the last layer, or 'features'"
            )
        if auxiliary is not None:
            word("auxiliary", auxiliary, "clip-text")
        return super().__new__(cls, quantity, layer, auxiliary)


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
        line: (N,) int64, the line a position belongs to, a line being what one separator ends; `num_lines`
            for positions that no separator ends, such as the thumbnail's.
        separator: (N,) bool.
        grid: (rows, cols) of the commander's grid (thumbnail, or one frame).
        canvas: (rows, cols) of the crop canvas after unpadding and resizing; None without crops.
        picture: (top, left, rows, cols) of the canvas that shows the picture, where its padding was not cut off; None
            where all of it does.
        sizes: V ints, how many positions belong to each view.
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
    @ordinary
    def sizes_tensor(self) -> Tensor:
        """(V + 1,) int64: positions per view, then the number of separators; on the layout's device."""
        return torch.tensor((*self.sizes, self.num_separators), dtype=torch.int64, device=self.view.device)

    @cached_property
    @ordinary
    def token_index(self) -> Tensor:
        """(num_tokens,) int64: positions that are not separators, ascending."""
        return _first(~self.separator, self.num_tokens)

    @cached_property
    @ordinary
    def separator_index(self) -> Tensor:
        """(num_separators,) int64: positions of the separators, ascending."""
        return _first(self.separator, self.num_separators)

    @cached_property
    @ordinary
    def run(self) -> int | None:
        """Positions per frame, its own separators included, when every frame is one contiguous run of equal length
        in order (and what follows the last frame are separators); None for images and for any other order."""
        frames, tail = len(self.views), self.num_separators
        if self.modality != "video" or frames == 0 or len(set(self.sizes)) != 1:
            return None
        length = self.sizes[0] + (tail // frames if tail % frames == 0 else 0)
        body = self.view[: frames * length].view(frames, length)
        owner = torch.arange(frames, device=body.device)[:, None]
        own = ((body == owner).sum(1) == self.sizes[0]) & ((body == owner) | (body == frames)).all(1)
        return length if bool(own.all().item()) else None

    @cached_property
    @ordinary
    def table(self) -> Tensor:
        """(V, max size) int64: the positions of each view, ascending, then N, so that it can index an (N + 1,) row."""
        width = max(self.sizes, default=0)
        order = torch.argsort(self.view, stable=True)
        order = torch.cat((order, order.new_full((width,), len(self))))
        sizes = self.sizes_tensor[:-1]
        column = torch.arange(width, device=order.device)
        place = (sizes.cumsum(0) - sizes)[:, None] + column
        return torch.where(column < sizes[:, None], order[place], len(self))

    @ordinary
    def to(self, device: torch.device | str) -> Layout:
        """Return the layout with its index tensors on `device` (itself when it is there already)."""
        if self.view.device == torch.device(device):
            return self
        names = ("view", "row", "col", "line", "separator", "source")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @ordinary
    def restrict_to_frames(self, frames: Tensor, indices: tuple[int, ...]) -> Layout:
        """Return the layout of a video of which only some frames are encoded; separators stay.

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


@dataclass(eq=False)
class VisualTokens:
    """One image or one video as the language model would receive it.

    Attributes:
        features: (N, D) in sequence order, separators included, in the model's dtype.
        layout: the geometry of those N positions, on the same device.
        evidence: for each `Evidence` asked for its values in float32, mostly (N,); those at separators mean nothing.
        project: the model's projector, (n, C) -> (n, D) in the dtype of the features, where it makes them position by
            position out of the evidence `hidden`; None where pooling or resizing comes after it.
    """

    features: Tensor
    layout: Layout
    evidence: Mapping[Evidence, Tensor] = field(default_factory=dict)
    project: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        self._check(self.features)

    def hold_autocast(self) -> None:
        """Let the projector run under the autocast block that is open now, also where `select` asks for it."""
        if self.project is not None:
            self.project = as_called_here(self.project, self.layout.view.device)

    def _check(self, features: Any) -> None:
        if not isinstance(self.layout, Layout):
            raise ArgumentError(f"layout={shown(self.layout)}: must be a Layout")
        found = tuple(features.shape) if isinstance(features, Tensor) else shown(features)
        if len(found) != 2 or found[0] != len(self.layout):
            raise ArgumentError(
                f"features must have shape (N, D) with N = {len(self.layout)} positions of the layout, "
                f"got {found}; pass separators and all, in sequence order"
            )
        if self.project is not None and not callable(self.project):
            raise ArgumentError(f"project={shown(self.project)}: must be a function of features, or None")
        if not isinstance(self.evidence, Mapping) or not all(isinstance(key, tuple) for key in self.evidence):
            raise ArgumentError(f"evidence={shown(self.evidence)}: must be a dict of Evidence to tensors")
        for key, value in self.evidence.items():
            axes, known = AXES.get(key[0], "N"), {"N": len(self), "V": len(self.layout.views)}
            shape = tuple(value.shape) if isinstance(value, Tensor) else ()
            right = len(shape) == len(axes) and all(
                known.get(axis, size) == size for axis, size in zip(axes, shape, strict=True)
            )
            if not right:
                expected = ", ".join(f"{axis} = {known[axis]}" if axis in known else axis for axis in axes)
                raise ArgumentError(
                    f"evidence[{key}] must have shape ({expected}), got {shown(value)}; values belong to "
                    "positions in sequence order, or to views in order"
                )

    @property
    def dtype(self) -> torch.dtype:
        """Of the features."""
        return self.features.dtype

    def rows(self, index: Tensor) -> Tensor:
        """The features (K, D) at positions (K,): all that a method should read of tokens it only sends."""
        return self.features.index_select(0, index)

    def __len__(self) -> int:
        return len(self.layout)

    def __repr__(self) -> str:
        return f"VisualTokens(features={tuple(self.features.shape)}, {self.layout!r}, evidence={list(self.evidence)})"


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
    """Indices of the `count` true entries of `mask`, ascending, without asking the device how many there are."""
    positions = torch.arange(mask.shape[0], device=mask.device)
    return torch.where(mask, positions, mask.shape[0]).sort().values[:count]

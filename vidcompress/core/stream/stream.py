"""Stream: a method that takes frames as they come, holds a bounded number of tokens, and can be asked at any time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple, NoReturn, TypeAlias

import torch
from torch import Tensor

from vidcompress.checks import is_number, whole_number
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Layout, View
from vidcompress.core.reductions import rows_per_block
from vidcompress.core.selection import Selection
from vidcompress.core.stream.table import TokenTable
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError, BudgetError, UnsupportedInputError, shown

Select: TypeAlias = Callable[[VisualBatch, Sequence[VisualBudget]], list[Selection]]
ROWS = 4096
"""Rows of frame statistics that an endless stream is meant to have."""
MOST_HOLD = 1024
MOST_FRAMES = 2**31
"""Most frames of a state, those of two years at 30 a second."""


class Kept(NamedTuple):
    """Tokens that a stream keeps, in the order of the clip.

    Attributes:
        frame: (K,) int64, the frame of each token, from 0.
        place: (K,) int64, its place in the frame, from 0.
        features: (K, D) in the dtype that came; a copy.
        mass: (K,) float32, tokens that each stands for; they sum to the tokens seen. None where the method states none.
        certified: (F,) bool, one for each frame or row of frames: whether the choice there is proven to be that of
            `select` on the whole clip; None where nothing is proven.
    """

    frame: Tensor
    place: Tensor
    features: Tensor
    mass: Tensor | None
    certified: Tensor | None


class Chosen(NamedTuple):
    """Rows (K,) int64 of the table that are kept, ascending, with masses and proofs as in `Kept`."""

    rows: Tensor
    mass: Tensor | None = None
    certified: Tensor | None = None


@dataclass(frozen=True)
class StreamSize:
    """The limits of a stream.

    Attributes:
        most: largest budget that it can be asked for, in tokens; separators are the caller's.
        hold: tokens held per token of that budget, 2 to 1024.
        grid: (rows, cols) of the tokens of a frame; None for one row of tokens.
        rows: most rows of frame statistics, an even number; full rows are joined in pairs. None: one row per frame.

    Raises:
        ArgumentError: a limit out of range.
    """

    most: int
    hold: float = 4.0
    grid: tuple[int, int] | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        whole_number("most", self.most)
        if not is_number(self.hold) or not 2 <= self.hold <= MOST_HOLD:
            raise ArgumentError(
                f"hold={shown(self.hold)}: must be a number from 2 to {MOST_HOLD}; 4 is usual"
            )
        if self.grid is not None:
            if not isinstance(self.grid, (tuple, list)) or len(self.grid) != 2:
                raise ArgumentError(
                    f"grid={shown(self.grid)}: must be (rows, cols) of a frame's tokens, or None"
                )
            for side in self.grid:
                whole_number("grid", side)
        if self.rows is not None and whole_number("rows", self.rows, least=2) % 2:
            raise ArgumentError(f"rows={self.rows}: must be an even number, such as {ROWS}, or None")

    def capacity(self, size: int) -> int:
        """Return the most tokens held between frames of `size` tokens: max(hold most, most + size)."""
        return max(int(self.hold * self.most), self.most + size)


class Stream(ABC):
    """Base of all streams.

    While everything fits, nothing is computed, and `keep` is the method's `select` on all that came. The first frame
    that does not fit starts an eviction; what is dropped does not come back.

    Attributes:
        frames: frames seen.
        evictions: how often tokens were dropped.
        largest: most tokens held between frames so far.
        exact: whether the tokens kept are always those of `select` on the whole clip.
        own: tensors by name that a kind of stream holds beside the table.
    """

    exact: ClassVar[bool] = False

    def __init__(self, select: Select, size: StreamSize) -> None:
        if not isinstance(size, StreamSize):
            raise ArgumentError(
                f"size={shown(size)}: must be a StreamSize, such as StreamSize(most=1000, hold=4)"
            )
        self.select, self.size = select, size
        self.frames, self.evictions, self.largest = 0, 0, 0
        self._arrived, self._settled = (
            0,
            0,
        )  # frames whose columns are written; frames until the last eviction
        self.own: dict[str, Tensor] = {}
        self._table: TokenTable | None = None

    @property
    def table(self) -> TokenTable:
        """The tokens held.

        Raises:
            UnsupportedInputError: no frame has come yet.
        """
        if self._table is None:
            raise UnsupportedInputError(
                "a stream keeps tokens of frames that it has seen; call add(features) first"
            )
        return self._table

    @property
    def tokens(self) -> int:
        """Tokens seen."""
        return self.frames * self.frame_size if self._table else 0

    @property
    def held(self) -> int:
        """Tokens held."""
        return self._table.held if self._table else 0

    def add(self, features: Tensor) -> None:
        """Take the next frames; the choice does not depend on how many come at once.

        Args:
            features: (frames, tokens, channels), without separators; every call with the same tokens and channels.

        Raises:
            ArgumentError: another shape, dtype or device than before.
        """
        with own_modes():
            self._check(features)
            features, capacity = features.detach(), self.size.capacity(self.frame_size)
            while len(features):
                room = max(1, (capacity - self.table.held) // self.frame_size)
                part, features = features[:room], features[room:]
                self.table.append(part, self.frames)
                self.frames += len(part)
                if self.table.held > capacity:
                    self._catch_up()
                    self.table.compact(self._survivors(max(self.size.most, capacity // 2)))
                    self.evictions, self._settled = self.evictions + 1, self.frames
                self.largest = max(self.largest, self.table.held)

    def _catch_up(self) -> None:
        """Let all frames arrive that have not yet; after an eviction they are whole, at the end of the table."""
        new = self.frames - self._arrived
        start, size = self.table.held - new * self.frame_size, self.frame_size
        step = rows_per_block(self.table["features"], size * self.table["features"].shape[1])
        for first in range(0, new, step):
            rows = slice(start + first * size, start + min(new, first + step) * size)
            self._arrive(self.table["features"][rows].unflatten(0, (-1, size)), rows.start)
            self._arrived += (rows.stop - rows.start) // size

    def keep(self, count: int) -> Kept:
        """Return the tokens that a budget of `count` keeps now; nothing is used up.

        Args:
            count: tokens, 1 to the stream's `most`; of fewer tokens seen, all are kept.

        Raises:
            BudgetError: a count out of range, or too small for the method.
            UnsupportedInputError: no frame has come yet.
        """
        if whole_number("count", count, error=BudgetError) > self.size.most:
            raise BudgetError(
                f"count={count}: this stream holds tokens for a budget of at most {self.size.most}; ask for fewer, or "
                "open it with a larger `most`"
            )
        table, count = self.table, min(count, self.tokens)
        with own_modes():
            if self.evictions:
                self._catch_up()
            chosen = self._choose(count) if self.evictions else self._offline(count)
            frame, place, features = (
                table[name].index_select(0, chosen.rows) for name in ("frame", "place", "features")
            )
            certified = chosen.certified
            if self.exact or not self.evictions:
                certified = torch.ones(1, dtype=torch.bool, device=frame.device).expand(self.frames)
        return Kept(frame, place, features, chosen.mass, certified)

    def _offline(self, count: int) -> Chosen:
        """Choose by the method's `select` from everything that came."""
        layout = frames_layout(self.frames, self.grid).to(self.table["frame"].device)
        selection = self.select(
            VisualBatch([VisualTokens(self.table["features"], layout)]), [visual_budget(layout, count)]
        )[0]
        return Chosen(selection.index, selection.mass)

    @property
    def frame_size(self) -> int:
        """Tokens of a frame."""
        return self.grid[0] * self.grid[1]

    @abstractmethod
    def _arrive(self, features: Tensor, row: int) -> None:
        """Take what is final of the next frames (k, n, D), whose tokens begin at a row of the table.

        Frame `_arrived` is the first of them. It is called for few frames or many, whenever it is needed.
        """

    @abstractmethod
    def _survivors(self, retained: int) -> Tensor:
        """Rows of the table that an eviction leaves, ascending int64: about `retained`, at least `most`."""

    @abstractmethod
    def _choose(self, count: int) -> Chosen:
        """Choose `count` of the tokens held, after an eviction."""

    def state(self) -> dict[str, Tensor]:
        """Return everything that the stream holds as named tensors, such as safetensors take; copies.

        A stream of the same method and size continues from them after `restore`.
        """
        numbers = [self.frames, self.evictions, self.largest, self._arrived, self._settled]
        parts = {"numbers": torch.tensor(numbers, dtype=torch.int64)}
        parts["grid"] = torch.tensor(self.grid if self._table else (0, 0), dtype=torch.int64)
        if self._table:
            parts |= {f"table.{name}": values for name, values in self._table.state().items()}
        return parts | {f"own.{name}": values.clone() for name, values in self.own.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the place of the stream that `state` came from; what this one held is gone.

        Raises:
            ArgumentError: parts are missing or do not fit this stream.
        """
        missing = {"numbers", "grid"} - set(state)
        if missing:
            raise ArgumentError(f"state lacks {sorted(missing)[0]!r}: pass what Stream.state() returned")
        if (state["numbers"].shape, state["grid"].shape) != ((5,), (2,)):
            raise ArgumentError("state has counts that are not whole: pass what Stream.state() returned")
        grid = tuple(map(int, state["grid"].tolist()))
        table = {key[6:]: value for key, value in state.items() if key.startswith("table.")}
        self._table, numbers = None, list(map(int, state["numbers"].tolist()))
        with own_modes():
            if table:
                if (
                    not {"features", "frame", "place"} <= set(table)
                    or len({len(v) for v in table.values()}) > 1
                ):
                    raise ArgumentError(
                        "state has a table that is not whole: pass what Stream.state() returned"
                    )
                capacity = self.size.capacity(grid[0] * grid[1])
                if len(table["frame"]) > capacity or (
                    self.size.grid is not None and tuple(self.size.grid) != grid
                ):
                    raise ArgumentError(
                        f"state has {len(table['frame'])} tokens of frames of {grid[0]} x {grid[1]}: it comes from a "
                        f"stream of another size, this one holds {capacity}"
                    )
                _check_table(table, numbers, grid)
                self._open(table["features"], (grid[0], grid[1]))
                self.table.restore(table)
            self.frames, self.evictions, self.largest, self._arrived, self._settled = numbers
            self.own = {key[4:]: value.clone() for key, value in state.items() if key.startswith("own.")}

    def _open(self, like: Tensor, grid: tuple[int, int]) -> None:
        self.grid = grid
        # A frame's room beyond: the frame that does not fit is written there before others give way.
        self._table = TokenTable(self.size.capacity(self.frame_size) + self.frame_size, like)

    def _check(self, features: Tensor) -> None:
        if not isinstance(features, Tensor) or features.ndim != 3 or not features.is_floating_point():
            raise ArgumentError(
                f"features={shown(features)}: must be a floating-point tensor (frames, tokens, channels)"
            )
        size = features.shape[1]
        if self._table is None:
            grid = self.size.grid or (1, size)
            if grid[0] * grid[1] != size or features[0:0].numel() + size * features.shape[2] == 0:
                raise ArgumentError(
                    f"features={shown(features)}: must have {grid[0] * grid[1]} tokens a frame, as grid={grid}, and "
                    "at least one channel"
                )
            self._open(features, (int(grid[0]), int(grid[1])))
        like = self.table["features"]
        if (size, features.shape[2]) != (self.frame_size, like.shape[1]) or (
            (features.dtype, features.device) != (like.dtype, like.device)
        ):
            raise ArgumentError(
                f"features={shown(features)}: must go on as the first frames of the stream, of {self.frame_size} "
                f"tokens x {like.shape[1]} channels, {like.dtype} on {like.device}"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.frames} frames seen, {self.held} tokens held, {self.size})"


def _check_table(table: Mapping[str, Tensor], numbers: Sequence[int], grid: Sequence[int]) -> None:
    """Refuse a table whose tokens are not in order, not of the frames that were seen, or lack frames after an eviction.

    Raises:
        ArgumentError: naming what does not fit.
    """
    frames, evictions, _, arrived, settled = numbers
    features, frame, place = (table[name] for name in ("features", "frame", "place"))
    if (
        min(grid) < 1
        or not 0 <= settled <= arrived <= frames <= MOST_FRAMES
        or (evictions < 1) > (arrived < 1)
    ):
        raise ArgumentError(
            f"state has counts {list(numbers)} of frames of {tuple(grid)} that no stream has: pass what Stream.state() "
            "returned"
        )
    kinds = (features.is_floating_point(), frame.dtype == place.dtype == torch.int64, features.ndim == 2)
    if not all(kinds) or any(values.ndim != 1 for name, values in table.items() if name != "features"):
        raise ArgumentError("state has a table of other types or shapes: pass what Stream.state() returned")
    size = grid[0] * grid[1]
    position = frame * size + place
    ordered = (position.diff() > 0).all() & (place >= 0).all() & (place < size).all()
    if not bool(ordered & (frame >= 0).all() & (frame < frames).all()):
        raise ArgumentError(
            "state has tokens out of order or beyond its frames: pass what Stream.state() returned"
        )
    if int((frame >= settled).sum()) != (frames - settled) * size:
        raise ArgumentError("state lacks tokens of its newest frames: pass what Stream.state() returned")


@lru_cache(maxsize=2)
@outside_caller_modes
def frames_layout(frames: int, grid: tuple[int, int]) -> Layout:
    """Return the layout of a clip of `frames` frames of `grid` = (rows, cols) tokens, without separators."""
    rows, cols = grid
    number = torch.arange(frames * rows * cols)
    cell = number % (rows * cols)
    return Layout(
        modality="video",
        views=(View("frame", rows, cols),) * frames,
        view=number // (rows * cols),
        row=cell // cols,
        col=cell % cols,
        line=torch.zeros_like(number),
        separator=torch.zeros_like(number, dtype=torch.bool),
        grid=grid,
        canvas=None,
        sizes=(rows * cols,) * frames,
        num_separators=0,
        num_lines=0,
        source=number,
        full_length=len(number),
    )


@contextmanager
def own_modes() -> Iterator[None]:
    """Context of a stream's arithmetic: the caller's autocast, inference mode and gradients are off.

    A stream outlives the block that it was filled in: it is written again outside, and compares tokens across blocks.
    """
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            modes.enter_context(torch.autocast(device, enabled=False))
        yield


def whole_clip(name: str, instead: str = "evs, globalcom2 or census") -> NoReturn:
    """Refuse a stream.

    Raises:
        UnsupportedInputError: naming the method, or its option, and what to use.
    """
    raise UnsupportedInputError(
        f"method {name} needs the whole clip before it can choose, so it has no stream; use {instead}"
    )

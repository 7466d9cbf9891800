"""Positions of kept tokens in models whose positions have axes: they travel beside the features, as further columns.

The engine asks for the positions of a prompt before anything is encoded, when it is not known which tokens are kept. It
gets those of text, and one base for all tokens of an item. What each kept token adds to the base goes with its
features, as digits, and is added before the language model runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

DIGIT = 256
"""Whole numbers up to it are exact in bfloat16."""
DIGITS = 3
AXES = 3
COLUMNS = AXES * DIGITS


class ItemPositions(NamedTuple):
    """Positions of one item without compression, counted from its first placeholder.

    Attributes:
        positions: (3, L) int64 of its placeholders, text between its frames included.
        visual: (L,) bool, which of them are visual tokens.
        ids: L token ids.
    """

    positions: Tensor
    visual: Tensor
    ids: tuple[int, ...]

    @property
    def extent(self) -> int:
        """By how much the positions of a prompt advance over the item."""
        return int(self.positions.max()) + 1


def to_columns(positions: Tensor, dtype: torch.dtype) -> Tensor:
    """Write positions (3, n) as digits: (n, 9) of `dtype`."""
    place = torch.tensor([DIGIT**power for power in range(DIGITS)], device=positions.device)
    return ((positions.T[:, :, None] // place) % DIGIT).flatten(1).to(dtype)


def from_columns(columns: Tensor) -> Tensor:
    """Read what `to_columns` wrote: (3, n) int64."""
    place = torch.tensor([DIGIT**power for power in range(DIGITS)], device=columns.device)
    positions: Tensor = (columns.to(torch.int64).unflatten(1, (AXES, DIGITS)) * place).sum(-1).T
    return positions


def prompt_positions(length: int, items: Sequence[tuple[int, int, int]]) -> tuple[Tensor, int]:
    """Return the positions of a prompt in which all tokens of an item stand at its base.

    Args:
        length: tokens of the prompt.
        items: for each item the place of its first token, the number of its tokens, and its extent.

    Returns:
        (3, length) int64, and by how much the position of a later token differs from its place.
    """
    steps = np.ones(length + 1, dtype=np.int64)
    steps[0] = 0
    for start, count, extent in items:
        steps[start + 1 : start + count] = 0
        steps[start + count] = extent
    places = steps.cumsum()
    delta = int(places[-1]) - length
    return torch.from_numpy(np.broadcast_to(places[:-1], (AXES, length)).copy()), delta


class Offsets:
    """Offsets of the tokens of a step, between the embedding of its tokens and its run.

    Args:
        size: most tokens of a step.
        device: of the model.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._held = torch.zeros(AXES, size, dtype=torch.int64, device=device)

    def _room(self, count: int) -> Tensor:
        missing = count - self._held.shape[1]
        if missing > 0:
            self._held = torch.nn.functional.pad(self._held, (0, missing))
        return self._held[:, :count]

    def put(self, columns: Tensor, mask: Tensor) -> None:
        """Hold the positions of columns (n, 9) at the n places that a mask (token,) marks; others are 0."""
        mask = mask.to(columns.device)
        place = (mask.cumsum(0) - 1).clamp(min=0)  # without asking the device where the mask is set
        values = from_columns(columns)[:, place]
        self._room(mask.shape[0]).copy_(torch.where(mask, values, 0))

    def add_to(self, positions: Tensor) -> Tensor:
        """Return positions (3, token) with the offsets added, and forget these."""
        held = self._room(positions.shape[-1])
        moved = positions + held
        held.zero_()
        return moved


def image_positions(rows: int, cols: int, ids: Sequence[int]) -> ItemPositions:
    """Return the positions of a picture of (rows, cols) tokens."""
    return clip_positions(1, rows, cols, ids, float)


def clip_positions(
    frames: int, rows: int, cols: int, ids: Sequence[int], time_of: Callable[[int], float]
) -> ItemPositions:
    """Return the positions of a clip in one run, whose frames stand at `time_of` their number, rounded down."""
    grid = np.indices((frames, rows, cols)).reshape(AXES, -1)
    grid[0] = [int(time_of(int(frame))) for frame in grid[0]]
    return ItemPositions(torch.from_numpy(grid), torch.ones(grid.shape[1], dtype=torch.bool), tuple(ids))


def timed_clip_positions(rows: int, cols: int, ids: Sequence[int], video: int) -> ItemPositions:
    """Return the positions of a clip with text before and behind each frame; a frame's tokens have the id `video`."""
    visual = np.array(ids) == video
    block, parts, place, at = np.indices((1, rows, cols)).reshape(AXES, -1), [], 0, 0
    while at < len(ids):
        if visual[at]:
            parts.append(block + place)
            place, at = place + max(rows, cols), at + rows * cols
        else:
            parts.append(np.full((AXES, 1), place))
            place, at = place + 1, at + 1
    return ItemPositions(torch.from_numpy(np.concatenate(parts, 1)), torch.from_numpy(visual), tuple(ids))

"""Farthest points: max-min diversity for all groups at once, in memory that is linear in the number of tokens.

A small matrix of all distances is held: then a round is a few small kernels. Where it is larger, an accelerator
computes one row per round and is never asked. A CPU would read all features for each such row. So there several
tokens are chosen in one pass, exactly, among those that are farthest. Their rows are one matrix product into one block,
and the number chosen is read once per pass, which makes nothing wait. Products have rows enough to round as those of
the whole matrix do (float32 with MKL), so that both ways choose the same tokens.
"""

from __future__ import annotations

from math import isqrt, prod
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import threshold

from vidcompress.core.reductions import DEVICE_BLOCK, NOISE
from vidcompress.ops.diversity import Cosines, TokenGroups

Start = Literal["farthest_neighbour", "farthest_pair"]
HELD_BYTES = 64 << 20  # of distances held at once on a CPU: of all pairs, or a block of them
FEWEST, MOST = 16, 256  # rows of a product: fewer may round in another way, more gain nothing


def farthest_points(groups: TokenGroups, rounds: int, start: Start = "farthest_neighbour") -> Tensor:
    """Choose tokens by max-min diversity: the next token has the largest cosine distance to its nearest chosen one.

    Ties go to the earlier position. Tokens without a direction come last.

    Args:
        groups: the tokens.
        rounds: number of tokens to choose from each group, at most L.
        start: the first token: the one whose nearest neighbour is farthest (`farthest_neighbour`), or one of the two
            tokens that are farthest apart (`farthest_pair`).

    Returns:
        (G, rounds) int64, columns of `groups.index` in the order chosen; undefined beyond a group's size.
    """
    if rounds == 0:
        return groups.index[:, :0]
    unit, live = groups.unit.detach(), groups.live  # products into a block have no gradient
    last = torch.where(groups.inside, -1.0, -torch.inf).to(unit.dtype)
    nearest = start == "farthest_neighbour"
    if _asked(unit) and unit.shape[0] * unit.shape[1] ** 2 > _held(unit):
        passes = Passes(unit, live)
        score = passes.neighbours(last) if nearest else torch.where(live, _reach(unit, live, False), last)
        return _in_passes(passes, score.argmax(1, keepdim=True), torch.where(live, torch.inf, last), rounds)
    distances = Cosines(unit, _distance, _held(unit))
    whole = distances.matrix
    reach = _reach(unit, live, nearest) if whole is None else _reach_of(whole, live, nearest)
    score, far, order = torch.where(live, reach, last), torch.where(live, torch.inf, last), []
    for _ in range(rounds):
        picked = score.argmax(1, keepdim=True)
        order.append(picked)
        far = torch.minimum(far, distances.row(picked)).scatter_(1, picked, -torch.inf)
        score = far
    return torch.cat(order, 1)


def _in_passes(passes: Passes, first: Tensor, far: Tensor, rounds: int) -> Tensor:
    """Choose `rounds` tokens of each group, several per pass, from the `first` (G, 1) on.

    Args:
        passes: distances.
        first: (G, 1) columns.
        far: (G, L) infinite; the order of tokens without a direction where they are finite.
        rounds: at least 1.
    """
    order, left, most, picks = [first], rounds - 1, FEWEST, first
    while left:
        near = _distance(passes.cosines(picks).amax(2))
        far = torch.minimum(far, near).scatter_(1, picks, -torch.inf)
        picks = passes.farthest(far, min(left, most))
        most = 2 * picks.shape[1]
        order.append(picks)
        left -= picks.shape[1]
    return torch.cat(order, 1)


class Passes:
    """Tokens chosen several at a time, and their distances to all tokens, in buffers that are made once.

    Args:
        unit: (G, L, D) L2-normalised rows.
        live: (G, L) bool, tokens that have a direction.
    """

    def __init__(self, unit: Tensor, live: Tensor) -> None:
        groups, size, width = unit.shape
        self._unit, self._dead, self._flat = unit, ~live, unit.reshape(groups * size, width)
        self._offset = torch.arange(groups, device=unit.device)[:, None] * size
        self._most = max(FEWEST, min(MOST, _held(unit) // (groups * size)))
        # Distances among so many candidates take as long as the smallest product.
        self._candidates = min(size, isqrt(FEWEST * size))
        self._mine = unit.new_empty(groups * max(self._candidates, self._most) * width)
        self._block = unit.new_empty(groups * max(self._candidates**2, self._most * size))

    def cosines(self, columns: Tensor) -> Tensor:
        """Return the cosines (G, L, a) of all tokens to those in `columns` (G, a), a at most 256.

        Fewer than 16 tokens are filled up with copies of the first: then a is 16. The next call overwrites them.
        """
        columns = torch.cat((columns, columns[:, :1].expand(-1, max(0, FEWEST - columns.shape[1]))), 1)
        out = _shaped(self._block, *self._unit.shape[:2], columns.shape[1])
        return torch.bmm(self._unit, self._gathered(columns).mT, out=out)

    def farthest(self, far: Tensor, most: int) -> Tensor:
        """Return the next tokens to choose (G, a), columns in order; a is at least 1 and at most `most`.

        They are chosen among the candidates, the tokens that are farthest now. Distances only shrink, so a candidate
        that is still farther than every other token was is the farthest of all. Ties go to the earlier position.

        Args:
            far: (G, L), distance of each token to the nearest chosen one.
            most: at least 1; 256 at most are chosen.
        """
        count = self._candidates
        values, order = far.sort(dim=1, descending=True, stable=True)
        columns = order[:, :count].sort(1).values
        near, mine = far.gather(1, columns), self._gathered(columns)
        among = _distance(torch.bmm(mine, mine.mT, out=_shaped(self._block, len(far), count, count)))
        picked, worth = [], []
        for _ in range(min(most, self._most, count)):
            best, place = near.max(1, keepdim=True)
            picked.append(place)
            worth.append(best)
            row = among.gather(1, place[..., None].expand(-1, -1, count))[:, 0]
            near = torch.minimum(near, row).scatter_(1, place, -torch.inf)
        picks = columns.gather(1, torch.cat(picked, 1))
        beyond = values[:, count : count + 1], order[:, count : count + 1]
        return picks[:, : _true_picks(torch.cat(worth, 1), picks, *beyond)]

    def neighbours(self, last: Tensor) -> Tensor:
        """Return the distances (G, L) of tokens to their nearest neighbours: the largest is right, some are `last`.

        The nearest of some tokens is no nearer than the nearest of all. So a token that is compared with some needs
        not be compared with all, once another token's nearest neighbour is farther than the nearest of those some.

        Args:
            last: (G, L), below 0.
        """
        bound, score, most = torch.where(self._dead, last, 2.0), last.clone(), FEWEST
        while True:
            picks = self.farthest(bound, most)
            most = 2 * picks.shape[1]
            cosines = self.cosines(picks)[..., : picks.shape[1]].masked_fill_(self._dead[..., None], -1.0)
            cosines.scatter_(1, picks[:, None], -1.0)
            mine = torch.where(self._dead.gather(1, picks), last.gather(1, picks), _distance(cosines.amax(1)))
            score.scatter_(1, picks, mine)
            # Tokens without a direction are picked when no other is left, whose bound could matter.
            bound = torch.minimum(bound, _distance(cosines.amax(2))).scatter_(1, picks, -torch.inf)
            (most_left, place), (best, at) = bound.max(1), score.max(1)
            if bool(((most_left < best) | ((most_left == best) & (place > at)) | (most_left < 0)).all()):
                return score

    def _gathered(self, columns: Tensor) -> Tensor:
        """Return the rows (G, a, D) of the tokens `columns` (G, a)."""
        index = (columns + self._offset).flatten()
        out = _shaped(self._mine, len(index), self._flat.shape[1])
        return torch.index_select(self._flat, 0, index, out=out).view(*columns.shape, -1)


def _true_picks(worth: Tensor, picks: Tensor, other: Tensor, place: Tensor) -> int:
    """Return how many picks come before every token that was no candidate, in all groups; at least 1.

    Args:
        worth: (G, a), distance of each pick to the nearest one chosen before it.
        picks: (G, a) columns.
        other: (G, 1), largest distance of the tokens that were no candidates; (G, 0) where all were.
        place: (G, 1), column of the first of those.
    """
    before = (worth > other) | ((worth == other) & (picks < place)) if other.shape[1] else worth == worth
    return int(before.all(0).cumprod(0).sum())


def _asked(values: Tensor) -> bool:
    """Whether numbers may be read: on a CPU nothing is waited for."""
    return values.device.type == "cpu"


def _held(unit: Tensor) -> int:
    """Return how many distances are held at most: 64 MiB of them on a CPU, as many as fill an accelerator there."""
    return (HELD_BYTES if unit.device.type == "cpu" else DEVICE_BLOCK) // unit.itemsize


def _shaped(buffer: Tensor, *shape: int) -> Tensor:
    """Return the first numbers of a buffer in this shape."""
    return buffer[: prod(shape)].view(shape)


def _distance(cosine: Tensor) -> Tensor:
    """Return 1 - cosine, in place; rounding errors become zero, so that copies of a token tie."""
    return threshold(cosine.neg_().add_(1), NOISE, 0.0, inplace=True)


def _reach_of(matrix: Tensor, live: Tensor, nearest: bool) -> Tensor:
    """Return the distance (G, L) of each token to its nearest neighbour, or to the token farthest from it.

    Distances (G, L, L) to the token itself and to tokens without a direction are overwritten; no round reads them.
    """
    nothing = 2.0 if nearest else 0.0
    matrix.masked_fill_(~live[:, None], nothing).diagonal(0, 1, 2).fill_(nothing)
    return matrix.amin(2) if nearest else matrix.amax(2)


def _reach(unit: Tensor, live: Tensor, nearest: bool) -> Tensor:
    """Return the same from unit rows (G, L, D), in blocks: each pair of tokens is computed once."""
    groups, size = unit.shape[:2]
    nothing, dead = -1.0 if nearest else 1.0, ~live
    reach = unit.new_full((groups, size), nothing)
    step = max(1, min(size, _held(unit) // (groups * size)))
    if _asked(unit):
        step = max(FEWEST, min(step, MOST))
    block = unit.new_empty(groups * step * size)
    for begin in range(0, size, step):
        these, others = slice(begin, begin + step), slice(begin, size)
        mine = unit[:, these]
        out = _shaped(block, groups, size - begin, mine.shape[1])
        part = torch.bmm(unit[:, others], mine.mT, out=out)
        part.masked_fill_(dead[:, others, None], nothing).diagonal(0, 1, 2).fill_(nothing)
        extremes = [part.amax(1) if nearest else part.amin(1)]
        part.masked_fill_(dead[:, None, these], nothing)
        extremes.append(part.amax(2) if nearest else part.amin(2))
        for rows, value in zip((reach[:, these], reach[:, others]), extremes, strict=True):
            torch.maximum(rows, value, out=rows) if nearest else torch.minimum(rows, value, out=rows)
    return _distance(reach)

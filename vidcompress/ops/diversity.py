"""Diverse subsets: tokens chosen one after another, for all groups at once, without device synchronisation.

The number of the chosen token stays a tensor, so the kernels of a round are queued and not waited for. G groups take as
many rounds as the largest. Cosines are one matrix product where the matrix fits into memory, else one row per round.
Products run in the precision that the caller has set for matrix products (full by default).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold

from vidcompress.core.layout import Layout
from vidcompress.core.reductions import EPSILON, NOISE, rows_per_block, working_dtype

Start = Literal["farthest_neighbour", "farthest_pair"]
MATRIX_ELEMENTS = 1 << 28  # most cosines held at once, 1 GiB of float32
LEAST_BLOCK, MOST_BLOCKS = 256, 16  # least rows of a block and most blocks; large blocks are fast


@dataclass(frozen=True, eq=False)
class TokenGroups:
    """Groups of tokens side by side; tokens are chosen from each group independently.

    Attributes:
        index: (G, L) int64, positions of each group, ascending, padded with N.
        inside: (G, L) bool, False in the padding.
        unit: (G, L, D) L2-normalised features, float32 or better; zero for tokens that are not live.
        live: (G, L) bool, tokens that have a direction: not padding, not zero, all values finite.
    """

    index: Tensor
    inside: Tensor
    unit: Tensor
    live: Tensor


def unit_rows(values: Tensor) -> Tensor:
    """Divide rows by their L2 norm, float32 or better; rows that are zero or not finite become zero."""
    values = values.to(working_dtype(values))
    norm, usable = _norms(values)
    return torch.where(usable, values / norm, 0.0)


def _norms(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the L2 norms (..., 1) of rows, and whether each row has a direction: not zero, and finite."""
    norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return norm, norm.isfinite() & (norm > EPSILON)


def groups_of(features: Tensor, layout: Layout, *, whole: bool) -> TokenGroups:
    """Make each view a group, or with `whole` all views one group; separators are left out."""
    index = layout.token_index[None] if whole else layout.table
    return grouped(features, index)


def grouped(features: Tensor, index: Tensor) -> TokenGroups:
    """Make groups of the given positions (G, L), padded with N."""
    inside = index < features.shape[0]
    # Indexing copies; the copy is normalised in place.
    unit = features[torch.where(inside, index, 0)].to(working_dtype(features))
    norm, usable = _norms(unit)
    live = usable & inside[..., None]
    unit.div_(torch.where(live, norm, torch.inf)).masked_fill_(~live, 0.0)
    return TokenGroups(index, inside, unit, live[..., 0])


class Cosines:
    """Cosines within each group, with an optional transform.

    Args:
        unit: (G, L, D) L2-normalised rows.
        transform: elementwise function of cosines of any shape; may write in place.
    """

    def __init__(self, unit: Tensor, transform: Callable[[Tensor], Tensor] = lambda cosine: cosine) -> None:
        self._unit, self._transform = unit, transform
        self._matrix: Tensor | None = None
        if unit.shape[0] * unit.shape[1] ** 2 <= MATRIX_ELEMENTS:
            self._matrix = _products(unit, transform)

    def parts(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of the first row and the values (G, l, L) of l rows of every group, in order."""
        groups, size = self._unit.shape[:2]
        step = size if self._matrix is not None else rows_per_block(self._unit, groups * size)
        for start in range(0, size, max(1, step)):
            rows = slice(start, start + max(1, step))
            if self._matrix is not None:
                yield start, self._matrix[:, rows]
            else:
                yield start, self._transform(torch.bmm(self._unit[:, rows], self._unit.mT))

    def row(self, picked: Tensor) -> Tensor:
        """Return the values (G, L) of the token `picked` (G, 1) of each group with all tokens of its group."""
        if self._matrix is not None:
            return self._matrix.gather(1, picked[..., None].expand(-1, -1, self._matrix.shape[2]))[:, 0]
        mine = self._unit.gather(1, picked[..., None].expand(-1, -1, self._unit.shape[2]))
        return self._transform(torch.bmm(self._unit, mine.mT)[..., 0])


def _products(unit: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the transformed products (G, L, L) of all pairs of rows (G, L, D); about half of them are computed.

    The product of the two halves is mirrored, and each half is split in the same way: few products, and large ones.
    """
    size = unit.shape[1]
    least = max(LEAST_BLOCK, -(-size // MOST_BLOCKS))
    if size <= least:
        return transform(torch.bmm(unit, unit.mT))
    matrix = unit.new_empty(unit.shape[0], size, size)
    spans = [(0, size)]
    while spans:
        start, stop = spans.pop()
        middle = (start + stop) // 2 if stop - start > least else stop
        mine, other = unit[:, start:middle], unit[:, middle:stop]
        if middle == stop:
            matrix[:, start:stop, start:stop] = transform(torch.bmm(mine, mine.mT))
            continue
        part = transform(torch.bmm(mine, other.mT))
        matrix[:, start:middle, middle:stop] = part
        matrix[:, middle:stop, start:middle] = part.mT
        spans += [(start, middle), (middle, stop)]
    return matrix


def chosen(groups: TokenGroups, order: Tensor, counts: Tensor, total: int) -> Tensor:
    """Return the positions of the first `counts` (G,) picks of each group, ascending; `total` is the counts' sum."""
    taken = torch.arange(order.shape[1], device=order.device) < counts[:, None]
    columns = torch.where(taken, order, groups.index.shape[1])
    mask = torch.zeros_like(groups.inside[:, :1]).expand(-1, groups.index.shape[1] + 1)
    mask = mask.scatter(1, columns, True)[:, :-1]
    return torch.where(mask, groups.index, torch.iinfo(torch.int64).max).flatten().sort().values[:total]


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
    distances, live = Cosines(groups.unit, _distance), groups.live
    last = torch.where(groups.inside, -1.0, -torch.inf).to(groups.unit.dtype)
    score = torch.where(live, _start_scores(distances, live, start), last)
    far = torch.where(live, torch.inf, last)
    order = []
    for _ in range(rounds):
        picked = score.argmax(1, keepdim=True)
        order.append(picked)
        far = torch.minimum(far, distances.row(picked)).scatter_(1, picked, -torch.inf)
        score = far
    return torch.cat(order, 1) if order else groups.index[:, :0]


def _distance(cosine: Tensor) -> Tensor:
    """Return 1 - cosine, in place; rounding errors become zero, so that copies of a token tie."""
    return threshold(cosine.neg_().add_(1), NOISE, 0.0, inplace=True)


def _start_scores(distances: Cosines, live: Tensor, start: Start) -> Tensor:
    """Return the distance (G, L) of each token to its nearest neighbour, or to the token farthest from it.

    Distances to the token itself and to tokens without a direction are overwritten; no later round reads them.
    """
    nearest = start == "farthest_neighbour"
    nothing, dead, scores = 2.0 if nearest else 0.0, ~live[:, None], []
    for begin, part in distances.parts():
        part.masked_fill_(dead, nothing)
        part.diagonal(begin, 1, 2).fill_(nothing)
        scores.append(part.amin(2) if nearest else part.amax(2))
    return torch.cat(scores, 1) if scores else live.to(torch.float32)


class Picks(NamedTuple):
    """Tokens that `most_volume` chose from each group.

    Attributes:
        order: (G, rounds) int64, columns of `groups.index`.
        gain: (G, rounds) conditional variance of each token at its pick; zero once no volume is left.
    """

    order: Tensor
    gain: Tensor


def most_volume(groups: TokenGroups, weight: Tensor, otherwise: Tensor, rounds: int) -> Picks:
    """Choose tokens greedily: maximum a posteriori of a determinantal point process, kernel w_i cos(x_i, x_j) w_j.

    The next token has the largest variance given the chosen ones, by a growing Cholesky factor (Chen, Zhang and Zhou,
    2018). Tokens that add no volume (copies, and tokens beyond the rank) come last, sorted by `otherwise`. Ties go to
    the earlier position.

    Args:
        groups: the tokens.
        weight: (G, L), non-negative.
        otherwise: (G, L), sorting key of tokens that add no volume; large values come first.
        rounds: number of tokens to choose from each group, at most L.
    """
    cosines = Cosines(groups.unit)
    variance = torch.where(groups.live, weight.square(), 0.0)
    floor = NOISE * variance
    # Below every variance; tokens without a direction below those with one.
    rest = torch.sigmoid(otherwise) - torch.where(groups.live, 2.0, 3.0)
    rest = torch.where(groups.inside, rest, -torch.inf).to(variance.dtype)
    factor = variance.new_zeros(variance.shape[0], rounds, variance.shape[1])
    order, gains = [], []
    for t in range(rounds):
        picked = torch.where(variance > floor, variance, rest).argmax(1, keepdim=True)
        gain = variance.gather(1, picked)
        useful = gain > floor.gather(1, picked)
        row = cosines.row(picked) * weight * weight.gather(1, picked)
        if t:
            before = factor[:, :t].gather(2, picked[:, None].expand(-1, t, -1))
            row = row - torch.bmm(before.mT, factor[:, :t])[:, 0]
        row = torch.where(useful, row / gain.clamp(min=1e-30).sqrt(), 0.0)
        factor[:, t] = row
        variance = (variance - row.square()).scatter_(1, picked, -torch.inf)
        rest = rest.scatter(1, picked, -torch.inf)
        order.append(picked)
        gains.append(torch.where(useful, gain, 0.0))
    empty = groups.index[:, :0]
    return Picks(torch.cat(order or [empty], 1), torch.cat(gains or [variance[:, :0]], 1))

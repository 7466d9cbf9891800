"""Diverse subsets: tokens chosen one after another, for all groups at once, without device synchronisation.

The number of the chosen token stays a tensor, so the kernels of a round are queued and not waited for. G groups take as
many rounds as the largest. Cosines are one matrix product where the matrix fits into memory, else one row per round.
Products run in the precision that the caller has set for matrix products (full by default). Max-min diversity, where a
group is a whole clip, is in `farthest`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vidcompress.core.layout import Layout
from vidcompress.core.reductions import EPSILON, NOISE, working_dtype

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
        most: elements of the largest matrix that is held, 2^28 if None.

    Attributes:
        matrix: (G, L, L) values of all pairs, or None where they are more than `most`.
    """

    def __init__(
        self,
        unit: Tensor,
        transform: Callable[[Tensor], Tensor] = lambda cosine: cosine,
        most: int | None = None,
    ) -> None:
        self._unit, self._transform = unit, transform
        fits = unit.shape[0] * unit.shape[1] ** 2 <= (MATRIX_ELEMENTS if most is None else most)
        self.matrix = _products(unit, transform) if fits else None

    def row(self, picked: Tensor) -> Tensor:
        """Return the values (G, L) of the token `picked` (G, 1) of each group with all tokens of its group."""
        if self.matrix is not None:
            return self.matrix.gather(1, picked[..., None].expand(-1, -1, self.matrix.shape[2]))[:, 0]
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

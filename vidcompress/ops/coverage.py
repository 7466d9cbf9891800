"""Coverage: tokens such that every token has a near one among them, chosen without device synchronisation.

Tokens are points: a direction, a place and, in clips, a time. Coordinates are rounded to multiples of one power of two
that is coarse enough for every sum of products to be exact, whatever the order in which a device adds. So copies of a
token tie, and the choice is the same alone, in a batch and padded. The error of the rounding is 3e-3 of a unit vector
of 128 numbers, far below that of the random projection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import threshold

from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.reductions import NOISE, rows_per_block, working_dtype
from vidcompress.ops.diversity import unit_rows

ONE_BY_ONE = 512
"""Largest number of tokens that are chosen one after another."""
ROUNDS, PART = 48, 24
"""Rounds that choose more tokens than that, and the part of the tokens that one round chooses at most. Of features of
every kind tried, rounds without a limit came to 28 to 49."""
FAR = 1e6  # beyond all distances
ROUNDED_NORM = 1.2
"""Largest squared norm of a rounded direction."""
SEED = 0


def grid_step(place: float, time: float, dtype: torch.dtype) -> float:
    """Return the power of two to whose multiples coordinates are rounded, so that distances are exact.

    A squared distance and all partial sums of its products are below 4 (1.2 + 2 place + time).

    Args:
        place: factor of squared distances of places. time: of times.
        dtype: of the coordinates.
    """
    largest = 4 * (ROUNDED_NORM + 2 * place + time)
    digits = 53 if dtype == torch.float64 else 24
    return 2.0 ** -((digits - math.ceil(math.log2(largest))) // 2)


def rounded(values: Tensor, step: float) -> Tensor:
    """Round to multiples of `step`, a power of two."""
    return (values / step).round_().mul_(step)


@lru_cache(maxsize=8)
@outside_caller_modes
def random_signs(dim: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the random projection (dim, width) of entries -1 and 1, the same on all devices."""
    generator = torch.Generator("cpu").manual_seed(SEED)
    signs = torch.randint(0, 2, (dim, width), generator=generator, device="cpu").mul_(2).sub_(1)
    return signs.to(dtype).to(device)


def directions(features: Tensor, index: Tensor, width: int) -> Tensor:
    """Return the unit vectors of tokens, projected where they have more than `width` numbers.

    Features are read once, block by block.

    Args:
        features: (N, D) in any float dtype.
        index: (n,) int64, positions of the tokens.
        width: largest number of numbers of a direction.

    Returns:
        (n, min(D, width)) in float32 or better; zero where a token is zero or not finite.
    """
    dtype, dim = working_dtype(features), features.shape[1]
    signs = random_signs(dim, width, features.device, dtype) if dim > width else None
    step, parts = rows_per_block(features, dim), []
    whole = len(index) == len(features)
    for place in index.split(step) if not whole else features.split(step):
        x = (place if whole else features.index_select(0, place)).to(dtype)
        parts.append(x if signs is None else x @ signs)
    return unit_rows(torch.cat(parts))


@dataclass(frozen=True, eq=False)
class Cloud:
    """Tokens of B visuals as points, padded to L; at least the last of the L of every visual is padding.

    Attributes:
        points: (B, L, C) rounded coordinates.
        weight: (B, L) factor of a token's distance, above 0.
        live: (B, L) bool, tokens that have a direction.
        inside: (B, L) bool, False in the padding.
        first: (B,) int64, the token to begin with.
    """

    points: Tensor
    weight: Tensor
    live: Tensor
    inside: Tensor
    first: Tensor


def covering(cloud: Cloud, counts: Sequence[int], gamma: float) -> Tensor:
    """Choose the tokens of largest w d, with d the squared distance to the nearest token chosen before.

    Up to 512 tokens are chosen one after another, more of them in 48 rounds. In a round every chosen token proposes the
    farthest of the tokens nearest to it; a proposal is accepted if its w d is at least gamma times the round's largest,
    also after all better proposals of the round. What is missing after the last round is filled up by w d. Ties go to
    the earlier token, tokens without a direction come last.

    Args:
        cloud: the tokens of B visuals.
        counts: B ints, tokens to choose of each; all at most 512, or all above.
        gamma: as above.

    Returns:
        (B, L) bool, the chosen tokens: of each visual the same as alone.
    """
    norm = cloud.points.square().sum(-1, keepdim=True)
    # Their product is the squared distance: |x|^2 + |y|^2 - 2 x.y.
    left = torch.cat((cloud.points, norm, torch.ones_like(norm)), -1)
    right = torch.cat((cloud.points * -2, torch.ones_like(norm), norm), -1)
    choose = _one_by_one if max(counts) <= ONE_BY_ONE else _in_rounds
    limit = torch.tensor(counts, device=norm.device)[:, None]
    chosen, worth = choose(cloud, left, right, limit, max(counts), gamma)
    worth = torch.where(cloud.live, worth, torch.where(cloud.inside, -1.0, -torch.inf))
    order = torch.where(chosen, torch.inf, worth).argsort(dim=1, descending=True, stable=True)
    number = torch.arange(order.shape[1], device=order.device)
    return torch.zeros_like(chosen).scatter_(1, order, number < limit)


def _one_by_one(
    cloud: Cloud, left: Tensor, right: Tensor, limit: Tensor, most: int, _: float
) -> tuple[Tensor, Tensor]:
    """Return the chosen tokens (B, L) bool, and w d of all others."""
    weight, picked = cloud.weight[..., None], cloud.first[:, None, None]
    near = torch.where(cloud.live, torch.inf, -torch.inf).to(left.dtype)[..., None]
    worth, order = torch.zeros_like(near), [picked]
    for _round in range(most - 1):
        row = right.gather(1, picked.expand(-1, -1, right.shape[2]))
        far = threshold(torch.bmm(left, row.mT), NOISE, 0.0, inplace=True)
        near = torch.minimum(near, far, out=far).scatter_(1, picked, -torch.inf)
        worth = near * weight
        picked = worth.argmax(1, keepdim=True)
        order.append(picked)
    columns = torch.cat(order, 1)[..., 0]
    # A visual that wants fewer than the largest of the batch ends earlier; its last column is padding.
    columns = torch.where(torch.arange(most, device=columns.device) < limit, columns, left.shape[1] - 1)
    chosen = torch.zeros_like(cloud.live).scatter_(1, columns, True)
    return chosen & cloud.inside, worth[..., 0]


def _in_rounds(
    cloud: Cloud, left: Tensor, right: Tensor, limit: Tensor, most: int, gamma: float
) -> tuple[Tensor, Tensor]:
    """As `_one_by_one`, many tokens per round; the number of tokens chosen so far stays on the device."""
    size, first = left.shape[1], cloud.first[:, None]
    number = torch.arange(size, device=left.device).expand(len(left), -1)
    near = torch.where(cloud.live, torch.inf, -torch.inf).to(left.dtype)
    heir = torch.zeros_like(number)  # the chosen token that each token is nearest to, in the order of choice
    count, none = torch.ones_like(first), torch.full_like(first, most)
    update = (near, heir, left)
    _nearer(*update, _rows(right, first), torch.zeros_like(first))
    near.scatter_(1, first, -torch.inf)
    widest = -(-most // PART)
    for turn in range(ROUNDS):
        value, place = _proposals(near * cloud.weight, heir, number, most)
        # Every round at most doubles the number of chosen tokens, and of proposals.
        value, place = value[:, : min(widest, 1 << turn)], place[:, : min(widest, 1 << turn)]
        rows = _rows(right, place)
        apart = torch.bmm(_rows(left, place), rows.mT)
        apart = threshold(apart, NOISE, 0.0, inplace=True)
        better = torch.ones_like(apart[0], dtype=torch.bool).tril(-1)
        left_over = apart.masked_fill_(~better, torch.inf).amin(2) * cloud.weight.gather(1, place)
        left_over = torch.minimum(left_over, value)
        rank = number[:, : place.shape[1]]
        accepted = (left_over > 0) & (left_over >= gamma * value[:, :1]) & (rank < -(-limit // PART))
        slot = count + accepted.cumsum(1) - 1
        accepted &= slot < limit
        count = count + accepted.sum(1, keepdim=True)
        rows[..., -1].masked_fill_(~accepted, FAR)
        _nearer(*update, rows, torch.where(accepted, slot, none))
        near.scatter_(1, place, torch.where(accepted, -torch.inf, near.gather(1, place)))
    chosen = (near == -torch.inf) & cloud.live
    chosen.scatter_(1, first, True)
    return chosen, near * cloud.weight


def _rows(values: Tensor, place: Tensor) -> Tensor:
    """Return the rows (B, p, C) at columns (B, p) of values (B, L, C)."""
    return values.gather(1, place[..., None].expand(-1, -1, values.shape[2]))


def _nearer(near: Tensor, heir: Tensor, left: Tensor, rows: Tensor, slot: Tensor) -> None:
    """Lower the distances (B, L) to the nearest chosen token, in place, by those to more tokens.

    Args:
        near: distances so far. heir: number of the nearest chosen token.
        left: (B, L, C), rows: (B, p, C), factors of the distances.
        slot: (B, p) int64, numbers of the new tokens.
    """
    step = rows_per_block(left, len(left) * rows.shape[1])
    for start in range(0, left.shape[1], step):
        part = slice(start, start + step)
        far, which = torch.bmm(left[:, part], rows.mT).min(2)
        far = threshold(far, NOISE, 0.0, inplace=True)
        closer = far < near[:, part]
        heir[:, part] = torch.where(closer, slot.gather(1, which), heir[:, part])
        near[:, part] = torch.where(closer, far, near[:, part])


def _proposals(worth: Tensor, heir: Tensor, number: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return w d and columns (B, most + 1) of the farthest token of each chosen one, the farthest first.

    Of equal tokens the earlier is proposed, and comes first. Where there is none, w d is minus infinity.
    """
    cells = worth.new_full((len(worth), most + 1), -torch.inf)
    best = cells.scatter_reduce(1, heir, worth, "amax").gather(1, heir)
    last = worth.shape[1] - 1  # padding
    column = torch.where(worth == best, number, last)
    place = torch.full_like(cells, last, dtype=torch.int64).scatter_reduce_(1, heir, column, "amin")
    place = place.sort(1).values
    value, order = worth.gather(1, place).sort(dim=1, descending=True, stable=True)
    return value, place.gather(1, order)


def heirs(unit: Tensor, kept: Tensor) -> Tensor:
    """Return for each token the kept token of nearest direction, as a number from 0 to K - 1.

    Ties go to the earlier kept token. A kept token is its own; one without a direction has the first kept token.

    Args:
        unit: (n, d) rounded unit vectors, zero where there is no direction.
        kept: (K,) int64, kept tokens, ascending, at least one.
    """
    theirs = unit.index_select(0, kept)
    half, parts = theirs.square().sum(1) / 2, []  # rounded vectors are not quite of one length
    for x in unit.split(rows_per_block(unit, len(kept))):
        nearest = (x @ theirs.mT).sub_(half).argmax(1)
        parts.append(torch.where(x.any(1), nearest, 0))
    number = torch.arange(len(kept), device=kept.device)
    return torch.cat(parts).index_copy_(0, kept, number)


def masses(heir: Tensor, count: int, own: Tensor | None = None) -> Tensor:
    """Return (K,) float32: the number of tokens that each of `count` kept tokens stands for, itself included.

    Args:
        heir: (n,) int64, the kept token that each token counts for.
        count: K.
        own: (n,) int64, number of tokens that each token stands for already; None for one.
    """
    total = torch.zeros(count, dtype=torch.int64, device=heir.device)
    return total.scatter_add_(0, heir, torch.ones_like(heir) if own is None else own).to(torch.float32)


def dropped_by_heir(heir: Tensor, kept: Tensor) -> Tensor:
    """Return the dropped tokens (n - K,) int64, those of one heir together, each group in order."""
    groups = heir.index_fill(0, kept, len(kept))
    return groups.argsort(stable=True)[: len(heir) - len(kept)]


def multiplications(tokens: int, chosen: int, width: int) -> int:
    """Number of multiplications of `covering` and of the masses of its tokens.

    Args:
        tokens: number of tokens. chosen: number of chosen ones.
        width: numbers of a direction.
    """
    rows = chosen - 1
    if chosen > ONE_BY_ONE:
        rows = sum(min(-(-chosen // PART), 1 << turn) for turn in range(ROUNDS))
    return tokens * (max(0, rows) * (width + 5) + chosen * width)

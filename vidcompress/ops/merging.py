"""Token merging: sums over groups and over cosine neighbours, for many views at once.

Views stand side by side, (V, L, ...), padded to the length of the longest. Groups are summed by products with weight
matrices, which give the same bits on every run; atomic adds on an accelerator do not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vidcompress.core.reductions import EPSILON, working_dtype


def side_by_side(values: Tensor, table: Tensor) -> Tensor:
    """Return values (N, C) at positions (V, L): (V, L, C), float32 or better; positions >= N give an arbitrary row."""
    return values[table.clamp(max=values.shape[0] - 1)].to(working_dtype(values))


def columns_of(mask: Tensor, count: int) -> Tensor:
    """Return the columns (V, count) int64 of the first true entries of each row of a (V, L) mask, padded with L."""
    width = mask.shape[1]
    columns = torch.where(mask, torch.arange(width, device=mask.device), width)
    return columns.sort(1).values[:, :count]


def finite(x: Tensor) -> Tensor:
    """Replace NaN and infinities by zeros, so that a broken token spoils no token that absorbs it."""
    return torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)


def cosines(rows: Tensor, others: Tensor) -> Tensor:
    """Return cosines of rows (V, K, C) and others (V, L, C): (V, K, L); 0 for a zero vector, -2 for a broken one."""
    units = [x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=EPSILON) for x in (rows, others)]
    return torch.nan_to_num(matmul(units[0], units[1].mT), nan=-2.0, posinf=-2.0, neginf=-2.0)


def nearest(similarity: Tensor, allowed: Tensor, count: int) -> Tensor:
    """Return (V, K, L) bool: the `count` allowed entries of largest similarity in each row; ties go to the earlier.

    Args:
        similarity: (V, K, L), finite.
        allowed: (V, K, L) bool; a row with fewer allowed entries takes all of them.
        count: entries per row, 1 to L.
    """
    values = similarity.masked_fill(~allowed, -torch.inf)
    last = values.topk(count, dim=-1).values[..., -1:]
    above, equal = values > last, (values == last) & allowed
    return above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True)))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply batches of matrices in the operands' precision, also inside an autocast block."""
    with torch.autocast(a.device.type, enabled=False):
        return torch.bmm(a, b)


def rows_at(x: Tensor, column: Tensor) -> Tensor:
    """Return rows of x (V, L, C) at columns (V, K): (V, K, C); column L gives an arbitrary row."""
    column = column.clamp(max=x.shape[1] - 1)
    return x.gather(1, column[:, :, None].expand(-1, -1, x.shape[-1]))


def nearest_centre(keys: Tensor, centre: Tensor) -> Tensor:
    """Return the number (V, L) int64 of the centre (V, C) of largest cosine for each row of keys (V, L, M).

    Ties go to the first centre.
    """
    missing = centre == keys.shape[1]
    return cosines(keys, rows_at(keys, centre)).masked_fill(missing[:, None], -torch.inf).argmax(-1)


def merge_groups(x: Tensor, group: Tensor, member: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Add the mean of each group's members to its centre.

    Args:
        x: (V, L, C).
        group: (V, L) int64, the number of each member's group.
        member: (V, L) bool, tokens that are merged; centres are not members.
        centre: (V, G) int64, columns of the centres, L where there is none.

    Returns:
        The merged centres (V, G, C) and their numbers of members (V, G).
    """
    slots = torch.arange(centre.shape[1], device=x.device)
    weight = ((group[:, None] == slots[:, None]) & member[:, None]).to(x.dtype)
    size, own, total = weight.sum(-1, keepdim=True), rows_at(x, centre), matmul(weight, finite(x))
    return own + total / size.clamp(min=1), size[..., 0]


class Absorbed(NamedTuple):
    """Tokens of V views that absorbed others, at most K kept ones of each view, and the sum of its pruned tokens.

    Attributes:
        features: (V, K + 1, C), kept tokens, then the sum.
        mass: (V, K + 1), the number of tokens that each stands for.
        heirless: (V, L) bool, pruned tokens that none of them absorbed.
    """

    features: Tensor
    mass: Tensor
    heirless: Tensor


def merge_neighbours(
    x: Tensor,
    keys: Tensor,
    weight: Tensor,
    kept: Tensor,
    size: Tensor,
    extra: Tensor,
    *,
    most: int,
    neighbours: int,
) -> Absorbed:
    """Add to each kept token the weighted sum of its neighbours, and sum the pruned tokens.

    A token enters each sum with the same weight, so its mass is split evenly among those that it enters. A kept token
    counts for itself alone, and the last pruned token for the sum alone, which is sent in its place.

    Args:
        x: (V, L, C) tokens, the kept ones first.
        keys: (V, L, M) keys; their cosine ranks all other tokens of the view as neighbours.
        weight: (V, L), the weights a_j.
        kept, size: (V,) int64, numbers of kept tokens and of all tokens of each view.
        extra: (V,) bool, whether the sum of the pruned tokens is sent, and so has a part of their mass.
        most: upper bound of `kept`.
        neighbours: number of neighbours that each kept token absorbs.

    Returns:
        x_i + sum a_j x_j for kept tokens; last the sum of a_j x_j over the pruned tokens. The masses of a view and its
        heirless tokens sum to its `size`.
    """
    slot = torch.arange(x.shape[1], device=x.device)
    inside, pruned = slot < size[:, None], slot >= kept[:, None]
    weight, clean = torch.where(inside, finite(weight), 0.0).to(x.dtype), finite(x)
    sums = matmul(torch.where(pruned, weight, 0.0)[:, None], clean)
    own, count = x[:, :most], min(neighbours, x.shape[1])
    replaced = extra[:, None] & (slot == size[:, None] - 1)
    real, lost = (slot[:most] < kept[:, None]).to(x.dtype), (pruned & inside & ~replaced).to(x.dtype)
    entered, mass = extra[:, None].to(x.dtype).expand_as(lost), real
    if count:
        allowed = inside[:, None] & (slot != slot[:most, None])
        near = nearest(cosines(keys[:, :most], keys), allowed, count)
        own = own + matmul(torch.where(near, weight[:, None], 0.0), clean)
        entries = near.to(x.dtype)
        entered = entered + matmul(real[:, None], entries)[:, 0]
        mass = real * (1 + matmul(entries, (lost / entered.clamp(min=1))[..., None])[..., 0])
    rest = extra[:, None] * (1 + (lost / entered.clamp(min=1)).sum(1, keepdim=True))
    return Absorbed(torch.cat((own, sums), 1), torch.cat((mass, rest), 1), (lost > 0) & (entered == 0))

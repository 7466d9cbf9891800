"""Density-peak clusters of many groups of tokens at once, a number of clusters for each group.

Groups stand side by side, (G, L, D), padded; they are worked on in blocks, and only what is sent is held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidcompress.core.reductions import rows_per_block, working_dtype
from vidcompress.ops.density_peaks import scores_of_distances, squared_distances
from vidcompress.ops.merging import matmul


@dataclass(frozen=True, eq=False)
class GroupClusters:
    """Clusters of all groups.

    Attributes:
        centre: (G, L) bool, the centres.
        features: (K, D) float32 or better, the merged tokens, group after group by column; rows behind the last are 0.
        size: (K,) int64, tokens of each cluster, the centre included, or the sum of their masses.
    """

    centre: Tensor
    features: Tensor
    size: Tensor


def cluster_groups(
    x_of: Callable[[slice], Tensor],
    free: Tensor,
    counts: Tensor,
    total: int,
    like: Tensor,
    *,
    neighbours: int,
    beta: float | None = None,
    fewer: bool = False,
    mass: Tensor | None = None,
) -> GroupClusters:
    """Cluster the tokens of each group around its density peaks; every token joins the nearest centre.

    A cluster becomes the mean of its tokens, or with beta its centre times beta plus 1 - beta times the mean of the
    others. A cluster of one token stays bit-equal.

    Args:
        x_of: returns the tokens (v, L, D) of a slice of the groups, finite.
        free: (G, L) bool, tokens of each group.
        counts: (G,) int64, clusters of each group, at most its tokens.
        total: K, at least the sum of counts.
        like: (N, D) features, for dtype, device and width.
        neighbours: k nearest tokens of the density, the token itself included.
        beta: weight of the centre, 0 to 1; None for the mean.
        fewer: whether a group of fewer clusters than k has the number of its clusters for k.
        mass: (G, L), the number of tokens that each token stands for; None for one each.
    """
    groups, length = free.shape
    column = torch.arange(length, device=free.device)
    features = torch.zeros((total + 1, like.shape[1]), dtype=working_dtype(like), device=free.device)
    sizes = torch.zeros(total + 1, dtype=torch.int64, device=free.device)
    marks, begun = [], counts.cumsum(0) - counts
    for start in range(0, groups, step := rows_per_block(like, length * (like.shape[1] + 3 * length))):
        rows = slice(start, start + step)
        x, inside = x_of(rows), free[rows]
        squared = squared_distances(x, inside)
        each = counts[rows].clamp(1, neighbours) if fewer else None
        scores = scores_of_distances(squared, inside, neighbours, each)
        order = torch.argsort(scores, dim=1, descending=True, stable=True)
        centre = torch.zeros_like(inside).scatter(1, order, column < counts[rows, None]) & inside
        nearest = squared.masked_fill(~centre[:, None], torch.inf).argmin(-1)
        owner = torch.where(centre, column, nearest)
        member = ((owner[:, None] == column[:, None]) & inside[:, None] & centre[:, :, None]).to(x.dtype)
        size = member.sum(-1)
        sums = matmul(member, x)
        if beta is None:
            merged = sums / size.clamp(min=1)[..., None]
        else:
            merged = beta * x + (1 - beta) * (sums - x) / (size - 1).clamp(min=1)[..., None]
        merged = torch.where((size > 1)[..., None], merged, x)
        # Centres are numbered through; what is no centre goes into the row behind the last.
        slot = torch.where(centre, begun[rows, None] + centre.cumsum(1) - 1, total).flatten()
        features.index_copy_(0, slot, merged.flatten(0, 1))
        if mass is not None:
            size = (member * mass[rows, None]).sum(-1)
        sizes.index_copy_(0, slot, size.flatten().to(torch.int64))
        marks.append(centre)
    return GroupClusters(torch.cat(marks), features[:-1], sizes[:-1])

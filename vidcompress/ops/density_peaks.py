"""Density peaks, tokens with many near neighbours and no denser token close by, and merging into them.

Clustering by density peaks (Rodriguez and Laio, 2014; k nearest neighbours as in Du, Ding and Jia, 2016), in
the form of FastVID (arXiv 2503.11187). All frames are computed at once, without device synchronisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidcompress.core.layout import Layout, _first
from vidcompress.core.reductions import NOISE, rows_per_block, working_dtype
from vidcompress.ops.diversity import unit_rows


@dataclass(frozen=True, eq=False)
class Merged:
    """Merged tokens.

    Attributes:
        index: (A,) int64, positions of the peaks, ascending.
        features: (A, D) merged features of the peaks, float32 or better.
        mass: (A,), the number of tokens that each peak stands for, in the dtype of `features`.
        heirless: (N,) bool, tokens that joined no peak.
    """

    index: Tensor
    features: Tensor
    mass: Tensor
    heirless: Tensor


def density_scores(features: Tensor, layout: Layout, taken: Tensor, neighbours: int) -> Tensor:
    """Return density times distance to the nearest denser token (N,), in each view and among tokens not taken.

    With d = |x_i - x_j| / sqrt(D): density = exp(-mean of d^2 over the k nearest, itself included). The densest token
    has the largest distance within its view; of equally dense tokens the earlier counts as denser.

    Args:
        features: (N, D).
        layout: layout of the views, which are scored separately.
        taken: (S,) int64, positions that are left out; their scores are minus infinity.
        neighbours: k, at least 1; less where a view has fewer tokens.
    """
    table, parts = layout.table, []
    free = torch.ones(len(layout) + 1, dtype=torch.bool, device=table.device)
    free[taken], free[-1] = False, False
    width = table.shape[1]
    for index in torch.split(
        table, rows_per_block(features, max(1, width * (features.shape[1] + 2 * width)))
    ):
        x = features[index.clamp(max=len(layout) - 1)].to(working_dtype(features))
        parts.append(peak_scores(torch.nan_to_num(x), free[index], neighbours))
    out = features.new_full((len(layout) + 1,), -torch.inf, dtype=working_dtype(features))
    out[table] = torch.cat(parts)
    return out[:-1]


def peak_scores(x: Tensor, free: Tensor, neighbours: int, each: Tensor | None = None) -> Tensor:
    """Return density times distance (v, L) of the free (v, L) tokens among x (v, L, D), as in `density_scores`.

    Args:
        x, free: as above.
        neighbours: k, at least 1.
        each: (v,) int64, a smaller k of each row, at least 1; None where all rows have k.
    """
    return scores_of_distances(squared_distances(x, free), free, neighbours, each)


def squared_distances(x: Tensor, free: Tensor) -> Tensor:
    """Return |x_i - x_j|^2 / D of all pairs (v, L, L) of x (v, L, D), which is centred on the free (v, L) tokens."""
    x = x - (x * free[..., None]).sum(1, keepdim=True) / free.sum(1).clamp(min=1)[:, None, None]
    square = x.square().sum(-1)
    product = torch.bmm(x, x.mT)
    # A matrix product need not be symmetric to the last bit; two tokens that are each other's nearest must tie.
    squared = square[:, :, None] + square[:, None] - (product + product.mT)
    noise = NOISE * (square[:, :, None] + square[:, None])  # distances of copies are rounding errors
    return torch.where(squared > noise, squared, 0.0) / x.shape[-1]


def scores_of_distances(squared: Tensor, free: Tensor, neighbours: int, each: Tensor | None = None) -> Tensor:
    """Return `peak_scores` from squared distances (v, L, L)."""
    both = free[:, :, None] & free[:, None]
    k = min(neighbours, squared.shape[1])
    near = torch.where(both, squared, torch.inf).topk(k, dim=-1, largest=False).values
    finite = near.isfinite()
    if each is not None:
        finite &= torch.arange(k, device=near.device) < each[:, None, None]
    mean = torch.where(finite, near, 0.0).sum(-1) / finite.sum(-1).clamp(min=1)
    density = torch.exp(-mean)
    distance = torch.where(both, squared, 0.0).sqrt()
    largest = distance.amax((1, 2))[:, None]
    order = torch.arange(squared.shape[1], device=squared.device)
    denser = (density[:, None] > density[:, :, None]) | (
        (density[:, None] == density[:, :, None]) & (order < order[:, None])
    )
    nearest = torch.where(denser & both, distance, largest[..., None]).amin(-1)
    return torch.where(free, torch.nan_to_num(density * nearest), -torch.inf)


def merge_into(
    features: Tensor, layout: Layout, taken: Tensor, peaks: Tensor, segment: Tensor, beta: float
) -> Merged:
    """Merge the tokens of each segment into the peaks of the segment that are most like them.

    Every token of the segment that is not taken, peaks included, joins one peak of each view that has peaks. A peak x
    becomes w x + (1 - w) mean of the tokens that joined it, with w = max(1 / (joined + 1), beta). A token's mass is
    split evenly among the peaks that it joined; a peak counts for itself alone.

    Args:
        features: (N, D).
        layout: layout of a video.
        taken: (S,) int64, positions that are kept unchanged.
        peaks: (A,) int64, positions of the peaks, ascending.
        segment: (T,) int64, the segment of each frame.
        beta: least weight of the peak, 0 to 1.
    """
    own = features[peaks].to(working_dtype(features))
    rest = torch.ones(len(layout), dtype=torch.bool, device=peaks.device)
    rest[taken] = False
    heirless = rest & ~layout.separator
    rest = _first(heirless, layout.num_tokens - taken.shape[0])
    heirless, mass = heirless.scatter(0, peaks, False), own.new_ones(peaks.shape[0])
    if peaks.shape[0] == 0 or rest.shape[0] == peaks.shape[0]:
        return Merged(peaks, own, mass, heirless)
    directions, frame = unit_rows(own), layout.view[peaks]
    sums, joined = torch.zeros_like(own), own.new_zeros(peaks.shape[0])
    parts = torch.split(rest, rows_per_block(features, peaks.shape[0] + features.shape[1]))
    for index, near in zip(parts, _within_reach(parts, layout.view, segment, segment[frame]), strict=True):
        x = torch.nan_to_num(features[index].to(own.dtype))
        joins = _joins(unit_rows(x) @ directions[near].T, frame[near], len(layout.views))
        joins &= segment[layout.view[index]][:, None] == segment[frame[near]]
        weights = joins.to(own.dtype)
        sums[near] += weights.T @ x
        joined[near] += weights.sum(0)
        entered, hands = weights.sum(1), heirless[index]
        mass[near] += weights.T @ (hands / entered.clamp(min=1))
        heirless[index] = hands & (entered == 0)
    weight = (1 / (joined + 1)).clamp(min=beta)[:, None]
    mean = sums / joined.clamp(min=1)[:, None]
    return Merged(peaks, weight * own + (1 - weight) * mean, mass, heirless)


def _within_reach(parts: Sequence[Tensor], view: Tensor, segment: Tensor, of_peak: Tensor) -> list[slice]:
    """Return the slice of the peaks in the segments of each part of the tokens.

    On an accelerator each slice holds all peaks, because smaller ones would need a device synchronisation.

    Args:
        parts: positions of tokens, ascending.
        view: (N,) int64, the view of each position.
        segment: (T,) int64, the segment of each frame, ascending.
        of_peak: (A,) int64, the segment of each peak, ascending.
    """
    if view.device.type != "cpu":
        return [slice(None)] * len(parts)
    ends = segment[view[torch.stack([part[[0, -1]] for part in parts], 1)]]
    first = torch.searchsorted(of_peak, ends[0]).tolist()
    last = torch.searchsorted(of_peak, ends[1], right=True).tolist()
    return [slice(low, high) for low, high in zip(first, last, strict=True)]


def _joins(alike: Tensor, frame: Tensor, frames: int) -> Tensor:
    """Return (M, A) bool: the best peak of each frame for every row of cosines (M, A), the first of equal ones."""
    where = frame.expand_as(alike)
    best = alike.new_full((alike.shape[0], frames), -torch.inf).scatter_reduce(1, where, alike, "amax")
    number = torch.arange(alike.shape[1], device=alike.device)
    candidate = torch.where(alike == best.gather(1, where), number, alike.shape[1])
    first = number.new_full((alike.shape[0], frames), alike.shape[1]).scatter_reduce(
        1, where, candidate, "amin"
    )
    return candidate == first.gather(1, where)

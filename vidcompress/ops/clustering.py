"""Density-peak clustering with k nearest neighbours: cluster centres and cluster means."""

from __future__ import annotations

import torch
from torch import Tensor

from vidcompress.ops.density_peaks import peak_scores


def density_peaks(tokens: Tensor, clusters: int, neighbours: int) -> tuple[Tensor, Tensor]:
    """Cluster by density peaks: centres are dense and far from any denser token (Rodriguez and Laio, 2014).

    Args:
        tokens: (r, D) float32.
        clusters: number c of clusters, 1 <= c <= r.
        neighbours: k of the density exp(-mean squared distance to the k nearest, itself included), 1 <= k <= r.

    Returns:
        (c,) int64 centres, best first, and (r,) int64, the number of each token's cluster. Ties go to the earlier
        token; the authors add noise.
    """
    free = torch.ones((1, len(tokens)), dtype=torch.bool, device=tokens.device)
    scores = peak_scores(tokens[None], free, neighbours)[0]
    centres = scores.argsort(descending=True, stable=True)[:clusters]
    cluster = torch.cdist(tokens, tokens[centres]).argmin(dim=1)
    cluster = cluster.scatter(0, centres, torch.arange(clusters, device=tokens.device))
    return centres, cluster


def cluster_means(tokens: Tensor, cluster: Tensor, clusters: int) -> Tensor:
    """Return the mean of each cluster: (r, D), (r,) -> (c, D). A matrix product gives the same bits on every run."""
    member = (cluster[None] == torch.arange(clusters, device=tokens.device)[:, None]).to(tokens.dtype)
    return member @ tokens / member.sum(dim=1, keepdim=True)

"""Centres: tokens that lie farther apart than a radius, so that every other token is within it of one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from vidcompress.core.reductions import NOISE

BLOCK = 256  # tokens that are looked at together


def apart(
    points: Tensor, order: Tensor, live: Tensor, radius: float, most: int
) -> tuple[Tensor, Tensor, bool]:
    """Choose tokens in order, each farther than the radius from all chosen before it.

    A block of tokens is compared with those chosen before, and within itself; what is chosen is read from the device
    once a block or a little more often.

    Args:
        points: (n, C), coordinates.
        order: (n,) int64, the tokens in the order in which they are looked at.
        live: (n,) bool, tokens that may be chosen.
        radius: squared distance; below 1e-6 distances count as 0.
        most: largest number of tokens; then it stops.

    Returns:
        The chosen tokens (n,) bool, the squared distance (n,) of each token to the nearest of them, and whether these
        are all; where not, the distances are those so far.
    """
    norm = points.square().sum(1)
    near = torch.full_like(norm, torch.inf)
    chosen, count = torch.zeros_like(live), 0
    for block in order.split(BLOCK):
        free = live[block] & (near[block] > radius)
        x = points[block]
        close = (_distances(x, norm[block], x, norm[block]) <= radius).tril(-1)
        pick = free
        # A token stays if no earlier one that stays is close: after i rounds the first i are right.
        while not torch.equal(pick, (better := free & ~(close & pick).any(1))):
            pick = better
        more = block[pick]
        if count + len(more) > most:
            chosen[more[: most - count]] = True
            return chosen, near, False
        count += len(more)
        chosen[more] = True
        if len(more):
            near = torch.minimum(near, _distances(points, norm, points[more], norm[more]).amin(1))
    return chosen, near, True


def _distances(x: Tensor, x_norm: Tensor, y: Tensor, y_norm: Tensor) -> Tensor:
    """Squared distances (n, m) of points (n, C) to points (m, C), at least 0; noise is 0."""
    far = (x @ y.mT).mul_(-2).add_(x_norm[:, None]).add_(y_norm)
    return far.masked_fill_(far < NOISE, 0.0)

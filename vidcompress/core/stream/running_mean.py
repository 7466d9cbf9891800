"""Stream of a score that is linear in the clip's mean: exact sums per frame, and a proof where nothing was lost.

With x^ the unit tokens of a frame of n tokens, D their sum, and m the unit mean of all tokens seen:

    importance  S = -D.m                               exact in one pass, for every frame, whatever was dropped
    score       h = alpha c + (1 - alpha) nu l^        c = -x^.m;  l^ = l / |l|, l = -x^.D / |D|, final when it comes
    norm        nu^2 = sum of c^2 = S^2 / n + V        V = sum of (c - mean c)^2, taken while the frame is whole

h / nu is the score of `token_scores`, and ranks a frame's tokens alike. When m moves by delta, c moves by at most
delta, and sqrt(V) by at most rho delta, where rho^2 = n - |D|^2 / n. So nu lies between two bounds, a dropped token's h
below a third, and a frame whose kept tokens stay above it, at both bounds of nu, was chosen as on the whole clip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vidcompress.core.layout import _first
from vidcompress.core.reductions import EPSILON, products, products_with, working_dtype
from vidcompress.core.stream.shared import SharedStream, certain
from vidcompress.core.stream.stream import Chosen, Select, StreamSize

MARGIN = 1e-6
"""What rounding may change of a cosine."""
LARGEST = ("dropped", "base", "local_most", "local_least", "since")
"""Columns that are maxima: the bound of dropped tokens, the nu it is stated at, the largest l^, minus the least, and
minus the path of m until V was taken."""


class Norms(NamedTuple):
    """Norms nu (F,) of the frames of each row: the estimate, and two bounds."""

    best: Tensor
    low: Tensor
    high: Tensor


class RunningMeanStream(SharedStream):
    """As `SharedStream`, by distance to the mean of all frames seen and to that of the own frame.

    Args:
        select: of the method.
        size: limits of the stream.
        weigh: from the importance S (F,) float64 of frames and the ratio kept to the share of each frame (F,).
        sharpness: most that the logarithm of a frame's part rises by per unit of S; 0 where S has no say.
        alpha: weight of the mean of the clip, 0 to 1.
        coverage: as in `SharedStream`.
    """

    def __init__(
        self,
        select: Select,
        size: StreamSize,
        weigh: Callable[[Tensor, float], Tensor],
        sharpness: float,
        alpha: float,
        coverage: float = 0.0,
    ) -> None:
        super().__init__(select, size, coverage, LARGEST)
        self.weigh, self.sharpness, self.alpha = weigh, sharpness, alpha
        self.own["path"] = torch.zeros(1, dtype=torch.float64)

    # --- what is final when a frame comes

    def _arrive(self, features: Tensor, row: int) -> None:
        dtype = working_dtype(features)
        x = features.to(dtype)
        norm = torch.linalg.vector_norm(x, dim=-1)
        inverse = torch.where(norm.isfinite(), 1 / norm.clamp(min=EPSILON), 0.0)
        x = torch.nan_to_num(x * inverse[..., None], nan=0.0, posinf=0.0, neginf=0.0)
        sums = x.sum(1)
        local = -products(x, sums) / torch.linalg.vector_norm(sums, dim=-1, keepdim=True).clamp(min=EPSILON)
        local = local / torch.linalg.vector_norm(local.double(), dim=1, keepdim=True).clamp(min=EPSILON)
        local = local.to(dtype)
        spread = (x.square().sum((1, 2)) - sums.square().sum(1) / x.shape[1]).clamp(min=0).double()
        self.table.write(row, local=local.flatten(), inverse=inverse.flatten())
        at = 0
        while at < len(x):
            if self.rows.full:
                self._rebase()
            part = slice(at, at + self.rows.room(len(x) - at))
            zeros = spread.new_zeros(len(spread[part]))
            self.rows.add(
                {
                    "sum": sums[part],
                    "spread": spread[part],
                    "variance": zeros,
                    "base": zeros,
                    "dropped": zeros - torch.inf,
                    "local_most": local[part].amax(1).double(),
                    "local_least": -local[part].amin(1).double(),
                    "since": zeros - torch.inf,
                }
            )
            at = part.stop
        self.own["total"] = sums.sum(0, dtype=torch.float64) + self.own.get("total", 0)

    def _rebase(self) -> None:
        """State the bound of dropped tokens at the norm that two neighbours have together, before they are joined."""
        base = self.rows["base"]
        pairs = base.view(-1, 2).amax(1, keepdim=True).expand(-1, 2).flatten()
        self.rows["dropped"].add_(self._local_slack(pairs - base))

    def _local_slack(self, change: Tensor) -> Tensor:
        """Most that (1 - alpha) nu l^ of a token of each row rises by when nu changes: (F,)."""
        most = torch.maximum(change * self.rows["local_most"], -change * self.rows["local_least"])
        return (1 - self.alpha) * most.nan_to_num(0.0)

    # --- what depends on the mean

    def _direction(self) -> Tensor:
        total = self.own["total"]
        direction: Tensor = total / torch.linalg.vector_norm(total).clamp(min=EPSILON)
        return direction

    def _cosines(self) -> Tensor:
        """Return c (K,) of the tokens held."""
        features = self.table["features"]
        row = self._direction().to(working_dtype(features))
        c = -products_with(features, row) * self.table["inverse"]
        return torch.nan_to_num(c, nan=0.0)

    def _importance(self) -> Tensor:
        """Return S (F,) float64 of a frame of each row, the mean of its frames."""
        return -products_with(self.rows["sum"], self._direction()) / self._frames()

    def _weights(self, ratio: float) -> Tensor:
        return self._sizes() * self.weigh(self._importance(), ratio)

    def _frames(self) -> Tensor:
        """Return the frames (F,) float64 of each row."""
        return self._sizes().double() / self.frame_size

    def _variance(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return V (k,) and nu (k,), float64, of the frames that wait for theirs: the last, whole in the table."""
        waiting = self._arrived - self._settled
        c = c[len(c) - waiting * self.frame_size :].view(waiting, self.frame_size).double()
        return (c - c.mean(1, keepdim=True)).square().sum(1), torch.linalg.vector_norm(c, dim=1)

    def _waiting_rows(self) -> Tensor:
        frames = torch.arange(self._settled, self._arrived, device=self.table["frame"].device)
        return frames >> self.rows.shift

    def _norms(self, c: Tensor, shift: float) -> Norms:
        """Return the norms of each row, when m has moved by `shift` since the last eviction."""
        fresh = self._variance(c)[0]
        settled = self.rows["variance"]
        added = torch.zeros_like(settled).index_add_(0, self._waiting_rows(), fresh)
        frames, moved = self._frames(), (self.path + shift + self.rows["since"]).clamp(min=0.0)
        reach = self.rows["spread"].clamp(min=0).sqrt() * moved
        middle = self._importance().square() / self.frame_size

        def norm(root: Tensor) -> Tensor:
            return (middle + (root.square() + added) / frames).sqrt()

        root = settled.clamp(min=0).sqrt()
        return Norms(norm(root), norm((root - reach).clamp(min=0)), norm(root + reach))

    def _mixed(self, c: Tensor, norms: Tensor) -> Tensor:
        """Return h (K,) float64 of the tokens held, with norms (F,) of their rows."""
        local = self.table["local"].double()
        h = self.alpha * c.double() + (1 - self.alpha) * norms[self._row()] * local
        return torch.where(self.table["inverse"] > 0, h, -torch.inf)  # broken tokens come last

    def _scores(self) -> Tensor:
        c = self._cosines()
        return self._mixed(c, self._norms(c, self._shift()).best)

    def _shift(self) -> float:
        """Return how far m has moved since the last eviction."""
        return float((self._direction() - self.own["mean"]).norm()) if "mean" in self.own else 0.0

    @property
    def path(self) -> float:
        """Length of the way that m has gone from eviction to eviction."""
        return float(self.own["path"])

    def _drop(self, dropped: Tensor) -> None:
        c, direction = self._cosines(), self._direction()
        self.own["path"] += self._shift()
        self.own["mean"] = direction
        variance, norm = self._variance(c)
        rows = self._waiting_rows()
        base = self.rows["base"].clone()
        for name, value in (("variance", variance), ("base", norm), ("since", norm * 0 - self.path)):
            self.rows.enter(name, rows, value)
        self.rows["dropped"].add_(self._local_slack(self.rows["base"] - base))
        h = self._mixed(c, self.rows["base"]) - self.alpha * self.path
        self.rows.enter("dropped", self._row(), torch.where(dropped, h, -torch.inf))

    def _choose(self, count: int) -> Chosen:
        c, shift, counts = self._cosines(), self._shift(), self._counts(count)
        norms = self._norms(c, shift)
        kept = self._best(self._mixed(c, norms.best), counts.kept)
        proven = self._certain(counts.whole, count) & (counts.kept == counts.whole)
        row, base = self._row(), self.rows["base"]
        for norm in (norms.low, norms.high):
            h = self._mixed(c, norm)
            worst = torch.full_like(norm, torch.inf).scatter_reduce_(
                0, row, torch.where(kept, h, torch.inf), "amin"
            )
            other = torch.full_like(norm, -torch.inf).scatter_reduce_(
                0, row, torch.where(kept, -torch.inf, h), "amax"
            )
            gone = self.rows["dropped"] + self.alpha * (self.path + shift) + self._local_slack(norm - base)
            proven &= worst > torch.maximum(other, gone) + 2 * MARGIN
        return Chosen(_first(kept, count), certified=proven)

    def _certain(self, counts: Tensor, count: int) -> Tensor:
        """Return (F,) bool: the counts that rounding of S cannot have changed."""
        if self.sharpness == 0:
            return torch.ones_like(counts, dtype=torch.bool)
        ratio, sizes = count / self.tokens, self._sizes()
        weights = self._weights(ratio)
        part = (weights / (ratio * sizes) - 1 + 1 / len(sizes)).clamp(min=0.0)
        slack = ratio * sizes * part * (2 * self.sharpness * self.frame_size * MARGIN)
        return certain(counts, weights, slack, count, sizes, self.coverage)

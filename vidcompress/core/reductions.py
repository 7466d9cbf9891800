"""Feature statistics: norms, means per view and products with them, in few passes and bounded memory.

Features are large (64 frames of 196 tokens of 3584 numbers are 180 MB), everything derived from them is small.
So each function reads them once or twice, a cache-sized block of whole views at a time, and never copies them
as a whole. Sums run in float32 (float64 for float64 features) whatever the model's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad

from vidcompress.core.layout import Layout

EPSILON = 1e-12
NOISE = 1e-6  # what rounding leaves of a distance or a variance that is zero
CPU_BLOCK, DEVICE_BLOCK = 4 << 20, 256 << 20  # bytes: within a cache; large enough to fill an accelerator


def working_dtype(values: Tensor) -> torch.dtype:
    """float64 for float64 values, else float32."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def full_precision(values: Tensor) -> AbstractContextManager[None]:
    """Keep matrix products in the precision of their arguments, also inside a caller's autocast block."""
    return torch.autocast(values.device.type, enabled=False)


def rows_per_block(values: Tensor, row_elements: int) -> int:
    """Number of rows of `row_elements` numbers in one block on the device of `values`."""
    size = CPU_BLOCK if values.device.type == "cpu" else DEVICE_BLOCK
    return max(1, size // max(1, row_elements * working_dtype(values).itemsize))


@dataclass(frozen=True, eq=False)
class FeatureBatch:
    """Feature batch: one visual, or as many of one shape as fit in one block together (see `feature_batches`).

    Attributes:
        features: (N, D) of all of them in any float dtype.
        layout: of all N positions.
        run: positions per frame, as `Layout.run` of each visual says. Where it is not None, all have as many frames and
            as many positions; pictures may differ in both.
        visuals: B.
        members: their places in a batch.
    """

    features: Tensor
    layout: Layout
    run: int | None
    visuals: int = 1
    members: tuple[int, ...] = (0,)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield whole views in order as x (v, L, D) with a 0/1 mask (v, L) of what is a token of the view.

        The frames of an ordinary clip are slices of the features; crops, whose rows interleave in the sequence, are
        gathered block by block.
        """
        features, layout, run = self.features, self.layout, self.run
        dtype, views = working_dtype(features), len(layout.views)
        if run is not None:
            frames = slice(views // self.visuals * run)
            body = rearrange(self._side_by_side(features)[:, frames], "b (t l) d -> (b t) l d", l=run)
            real = self._side_by_side(~layout.separator)[:, frames]
            mask = rearrange(real.to(dtype), "b (t l) -> (b t) l", l=run)
            step = views if self.visuals > 1 else rows_per_block(features, run * features.shape[1])
            for x, m in zip(torch.split(body, step), torch.split(mask, step), strict=True):
                yield x.to(dtype), m
            return
        table = layout.table
        step = rows_per_block(features, max(1, table.shape[1]) * features.shape[1])
        for index in torch.split(table, step):
            inside = index < len(layout)
            x = features[torch.where(inside, index, 0)].to(dtype)
            yield x, inside.to(dtype)

    def to_positions(self, values: list[Tensor]) -> Tensor:
        """Put per-block values (v, L), as `blocks` yields them, in sequence order: (N,); zero at separators."""
        table = torch.cat(values)
        if self.run is not None:
            rows = rearrange(table, "(b t) l -> b (t l)", b=self.visuals)
            whole: Tensor = pad(rows, (0, len(self.layout) // self.visuals - rows.shape[1]))
            return whole.flatten()
        out = table.new_zeros(len(self.layout) + 1)
        out[self.layout.table] = table
        out[-1] = 0
        return out[:-1] * ~self.layout.separator

    def by_visual(self, views: Tensor) -> Tensor:
        """Sum (v, D) over the views of each visual: (B, D)."""
        return self._side_by_side(views).sum(1)

    def _side_by_side(self, values: Tensor) -> Tensor:
        """(B * n, ...) as (B, n, ...): what belongs to each visual along an axis of its own."""
        return rearrange(values, "(b n) ... -> b n ...", b=self.visuals)

    def products_with(self, rows: Tensor) -> Tensor:
        """Inner products of all positions with one row per visual (B, D): (N,), in the rows' dtype."""
        if self.visuals == 1:
            return products_with(self.features, rows[0])
        x = self._side_by_side(self.features).to(rows.dtype)
        return products(x, rows).flatten()


def feature_batch(features: Tensor, layout: Layout) -> FeatureBatch:
    """Feature batch of one visual, of any size."""
    return FeatureBatch(features, layout, layout.run)


def per_view(values: Tensor, layout: Layout, start: float = 0.0) -> Tensor:
    """(V, max size): the (N,) values of each view side by side, filled up with `start`.

    A gather and a row-wise reduction give the same bits on every run, which atomic adds on an accelerator do not.
    """
    return torch.cat((values, values.new_full((1,), start)))[layout.table]


def sums_per_view(values: Tensor, layout: Layout) -> Tensor:
    """Sums of (N,) values over each view: (V,) in the dtype of `values`; separators are left out.

    Deterministic on every device, unlike atomic adds.
    """
    return per_view(values, layout).sum(1)


def weighted_sums(weights: Tensor, x: Tensor) -> Tensor:
    """Sum w (v, L) * x (v, L, D) over L: (v, D)."""
    if x.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):  # scores are float32 inside a caller's autocast block too
            return torch.bmm(weights[:, None], x)[:, 0]
    return (weights[:, :, None] * x).sum(1)  # matrix products may run in TF32 there, as the caller has set it


def products(x: Tensor, rows: Tensor) -> Tensor:
    """Inner products of x (v, L, D) with one row per view (v, D): (v, L)."""
    if x.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            # The other way round, x times a column, is many times slower for more than one view.
            return torch.bmm(rows[:, None], x.mT)[:, 0]
    return (x * rows[:, None]).sum(-1)


def products_with(features: Tensor, row: Tensor) -> Tensor:
    """Inner products of features (N, D) with one row (D,): (N,), in the row's dtype."""
    step = rows_per_block(features, features.shape[1])
    parts = [products(x.to(row.dtype)[None], row[None])[0] for x in torch.split(features, step)]
    return torch.cat(parts) if parts else row.new_zeros(0)


def view_sums(features: Tensor, layout: Layout) -> Tensor:
    """(V, D) sums of the L2-normalised tokens of each view; their directions are those of the means."""
    sums = []
    for x, mask in feature_batch(features, layout).blocks():
        sums.append(weighted_sums(mask / torch.linalg.vector_norm(x, dim=-1).clamp(min=EPSILON), x))
    return (
        torch.cat(sums) if sums else features.new_zeros(0, features.shape[1], dtype=working_dtype(features))
    )


def cosines_to_frames(features: Tensor, layout: Layout, partner: Tensor) -> Tensor:
    """Cosine of each token of a video to the token at the same place of another frame.

    Args:
        features: (N, D) in any float dtype.
        layout: of a video of T frames of L tokens.
        partner: (T,) int64, the frame that each frame is compared with.

    Returns:
        (N,) in float32 or better, exactly 1 for copies; zero at separators, NaN where a token or its partner is broken.
    """
    table, parts = layout.table, []
    step = rows_per_block(features, max(1, 2 * table.shape[1] * features.shape[1]))
    for mine, theirs in zip(torch.split(table, step), torch.split(table[partner], step), strict=True):
        x, y = (features[index].to(working_dtype(features)) for index in (mine, theirs))
        norms = torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(y, dim=-1)
        parts.append((x * y).sum(-1) / norms.clamp(min=EPSILON))
    flat = torch.cat(parts) if parts else table.to(working_dtype(features))
    flat = flat.masked_fill(flat > 1 - NOISE, 1.0)
    out = flat.new_zeros(len(layout) + 1)
    out[table] = flat
    return out[:-1]


class Distances(NamedTuple):
    """Minus the cosine of each token to a mean of L2-normalised tokens; separators have no meaning.

    Attributes:
        view: (N,) to the mean of the token's own view.
        whole: (N,) to the mean of the whole input, or None when it was not asked for.
    """

    view: Tensor
    whole: Tensor | None


def distances(features: Tensor, layout: Layout, *, whole: bool = False) -> Distances:
    """Distance of each token to the mean of its view, and to that of the whole input.

    With x^ = x / |x| and m = mean of x^ over the view (or over everything): -x^ . m / |m|, in [-1, 1]. This is
    the score of GlobalCom2 (arXiv 2501.05179, appendix) for encoders without a CLS token.

    Args:
        features: (N, D) in any float dtype.
        layout: says which positions belong to a view; separators enter no mean.
        whole: also compare with the mean of all tokens.
    """
    return batch_distances(feature_batch(features, layout), whole=whole)


def batch_distances(tokens: FeatureBatch, *, whole: bool = False) -> Distances:
    """The `distances` of each of several visuals, one after the other.

    Args:
        tokens: the visuals; clips, where `whole` is asked for.
        whole: also compare with the mean of all tokens of the same visual.
    """
    own, inverse, total = [], [], tokens.features.new_zeros((), dtype=working_dtype(tokens.features))
    for x, mask in tokens.blocks():
        scale = mask / torch.linalg.vector_norm(x, dim=-1).clamp(min=EPSILON)
        sums = weighted_sums(scale, x)  # the direction of the mean is all that a cosine needs
        length = torch.linalg.vector_norm(sums, dim=-1).clamp(min=EPSILON)
        own.append(-products(x, sums) * scale / length[:, None])
        if whole:
            inverse.append(scale)
            total = total + tokens.by_visual(sums)
    view = tokens.to_positions(own)
    if not whole:
        return Distances(view, None)
    direction = total / torch.linalg.vector_norm(total, dim=-1, keepdim=True).clamp(min=EPSILON)
    return Distances(view, -tokens.products_with(direction) * tokens.to_positions(inverse))

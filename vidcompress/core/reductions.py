"""Feature statistics: norms, means per view and products with them, in few passes and bounded memory.

Features are large (64 frames of 196 tokens of 3584 numbers are 180 MB), everything derived from them is small.
So each function reads them once or twice, a cache-sized block of whole views at a time, and never copies them
as a whole; visuals of one shape share a block (`in_groups`). Sums run in float32 (float64 for float64 features)
whatever the model's dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pad

from vidcompress.core.batch import VisualBatch
from vidcompress.core.layout import Layout
from vidcompress.core.selection import rank_within_views
from vidcompress.core.tokens import VisualTokens

EPSILON = 1e-12
NOISE = 1e-6  # what rounding leaves of a distance or a variance that is zero
CPU_BLOCK, DEVICE_BLOCK = 4 << 20, 256 << 20  # bytes: within a cache; large enough to fill an accelerator
LINE = 64
"""Bytes: products of rows that begin elsewhere in a cache line may round differently."""


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


def in_groups(
    batch: VisualBatch,
    measure: Callable[[VisualBatch, tuple[int, ...]], Sequence[Tensor]],
    axes: str,
    *,
    used: float = 1.0,
    whole: bool = False,
) -> tuple[Tensor, ...]:
    """Measure the features of a batch: visuals of one shape together, as many as fit in one block.

    Every view is reduced by itself, over rows of the same length, and values of a whole visual along an axis of
    its own; so on the CPU the bits are those of each visual alone (an accelerator may sum more rows in another order).
    A visual stays alone where shapes do not allow that, and where the copy that lays them side by side would be larger
    than a block (on the CPU than a quarter of one): there reading takes long and launching does not.

    Args:
        batch: the B visuals.
        measure: given a group and the numbers of its visuals in the batch, its tensors, one per axis.
        axes: first axis of each tensor, one visual after the other: "N" positions, "V" views.
        used: share of the D channels of a position that is multiplied.
        whole: whether something is computed of whole visuals: then only those of as many views and positions share a
            group. Clips always do.

    Returns:
        One tensor per axis, in the order of the batch.
    """
    if len(batch.visuals) == 1:
        return tuple(measure(batch, (0,)))
    groups, columns = _groups(batch, used, whole), []
    for members in groups:
        columns.append(measure(VisualBatch([batch.visuals[number] for number in members]), members))
    sizes = {"N": batch.lengths, "V": batch.views}
    return tuple(
        _in_order(groups, values, sizes[axis])
        for axis, values in zip(axes, zip(*columns, strict=True), strict=True)
    )


def _groups(batch: VisualBatch, used: float = 1.0, whole: bool = False) -> list[tuple[int, ...]]:
    """Numbers of visuals that are measured together, ascending within each group."""
    shapes: dict[tuple[Any, ...], list[int]] = {}
    for number, one in enumerate(batch.visuals):
        shapes.setdefault(_shape(one, used, whole) or (number,), []).append(number)
    return [part for members in shapes.values() for part in _filled(batch, members)]


def _shape(one: VisualTokens, used: float, whole: bool) -> tuple[Any, ...] | None:
    """Return the key that visuals in one group share; None for visuals that stay alone."""
    features, layout = one.features, one.layout
    width = features.shape[1]
    rows = (width, max(1, int(width * used)))
    if any(row * working_dtype(features).itemsize % LINE for row in rows) or not layout.views:
        return None
    if layout.modality == "video":
        return (
            None if layout.run is None else (features.dtype, width, layout.run, len(layout.views), len(one))
        )
    size = (len(layout.views), len(one)) if whole else ()
    return (features.dtype, width, layout.table.shape[1], *size)


def _filled(batch: VisualBatch, members: list[int]) -> list[tuple[int, ...]]:
    """Cut a list of visuals of one shape where a block is full."""
    parts: list[list[int]] = []
    room = 0
    for number in members:
        one = batch.visuals[number]
        rows = max(len(one), one.layout.table.numel())
        if rows > room:
            parts.append([])
            # On the CPU their copy must fit in the cache as well.
            room = rows_per_block(one.features, one.features.shape[1])
            room //= 4 if one.features.device.type == "cpu" else 1
        parts[-1].append(number)
        room -= rows
    return [tuple(part) for part in parts]


def _in_order(groups: Sequence[tuple[int, ...]], values: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Return numbers measured in groups in the order of the batch; `lengths` has their count for each visual."""
    if len(values) == 1:
        return values[0]
    parts: dict[int, Tensor] = {}
    for members, value in zip(groups, values, strict=True):
        parts |= dict(zip(members, value.split([lengths[number] for number in members]), strict=True))
    return torch.cat([parts[number] for number in range(len(lengths))])


def blocks(group: VisualBatch) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield whole views of a group in order as x (v, L, D) with a 0/1 mask (v, L) of the view's tokens.

    The frames of an ordinary clip are slices of the features; crops, whose rows interleave in the sequence, are
    gathered block by block.

    Args:
        group: from `in_groups`, or any visual alone.
    """
    layout, run, features = group.layout, group.visuals[0].layout.run, group.features
    dtype, views = working_dtype(features), len(layout.views)
    if run is not None:
        frames = slice(views // len(group.visuals) * run)
        body = rearrange(_side_by_side(group, features)[:, frames], "b (t l) d -> (b t) l d", l=run)
        real = _side_by_side(group, ~layout.separator)[:, frames]
        mask = rearrange(real.to(dtype), "b (t l) -> (b t) l", l=run)
        step = views if len(group.visuals) > 1 else rows_per_block(features, run * features.shape[1])
        for x, m in zip(torch.split(body, step), torch.split(mask, step), strict=True):
            yield x.to(dtype), m
        return
    table = layout.table
    step = rows_per_block(features, max(1, table.shape[1]) * features.shape[1])
    for index in torch.split(table, step):
        inside = index < features.shape[0]
        x = features[torch.where(inside, index, 0)].to(dtype)
        yield x, inside.to(dtype)


def to_positions(group: VisualBatch, values: list[Tensor]) -> Tensor:
    """Put per-block values (v, L), as `blocks` yields them, in sequence order: (N,); zero at separators."""
    table, layout = torch.cat(values), group.layout
    if group.visuals[0].layout.run is not None:
        rows = rearrange(table, "(b t) l -> b (t l)", b=len(group.visuals))
        every: Tensor = pad(rows, (0, group.lengths[0] - rows.shape[1]))
        return every.flatten()
    out = table.new_zeros(sum(group.lengths) + 1)
    out[layout.table] = table
    out[-1] = 0
    return out[:-1] * ~layout.separator


def by_visual(group: VisualBatch, views: Tensor) -> Tensor:
    """Sum (v, D) over the views of each visual of a group: (B, D)."""
    return _side_by_side(group, views).sum(1)


def products_with_each(group: VisualBatch, rows: Tensor) -> Tensor:
    """Inner products of all positions of a group with one row per visual (B, D): (N,), in the rows' dtype."""
    if len(group.visuals) == 1:
        return products_with(group.features, rows[0])
    return products(_side_by_side(group, group.features).to(rows.dtype), rows).flatten()


def _side_by_side(group: VisualBatch, values: Tensor) -> Tensor:
    """Reshape (B * n, ...) to (B, n, ...): one visual per entry of the first axis."""
    return rearrange(values, "(b n) ... -> b n ...", b=len(group.visuals))


def per_view(values: Tensor, layout: Layout, start: float = 0.0) -> Tensor:
    """Return (V, max size): the (N,) values of each view in a row, filled up with `start`.

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
            # x times a column instead is many times slower for more than one view.
            return torch.bmm(rows[:, None], x.mT)[:, 0]
    return (x * rows[:, None]).sum(-1)


def products_with(features: Tensor, row: Tensor) -> Tensor:
    """Inner products of features (N, D) with one row (D,): (N,), in the row's dtype."""
    step = rows_per_block(features, features.shape[1])
    parts = [products(x.to(row.dtype)[None], row[None])[0] for x in torch.split(features, step)]
    return torch.cat(parts) if parts else row.new_zeros(0)


def view_sums(group: VisualBatch) -> Tensor:
    """(V, D) sums of the L2-normalised tokens of each view; their directions are those of the means."""
    sums = []
    for x, mask in blocks(group):
        sums.append(weighted_sums(mask / torch.linalg.vector_norm(x, dim=-1).clamp(min=EPSILON), x))
    features = group.features
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
        parts.append(cosines(features[mine], features[theirs]))
    flat = torch.cat(parts) if parts else table.to(working_dtype(features))
    out = flat.new_zeros(len(layout) + 1)
    out[table] = flat
    return out[:-1]


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """Cosines (...) of tokens (..., D) to others, in float32 or better; exactly 1 for copies, NaN for broken ones."""
    x, y = (values.to(working_dtype(values)) for values in (x, y))
    norms = torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(y, dim=-1)
    product: Tensor = (x * y).sum(-1) / norms.clamp(min=EPSILON)
    return product.masked_fill_(product > 1 - NOISE, 1.0)


class Distances(NamedTuple):
    """Minus the cosine of each token to a mean of L2-normalised tokens; separators have no meaning.

    Attributes:
        view: (N,) to the mean of the token's own view.
        whole: (N,) to the mean of the whole visual, or None when it was not asked for.
    """

    view: Tensor
    whole: Tensor | None = None


def distances(batch: VisualBatch, *, whole: bool = False) -> Distances:
    """Distance of each token to the mean of its view, and to that of its whole visual.

    With x^ = x / |x| and m = mean of x^ over the view (or over everything): -x^ . m / |m|, in [-1, 1]. This is
    the score of GlobalCom2 (arXiv 2501.05179, appendix) for encoders without a CLS token.

    Args:
        batch: the visuals; separators enter no mean.
        whole: also compare with the mean of all tokens of the same visual.
    """

    def measure(group: VisualBatch, _: tuple[int, ...]) -> list[Tensor]:
        own, inverse = [], []
        total = group.features.new_zeros((), dtype=working_dtype(group.features))
        for x, mask in blocks(group):
            scale = mask / torch.linalg.vector_norm(x, dim=-1).clamp(min=EPSILON)
            sums = weighted_sums(scale, x)  # the direction of the mean is all that a cosine needs
            length = torch.linalg.vector_norm(sums, dim=-1).clamp(min=EPSILON)
            own.append(-products(x, sums) * scale / length[:, None])
            if whole:
                inverse.append(scale)
                total = total + by_visual(group, sums)
        view = to_positions(group, own)
        if not whole:
            return [view]
        direction = total / torch.linalg.vector_norm(total, dim=-1, keepdim=True).clamp(min=EPSILON)
        return [view, -products_with_each(group, direction) * to_positions(group, inverse)]

    return Distances(*in_groups(batch, measure, "NN" if whole else "N", whole=whole))


def rank_table(scores: Tensor, layout: Layout) -> Tensor:
    """(V, L) int64: `rank_within_views` of the tokens of each view, in the layout's table; N where there is none."""
    rank = rank_within_views(scores, layout)
    return torch.cat((rank, rank.new_full((1,), len(layout))))[layout.table]

"""Two verbs, the same for images and videos: *allocate* over the local views, *score* their tokens.

The commander is the global view. For an image it is the thumbnail, or the only view: its evidence lies on its own grid,
and the importance of a crop is the evidence on the part of that grid that the crop covers. For a video it is the mean
of the clip: a token is scored by its distance to that mean, and the importance of a frame is that of its own tokens.

Formulas: GlobalCom2 (arXiv 2501.05179; code xuyang-liu16/GlobalCom2 @ 96b2d00).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate

from vidcompress.core.budget import Policy, VisualBudget, half_up, ratio_fraction
from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import GLOBAL_VIEWS, Layout
from vidcompress.core.reductions import EPSILON, per_view
from vidcompress.core.selection import best_first
from vidcompress.errors import UnsupportedInputError

Allocation = Literal["uniform", "topk", "softmax_max", "softmax_sum", "gated"]
Score = Literal["local", "global", "holistic"]


@dataclass(frozen=True, eq=False)
class Commander:
    """Scores of the global view, place by place.

    Attributes:
        tokens: (N,) its score at each position; at a thumbnail's positions, of the thumbnail's own tokens.
        grid: (rows, cols) its score on its own grid (images), or None when it has scores at tokens only (videos).
    """

    tokens: Tensor
    grid: Tensor | None = None


def commander_of_image(values: Tensor, layout: Layout) -> Commander:
    """Make the thumbnail the commander: its evidence on its grid, resized bilinearly onto the crop canvas.

    For tiles it is the evidence of all of them, pooled to the layout's grid by means over areas and resized likewise.
    The thumbnail does not show padding: where a canvas keeps padding, this scores as low as the lowest place.
    Crops whose places are not known (no canvas) score 0.

    Args:
        values: (N,) evidence; only the thumbnail's positions are read where there is one.
        layout: of an image; the thumbnail's tokens fill its grid.

    Raises:
        UnsupportedInputError: the image has no thumbnail.
    """
    if is_tiled(layout):
        return _commander_of_tiles(values, layout)
    rows, cols = layout.grid
    to_grid, to_tokens = _places(layout)
    flat = values.new_zeros(rows * cols + 1).scatter(0, to_grid, values)[:-1]
    grid = rearrange(flat, "(row col) -> row col", row=rows, col=cols)
    maps = [flat]
    if layout.canvas is not None:
        top, left, *size = layout.picture or (0, 0, *layout.canvas)
        resized = interpolate(grid[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        if layout.picture is not None:
            canvas = grid.min().expand(layout.canvas).clone()
            canvas[top : top + size[0], left : left + size[1]] = resized
            resized = canvas
        maps.append(rearrange(resized, "row col -> (row col)"))
    elif len(layout.views) > 1:
        maps.append(flat.new_zeros(1))
    return Commander(torch.cat(maps)[to_tokens], grid)


def is_tiled(layout: Layout) -> bool:
    """Whether the views are tiles that a method cut from one view."""
    return any(view.kind == "tile" for view in layout.views[:1])


def _commander_of_tiles(values: Tensor, layout: Layout) -> Commander:
    """Return the commander of a view that was cut into tiles, which fill its canvas."""
    rows, cols = layout.canvas or layout.grid
    cell = (layout.row * cols + layout.col).masked_fill(layout.separator, rows * cols)
    whole = values.new_zeros(rows * cols + 1).scatter(0, cell, values)[:-1].view(1, 1, rows, cols)
    pooled = interpolate(whole, size=layout.grid, mode="area")
    resized = interpolate(pooled, size=(rows, cols), mode="bilinear", align_corners=False)
    places = cell.masked_fill(layout.separator, 0)
    return Commander(resized.flatten()[places], pooled[0, 0])


@lru_cache(maxsize=64)
@outside_caller_modes
def _places(layout: Layout) -> tuple[Tensor, Tensor]:
    """Return the index of each position (N,) in the thumbnail's flat grid, and in that grid with the canvas behind it.

    A position outside the thumbnail has the first index behind its grid, the number of its cells.
    """
    rows, cols = layout.grid
    number = next((i for i, view in enumerate(layout.views) if view.kind in GLOBAL_VIEWS), None)
    if number is None:
        raise UnsupportedInputError(
            f"an image without a thumbnail has no commander (views: {len(layout.views)} crops); use a method that "
            "scores every view by itself, or an adapter that sends the thumbnail"
        )
    mine = layout.view == number
    cell = layout.row * cols + layout.col
    to_grid = torch.where(mine, cell, rows * cols)
    if layout.canvas is not None:
        cell = torch.where(mine, cell, rows * cols + layout.row * layout.canvas[1] + layout.col)
    elif len(layout.views) > 1:
        cell = to_grid
    return to_grid, cell.masked_fill(layout.separator, 0)


def ratios_of(budgets: Sequence[VisualBudget], device: torch.device) -> float | Tensor:
    """Return the share of its tokens that each visual keeps: a number for one, (B, 1) float64 for several."""
    if len(budgets) == 1:
        return budgets[0].ratio
    return torch.tensor([[budget.ratio] for budget in budgets], dtype=torch.float64).to(device)


def allocate(
    commander: Commander,
    layout: Layout,
    ratio: float | Sequence[float],
    *,
    allocation: Allocation = "softmax_sum",
    tau: float = 10.0,
    policy: Policy = "exact",
) -> tuple[Tensor, Tensor | None]:
    """Return the share of its tokens that each view keeps, and the importance S that it follows from.

    With S_j = sum (or max) of the commander's score over what view j covers,
    sigma = exp((S - max S) / tau) / (sum + 1e-8) and r_j = min(1, R (1 + sigma_j - mean sigma)). `uniform` is
    r_j = R; `gated` is as `softmax_sum` here, and GlobalCom2 does the rest; `topk` is R times view j's part of
    the commander's top round(R M) places, over the mean part. All in float64: with float32 sums a tenth of the authors'
    counts come out wrong.

    Args:
        commander: scores, higher is more important.
        layout: the views; boxes of crops in the commander's grid.
        ratio: R, 0 <= R <= 1; of B clips with as many frames each, one after the other, that of each.
        allocation: the rule above; `topk` serves one visual only.
        tau: temperature, in units of S.
        policy: `reference` ignores padding, as the authors do (`View.nominal_box`); `exact` uses the part of the
            thumbnail that the crop really shows and leaves fully padded crops out.

    Returns:
        (V,) float64 in [0, 1]; R for the thumbnail. And (V,) float64 S, under `topk` the number of top places that each
        view covers; it has no meaning for the thumbnail and for views of padding only. None under `uniform`.
    """
    ratios = [ratio] if isinstance(ratio, (int, float)) else ratio
    live, count = _live(layout, policy)
    live, count = rearrange(live, "(b v) -> b v", b=len(ratios)), count // len(ratios)
    share: float | Tensor = ratios[0]
    if len(ratios) > 1:
        share = torch.tensor([[one] for one in ratios], dtype=torch.float64).to(live.device)
    uniform = share * torch.ones_like(live, dtype=torch.float64)
    if allocation == "uniform":
        return uniform.flatten(), None
    if count == 0:
        return uniform.flatten(), torch.zeros_like(uniform).flatten()
    if allocation == "topk":
        marks = _top_places(commander, layout, ratios[0])
        importance = over_views(marks, layout, "sum", policy)
        part = torch.where(live, importance, 0.0)
        rates = share * part * (count / part.sum())
    else:
        how = "max" if allocation == "softmax_max" else "sum"
        importance = over_views(commander, layout, how, policy)
        rates = share * softmax_rates(rearrange(importance, "(b v) -> b v", b=len(ratios)), live, count, tau)
    # No evidence at all (NaN from broken features, no top place in any view) means no preference.
    rates = torch.where(live & ~rates.isnan(), rates, uniform)
    return rates.clamp(max=1.0).flatten(), importance


@lru_cache(maxsize=64)
@outside_caller_modes
def _live(layout: Layout, policy: Policy) -> tuple[Tensor, int]:
    """Return (V,) bool, the views that share the budget, and their number."""
    local = [
        view.kind not in GLOBAL_VIEWS and (policy == "reference" or size > 0)
        for view, size in zip(layout.views, layout.sizes, strict=True)
    ]
    return torch.tensor(local, dtype=torch.bool, device=layout.view.device), sum(local)


def softmax_rates(importance: Tensor, live: Tensor, count: int, tau: float) -> Tensor:
    """1 + sigma_j - mean sigma of the `count` live views: (V,) or (B, V) float64."""
    sigma = softmax_of_views(importance, live, tau)
    return 1 + sigma - sigma.sum(-1, keepdim=True) / count


def softmax_of_views(importance: Tensor, live: Tensor, tau: float) -> Tensor:
    """exp((S - max S) / tau) / (sum + 1e-8) over the live views, zero elsewhere: (V,) or (B, V) float64."""
    lowest = torch.where(live, importance, -torch.inf)
    power = torch.where(live, torch.exp((lowest - lowest.amax(-1, keepdim=True)) / tau), 0.0)
    return power / (power.sum(-1, keepdim=True) + 1e-8)


def token_scores(commander: Tensor, local: Tensor, layout: Layout, *, score: Score, alpha: float) -> Tensor:
    """s = alpha c^ + (1 - alpha) l^ at every position; thumbnails are scored by the commander alone.

    Args:
        commander: (N,) score of each position by the global view.
        local: (N,) score by its own view.
        layout: hats are values over the L2 norm of all values of the same view.
        score: `holistic` is the sum above, `global` is c alone and `local` is l alone.
        alpha: weight of the commander, 0 to 1.

    Returns:
        (N,) in the dtype of the scores, comparable within a view.
    """
    if score == "global":
        return commander
    if score == "local":
        scores = local
    else:
        scores = alpha * unit_norm(commander, layout) + (1 - alpha) * unit_norm(local, layout)
    own = _global_view(layout)
    return scores if own is None else torch.where(own, commander, scores)


@lru_cache(maxsize=64)
@outside_caller_modes
def _global_view(layout: Layout) -> Tensor | None:
    """(N,) bool, the positions of global views; None where there is none."""
    own = [view.kind in GLOBAL_VIEWS for view in layout.views]
    table = torch.tensor([*own, False], device=layout.view.device)
    return table[layout.view] if any(own) else None


def unit_norm(values: Tensor, layout: Layout) -> Tensor:
    """(N,) values divided by the L2 norm over the tokens of their view."""
    # One broken value spoils its own token, not its view.
    rows = torch.nan_to_num(per_view(values, layout), nan=0.0)
    norm = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).clamp(min=EPSILON)
    return values / torch.cat((norm, norm.new_ones(1)))[layout.view].to(values.dtype)


def top_places(values: Tensor, count: int) -> Tensor:
    """Return ones at the `count` best of the values (any shape), zeros elsewhere; ties by position, NaN last."""
    best = best_first(values.flatten())[:count]
    return torch.zeros_like(values).view(-1).index_fill(0, best, 1.0).view_as(values)


def _top_places(commander: Commander, layout: Layout, ratio: float) -> Commander:
    """Set the commander's best round(R M) of M places to one, the others to zero; ties by position."""
    if commander.grid is not None:
        values, places = commander.grid, commander.grid.numel()
    else:
        values, places = commander.tokens.masked_fill(layout.separator, -torch.inf), layout.num_tokens
    marks = top_places(values, max(1, half_up(ratio_fraction(ratio) * places)))
    return Commander(marks.flatten(), None if commander.grid is None else marks)


def over_views(commander: Commander, layout: Layout, how: str, policy: Policy) -> Tensor:
    """Sum or maximum of the commander over the box of each view: (V,) float64; zero for an empty box."""
    if commander.grid is None:
        if how == "max":
            return per_view(commander.tokens, layout, -torch.inf).amax(1).to(torch.float64)
        return per_view(commander.tokens.to(torch.float64), layout).sum(1)
    rows, cols = _coverage(layout, policy)
    grid = commander.grid.to(torch.float64)
    if how == "max":
        covered = (rows[:, :, None] > 0) & (cols[:, None, :] > 0)
        best = torch.where(covered, grid, -torch.inf).amax((1, 2))
        return torch.where(best == -torch.inf, 0.0, best)
    return ((rows @ grid) * cols).sum(1)


@lru_cache(maxsize=64)
@outside_caller_modes
def _coverage(layout: Layout, policy: Policy) -> tuple[Tensor, Tensor]:
    """Return the part of each row and column of the commander's grid in each view's box: (V, rows), (V, cols)."""
    boxes = [
        (view.nominal_box if policy == "reference" else None) or view.box or (0.0,) * 4
        for view in layout.views
    ]
    edges = torch.tensor(boxes, dtype=torch.float64, device=layout.view.device)
    weights = []
    for low, high, cells in (
        (edges[:, 0], edges[:, 2], layout.grid[0]),
        (edges[:, 1], edges[:, 3], layout.grid[1]),
    ):
        start = torch.arange(cells, dtype=torch.float64, device=edges.device)
        overlap = torch.minimum(high[:, None], start + 1) - torch.maximum(low[:, None], start)
        weights.append(overlap.clamp(min=0.0))
    return weights[0], weights[1]

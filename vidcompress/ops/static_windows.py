"""Windows of frames, and the places that stay the same within one: cutting a clip, and what merging over time saves.

A window is a run of frames. A static place of a window is merged over its frames into one token, at the first of them.
Nothing asks the device: masks have fixed shapes, and how many tokens are left is bounded by the budget.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vidcompress.core.layout import _first
from vidcompress.core.reductions import rows_per_block, working_dtype
from vidcompress.core.selection import Selection, with_separators
from vidcompress.core.tokens import VisualTokens
from vidcompress.ops.diversity import unit_rows
from vidcompress.ops.group_clusters import GroupClusters


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of a clip of T frames of L places, and their static places.

    Attributes:
        start: (T,) int64, the first frame of each frame's window.
        length: (T,) int64, frames of each frame's window.
        static: (T, L) bool, in the row of a window's first frame its static places; False in other rows.
    """

    start: Tensor
    length: Tensor
    static: Tensor

    @property
    def dynamic(self) -> Tensor:
        """(T, L) bool: tokens that are not merged over time."""
        return ~self.static[self.start]


def starts_of(first: Tensor) -> tuple[Tensor, Tensor]:
    """Return start and length (T,) of windows from a (T,) mask of their first frames; frame 0 is one."""
    number = torch.arange(first.shape[0], device=first.device)
    start = torch.where(first, number, 0).cummax(0).values
    return start, torch.zeros_like(number).scatter_add(0, start, torch.ones_like(number))[start]


def limited(static: Tensor, closeness: Tensor, length: Tensor, most: int) -> Tensor:
    """Return the static places (T, L) that stay merged so that merging saves at most `most` tokens.

    The closest come first, ties in order, until the next one would save too many.

    Args:
        static: (T, L) bool, in the rows of first frames.
        closeness: (T, L), how alike the tokens of a place are within the window; higher stays merged.
        length: (T,) int64, frames of each window; merging a place saves one token less.
        most: at least 0.
    """
    rank = closeness.masked_fill(~static, -torch.inf).flatten()
    order = torch.argsort(torch.nan_to_num(rank, nan=-torch.inf), descending=True, stable=True)
    saved = ((length - 1)[:, None] * static).flatten()[order].cumsum(0)
    within = torch.zeros_like(static).flatten().scatter(0, order, saved <= most)
    return static & within.view_as(static)


# -- windows of most static places, by dynamic programming ------------------------------------------------------------


def most_static_windows(same: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Cut a clip so that merging static places saves most tokens; return start and length (T,).

    A window of frames p to q gains (q - p) for each place that stays the same in all its steps. Of cuts that gain the
    same, single frames come before windows and short windows before long ones, from the end of the clip.

    Args:
        same: (T - 1, L) bool, whether each place stays the same from a frame to the next.
        longest: most frames of a window, at least 2.
    """
    steps, places = same.shape
    device, frames = same.device, steps + 1
    number = torch.arange(steps, device=device)[:, None]
    broken = torch.where(same, -1, number).cummax(0).values if steps else number.expand(0, places)
    run = number - broken  # unbroken steps that end with this one
    tally = torch.zeros((steps, frames), dtype=torch.int64, device=device)
    tally = tally.scatter_add(1, run, torch.ones_like(run))
    lasting = tally.flip(1).cumsum(1).flip(1)  # places with at least so many unbroken steps
    span = torch.arange(frames, device=device)
    gains = (lasting * span).masked_fill((span == 0) | (span >= longest), -1)
    best = torch.zeros(frames + 1, dtype=torch.int64, device=device)  # gain of the frames before each one
    first = span.clone()
    for frame in range(1, frames):
        # A single frame, then windows of two frames and more that end here.
        gain = torch.cat((gains.new_zeros(1), gains[frame - 1, 1 : frame + 1]))
        total = torch.where(gain < 0, -1, best[: frame + 1].flip(0) + gain)
        largest = total.amax()
        best[frame + 1] = largest
        first[frame] = frame - torch.where(total == largest, span[: frame + 1], frames).amin()
    return starts_of(_reached(first))


def _reached(first: Tensor) -> Tensor:
    """Return (T,) bool, the first frames of the windows that end a clip, one before the other.

    Args:
        first: (T,) int64, the first frame of the best window that ends with each frame.
    """
    frames = first.shape[0]
    jump = torch.cat((first - 1, first.new_full((1,), frames)))  # to the last frame of the window before
    jump = torch.where(jump < 0, frames, jump)
    seen = torch.zeros(frames + 1, dtype=torch.int64, device=first.device)
    seen[frames - 1] = 1
    for _ in range(frames.bit_length()):
        seen = seen.scatter_reduce(0, jump, seen.clone(), "amax")
        jump = jump[jump]
    marks = torch.zeros_like(first).scatter_reduce(0, first, seen[:-1], "amax")
    return marks > 0


# -- windows of frame clusters --------------------------------------------------------------------------------------


def windows_of_clusters(cluster: Tensor) -> tuple[Tensor, Tensor]:
    """Make clusters of frames contiguous, as PruneVid does; return start and length (T,).

    Of each cluster its longest runs stay, if they have two frames. Frames between join the run before or behind them,
    the longer one; of equal ones the one before.

    Args:
        cluster: (T,) int64, from 0 to T - 1.
    """
    frames, device = cluster.shape[0], cluster.device
    number, one = torch.arange(frames, device=device), torch.ones_like(cluster)
    change = torch.cat((one[:1].bool(), cluster[1:] != cluster[:-1]))
    _, length = starts_of(change)
    longest = torch.zeros_like(cluster).scatter_reduce(0, cluster, length, "amax")
    stays = (length == longest[cluster]) & (length > 1)
    behind = torch.where(stays, number, frames).flip(0).cummin(0).values.flip(0)
    there, behind = behind < frames, behind.clamp(max=frames - 1)
    label_behind, length_behind = cluster[behind], torch.where(there, length[behind], 0)
    label, run, joined = cluster.new_zeros(()), cluster.new_zeros(()), []
    decided, between = cluster.new_zeros(()), torch.zeros((), dtype=torch.bool, device=device)
    for frame in range(frames):
        here = stays[frame]
        # Frames between two runs are decided at the first of them.
        choice = torch.where(length_behind[frame] > run, label_behind[frame], label)
        decided = torch.where(between, decided, choice)
        now = torch.where(here, cluster[frame], decided)
        run = torch.where(now == label, run + 1, 1) if frame else one[0]
        label, between = now, ~here
        joined.append(now)
    labels = torch.stack(joined)
    return starts_of(torch.cat((one[:1].bool(), labels[1:] != labels[:-1])))


def mean_cosines(features: Tensor, table: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Return the mean cosine (T, L) of all pairs of tokens at each place of a window, in the row of its first frame.

    Args:
        features: (N, D).
        table: (T, L) int64 positions of the frames.
        start, length: (T,) of the windows.

    Returns:
        Values of rows that begin no window, and of windows of one frame, are minus infinity.
    """
    member = _members(start, working_dtype(features))
    pairs, parts = (length * (length - 1)).clamp(min=1)[:, None], []
    for columns in torch.split(
        table, rows_per_block(features, 2 * table.shape[0] * features.shape[1]), dim=1
    ):
        unit = unit_rows(features[columns])
        sums = (member @ unit.flatten(1)).view_as(unit)
        parts.append((sums.square().sum(-1) - member @ unit.square().sum(-1)) / pairs)
    mean = torch.cat(parts, 1) if parts else table.to(member.dtype)
    own = torch.arange(len(start), device=start.device) == start
    return mean.masked_fill(~(own & (length > 1))[:, None], -torch.inf)


def window_means(features: Tensor, table: Tensor, start: Tensor) -> Tensor:
    """Return the mean over the window's frames of each place (T, L, D), in the rows of first frames; 0 in others."""
    x = torch.nan_to_num(features[table].to(working_dtype(features)))
    member = _members(start, x.dtype)
    return (member @ x.flatten(1) / member.sum(1, keepdim=True).clamp(min=1)).view_as(x)


def _members(start: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (T, T), 1 where a frame of the second axis belongs to the window that begins in one of the first."""
    return (torch.arange(len(start), device=start.device)[:, None] == start).to(dtype)


# -- what is sent -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MergedTokens:
    """Tokens to send, separators not among them.

    Attributes:
        index: (K,) int64 positions, in any order.
        features: (K, D).
        mass: (K,), the number of tokens that each stands for.
        heirless: (N,) bool, tokens that went into none.
    """

    index: Tensor
    features: Tensor
    mass: Tensor
    heirless: Tensor


def merged_tokens(
    tokens: VisualTokens,
    windows: Windows,
    clusters: GroupClusters,
    total: int,
    counts: Tensor,
    dynamic: Tensor | None = None,
) -> MergedTokens:
    """Return the clusters of static (first T) and dynamic groups (next T) of a clip as tokens.

    Args:
        tokens: of the clip.
        windows: with the static places.
        clusters: of all 2 T groups, or of the static ones alone.
        total: K, tokens to send.
        counts: (2 T,) int64, tokens of each group; those of a group without any are heirless.
        dynamic: (T, L) bool, dynamic tokens that are sent as they are, where these are not clustered; the others are
            heirless then.
    """
    layout, (frames, places) = tokens.layout, windows.static.shape
    sent = clusters.centre if dynamic is None else torch.cat((clusters.centre, dynamic))
    place = _first(sent.flatten(), total)
    row = place.div(places, rounding_mode="floor") % frames
    index = layout.table[row, place % places]
    slot = (clusters.centre.flatten().cumsum(0) - 1).clamp(min=0)
    clustered, slot = place < len(slot), slot[place.clamp(max=len(slot) - 1)]
    if total:
        features = tokens.features[index].to(clusters.features.dtype)
        features = torch.where(clustered[:, None], clusters.features[slot], features)
        span = torch.where(place < frames * places, windows.length[row], 1)
        mass = torch.where(clustered, clusters.size[slot] * span, 1)
    else:
        features, mass = clusters.features, clusters.size
    lost = (counts[:frames] == 0)[windows.start, None]
    unsent = (counts[frames:] == 0)[:, None] if dynamic is None else ~dynamic
    heirless = torch.zeros(len(layout), dtype=torch.bool, device=index.device)
    heirless[layout.table] = torch.where(windows.dynamic, unsent, lost)
    return MergedTokens(index, features, mass, heirless)


def send(
    tokens: VisualTokens,
    merged: MergedTokens,
    separators: int,
    windows: Windows | None = None,
) -> Selection:
    """Return the selection in sequence order, with separators of the lines with most tokens.

    Args:
        tokens: of the clip.
        merged: what is sent.
        separators: number to add.
        windows: given, each window sends its static tokens first, then its frames.
    """
    layout = tokens.layout
    kept, order = merged.index.sort()
    index = with_separators(layout, kept, separators)
    features, mass = tokens.features[index], torch.ones_like(index, dtype=torch.float32)
    slot = torch.searchsorted(index, kept)
    features = features.index_copy(0, slot, merged.features[order].to(features.dtype))
    mass = mass.index_copy(0, slot, merged.mass[order].to(mass.dtype))
    if windows is not None:
        frame = layout.view.masked_fill(layout.separator, -1).cummax(0).values.clamp(min=0)[index]
        still = torch.zeros_like(merged.heirless)
        still[layout.table] = windows.static
        key = windows.start[frame] * 2 + ~still[index]
        order = torch.argsort(key, stable=True)
        index, features, mass = index[order], features[order], mass[order]
    return Selection(index, features, mass=mass, heirless=merged.heirless)

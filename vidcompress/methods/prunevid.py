"""PruneVid's visual stage (Findings of ACL 2025, arXiv 2412.16117): places that stay merge over time, then in space.

Formulas from the paper and from reading its code (Visual-AI/PruneVid); nothing is derived from that code. The second
stage, which prunes inside the language model, is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.checks import is_whole, require_numbers
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Modality
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.reductions import blocks, full_precision, weighted_sums, working_dtype
from vidcompress.core.selection import Selection, largest_remainder
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError, shown
from vidcompress.ops.clustering import density_peaks
from vidcompress.ops.group_clusters import cluster_groups
from vidcompress.ops.static_windows import (
    Windows,
    limited,
    mean_cosines,
    merged_tokens,
    send,
    window_means,
    windows_of_clusters,
)

WHOLE = 14
"""Tokens of a group up to which the authors' code does not cluster it."""


@register_method
@dataclass(frozen=True)
class PruneVid(PerVisualMethod):
    """Windows of similar frames: places that stay are averaged over the window, then all groups are clustered.

    Attributes:
        windows: clusters of frames per frame, above 0 and at most 1; windows follow from them.
        tau: a place of a window stays where the mean cosine of its tokens is above tau.
        neighbours: number k of nearest tokens that densities average over, the token itself included; at least 1.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "prunevid"
    summary: ClassVar[str] = (
        "windows of similar frames: places that stay merge over time, all others in space"
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})
    compares: ClassVar = "views"
    merges: ClassVar[bool] = True
    sequential: ClassVar[bool] = True

    windows: float = 0.25
    tau: float = 0.8
    neighbours: int = 7

    def __post_init__(self) -> None:
        require_numbers(windows=self.windows, tau=self.tau)
        if not 0 < self.windows <= 1:
            raise ArgumentError(
                f"windows must be above 0 and at most 1, got {self.windows!r}; the authors use 0.25"
            )
        if not is_whole(self.neighbours) or self.neighbours < 1:
            raise ArgumentError(f"neighbours must be an integer of at least 1, got {shown(self.neighbours)}")

    def windows_of(self, tokens: VisualTokens) -> tuple[Windows, Tensor]:
        """Return the windows with all places that stay, and how alike each place's tokens are (T, L)."""
        layout = tokens.layout
        sums = torch.cat([weighted_sums(mask, x) for x, mask in blocks(VisualBatch([tokens]))])
        means = torch.nan_to_num(sums / layout.sizes[0])
        frames = len(means)
        _, cluster = density_peaks(
            means, max(1, int(frames * self.windows)), min(int(self.neighbours), frames)
        )
        start, length = windows_of_clusters(cluster)
        alike = mean_cosines(tokens.features, layout.table, start, length)
        return Windows(start, length, alike > self.tau), alike

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Send the cluster means at the places of their centres.

        `exact` splits the budget over static and dynamic groups by their sizes, and merges no more places over time
        than the budget allows. `reference` clusters groups of more than 14 tokens to int(R size).
        """
        layout, table = tokens.layout, tokens.layout.table
        if budget.positions == 0:
            return Selection(layout.view.new_zeros(0))
        with full_precision(tokens.features):
            windows, alike = self.windows_of(tokens)
            if budget.policy == "exact":
                most = layout.num_tokens - budget.tokens
                static = limited(windows.static, alike, windows.length, most)
                windows = Windows(windows.start, windows.length, static)
            free = torch.cat((windows.static, windows.dynamic))
            sizes, total = free.sum(1), budget.tokens
            if budget.policy == "exact":
                counts = largest_remainder(sizes.double(), total, sizes)
            else:
                share = (sizes * budget.ratio + 1e-9).floor().to(torch.int64)
                counts = torch.where(sizes > WHOLE, share, sizes)
                total = int(counts.sum().item())
            means, frames = window_means(tokens.features, table, windows.start), len(table)

            def x_of(rows: slice) -> Tensor:
                own = tokens.features[table[max(0, rows.start - frames) : max(0, rows.stop - frames)]]
                return torch.cat((means[rows], torch.nan_to_num(own.to(working_dtype(own)))))

            clusters = cluster_groups(
                x_of, free, counts, total, tokens.features, neighbours=int(self.neighbours)
            )
            merged = merged_tokens(tokens, windows, clusters, total, counts)
        by_window = windows if budget.policy == "reference" else None
        return send(tokens, merged, budget.separators, by_window)

"""HoliTom's outer stage (NeurIPS 2025, arXiv 2505.21334): places that stay merge over time, others go by attention.

Formulas from the paper and its code (cokeshao/HoliTom @ e9b2972). The inner stage, which merges inside the language
model, is not part of it.
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
from vidcompress.core.reductions import cosines_to_frames, distances, full_precision
from vidcompress.core.selection import Selection, largest_remainder
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, shown
from vidcompress.ops.group_clusters import cluster_groups
from vidcompress.ops.static_windows import (
    Windows,
    limited,
    merged_tokens,
    most_static_windows,
    send,
    window_means,
)

RECEIVED = Evidence("attention_received", "features")


@register_method
@dataclass(frozen=True)
class HoliTom(PerVisualMethod):
    """Windows chosen so that merging places that stay saves most tokens; all other tokens by attention received.

    Attributes:
        tau: a place stays from a frame to the next where the cosine of its tokens is above tau.
        longest: most frames of a window, at least 2.
        neighbours: number k of nearest tokens that densities average over, the token itself included; at least 1.
        beta: weight of a cluster's centre against the mean of its other tokens, 0 to 1.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "holitom"
    summary: ClassVar[str] = "windows where most places stay: those merge over time, others by attention"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})
    compares: ClassVar = "views"
    merges: ClassVar[bool] = True
    sequential: ClassVar[bool] = True

    tau: float = 0.8
    longest: int = 1024
    neighbours: int = 7
    beta: float = 0.6

    def __post_init__(self) -> None:
        require_numbers(tau=self.tau, beta=self.beta)
        for option, least in (("longest", 2), ("neighbours", 1)):
            value = getattr(self, option)
            if not is_whole(value) or value < least:
                raise ArgumentError(f"{option} must be an integer of at least {least}, got {shown(value)}")
        if not 0 <= self.beta <= 1:
            raise ArgumentError(f"beta must be a number from 0 to 1, got {self.beta!r}; the authors use 0.6")

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """The attention that tokens receive in the layer that the projector reads."""
        return (RECEIVED,)

    def windows_of(self, tokens: VisualTokens) -> tuple[Windows, Tensor]:
        """Return the windows with all places that stay, and the least cosine of each place's steps (T, L)."""
        layout = tokens.layout
        table = layout.table
        partner = (torch.arange(len(table), device=table.device) - 1).clamp(min=0)
        steps = torch.nan_to_num(cosines_to_frames(tokens.features, layout, partner)[table], nan=-2.0)
        start, length = most_static_windows(steps[1:] > self.tau, int(self.longest))
        # The step to the first frame of a window is none of its own.
        inside = (torch.arange(len(table), device=table.device) != start)[:, None]
        least = torch.full_like(steps, torch.inf)
        owner = start[:, None].expand_as(steps)
        least = least.scatter_reduce(0, owner, steps.masked_fill(~inside, torch.inf), "amin")
        least = least.masked_fill(least == torch.inf, -torch.inf)
        return Windows(start, length, least > self.tau), least

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Send merged static tokens at the places of their centres, and dynamic tokens by attention.

        `exact` splits the budget over static and dynamic groups by their sizes, and merges no more places over time
        than the budget allows. `reference` has the authors' counts and order.
        """
        layout, table = tokens.layout, tokens.layout.table
        if budget.positions == 0:
            return Selection(layout.view.new_zeros(0))
        frames, total = len(table), budget.tokens
        with full_precision(tokens.features):
            windows, least = self.windows_of(tokens)
            if budget.policy == "exact":
                static = limited(windows.static, least, windows.length, layout.num_tokens - total)
                windows = Windows(windows.start, windows.length, static)
            sizes = torch.cat((windows.static, windows.dynamic)).sum(1)
            if budget.policy == "exact":
                counts = largest_remainder(sizes.double(), total, sizes)
            else:
                share = (budget.ratio * layout.num_tokens / sizes.sum().double()).clamp(max=1.0)
                shares = (share * sizes * 1e9).round() / 1e9  # halves are halves
                counts = torch.cat((shares[:frames].round(), (shares[frames:] - 1e-9).ceil())).to(torch.int64)
                total = int(counts.sum().item())
            means = window_means(tokens.features, table, windows.start)
            clusters = cluster_groups(
                lambda rows: means[rows],
                windows.static,
                counts[:frames],
                total,
                tokens.features,
                neighbours=int(self.neighbours),
                beta=self.beta,
                fewer=True,
            )
            kept = self._by_attention(tokens, windows.dynamic, counts[frames:])
            merged = merged_tokens(tokens, windows, clusters, total, counts, kept)
        if budget.policy == "exact":
            return send(tokens, merged, budget.separators)
        if layout.num_separators > 1:  # one per line: lines with tokens keep theirs
            in_line = torch.zeros(layout.num_lines + 1, dtype=torch.int64, device=table.device)
            in_line[layout.line[merged.index]] = 1
            return send(tokens, merged, int(in_line[layout.line[layout.separator_index]].sum().item()))
        return send(tokens, merged, budget.separators, windows)

    def _by_attention(self, tokens: VisualTokens, among: Tensor, counts: Tensor) -> Tensor:
        """Return (T, L) bool, of each frame as many of some tokens as it may keep, by attention; else by distances."""
        attention = tokens.evidence.get(RECEIVED)
        if attention is None:
            attention = distances(VisualBatch([tokens])).view
        least = torch.finfo(attention.dtype).min
        ranked = torch.nan_to_num(attention, nan=least, neginf=least)[tokens.layout.table]
        order = torch.argsort(ranked.masked_fill(~among, -torch.inf), dim=1, descending=True, stable=True)
        first = torch.arange(order.shape[1], device=order.device) < counts[:, None]
        return torch.zeros_like(among).scatter(1, order, first)

"""FlashVID's stage before the language model (ICLR 2026): diverse tokens of each frame, others merged along time.

Formulas from the paper and its code (Fanziyang-v/FlashVID @ 1d37422).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from vidcompress.checks import is_whole, require_flags, require_numbers
from vidcompress.core.budget import VisualBudget, ratio_fraction, split_in_proportion
from vidcompress.core.layout import Modality, _first
from vidcompress.core.method import PerVisualMethod, Positions, register_method
from vidcompress.core.reductions import NOISE, full_precision, rows_per_block, working_dtype
from vidcompress.core.selection import Selection, largest_remainder
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, shown
from vidcompress.ops.diversity import unit_rows
from vidcompress.ops.group_clusters import cluster_groups
from vidcompress.ops.merging import matmul
from vidcompress.ops.static_windows import MergedTokens, send, starts_of

RECEIVED = Evidence("attention_received", "features")
EXPANSION = 1.25
"""Factor of the authors' budget before the language model, which their stage inside it takes back."""


class Trees(NamedTuple):
    """Tokens merged along time.

    Attributes:
        root: (T, L) bool, tokens that later ones were merged into, or that stand alone.
        mean: (T, L, D) mean of the tree of each root.
        size: (T, L) tokens of the tree of each root.
        frame: (T, L) int64, the frame of the root of each token.
    """

    root: Tensor
    mean: Tensor
    size: Tensor
    frame: Tensor


@register_method
@dataclass(frozen=True)
class FlashVid(PerVisualMethod):
    """Diverse and attended tokens of each frame; the others linked to their best match a frame earlier, and clustered.

    Attributes:
        segments: least number of segments, at least 1; the authors use 4 for Qwen.
        cut: the clip is also cut where the cosine of neighbouring frames is below this.
        chosen_share: share of the budget for tokens chosen by diversity and attention, 0 to 1.
        link: a token is linked to the best match of the frame before where their cosine is above this.
        events: whether diversity also weighs a token by its product with the mean of its segment (the authors' second
            variant, for LLaVA); False is the first, for Qwen.
        neighbours: number k of nearest tokens that densities average over, the token itself included; at least 1.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "flashvid"
    summary: ClassVar[str] = "diverse tokens of each frame, the others merged along time and clustered"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})
    positions: ClassVar[Positions] = "original"
    compares: ClassVar = "views"
    merges: ClassVar[bool] = True
    sequential: ClassVar[bool] = True

    segments: int = 8
    cut: float = 0.9
    chosen_share: float = 0.7
    link: float = 0.8
    events: bool = True
    neighbours: int = 7

    def __post_init__(self) -> None:
        for option in ("segments", "neighbours"):
            value = getattr(self, option)
            if not is_whole(value) or value < 1:
                raise ArgumentError(f"{option} must be an integer of at least 1, got {shown(value)}")
        require_numbers(cut=self.cut, chosen_share=self.chosen_share, link=self.link)
        require_flags(events=self.events)
        if not 0 <= self.chosen_share <= 1:
            raise ArgumentError(
                f"chosen_share must be a number from 0 to 1, got {self.chosen_share!r}; the authors use 0.7"
            )

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """The attention that tokens receive in the layer that the projector reads."""
        return (RECEIVED,)

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Send chosen tokens unchanged, and cluster means at the places of their centres, in sequence order."""
        layout, table = tokens.layout, tokens.layout.table
        if budget.positions == 0:
            return Selection(layout.view.new_zeros(0))
        frames, size, exact = len(table), layout.sizes[0], budget.policy == "exact"
        with full_precision(tokens.features):
            x = torch.nan_to_num(tokens.features[table].to(working_dtype(tokens.features)))
            unit = unit_rows(x)
            start, length = self.segments_of(x.mean(1))
            if exact:
                chosen = -int(-ratio_fraction(self.chosen_share) * budget.tokens // 1)
                each = split_in_proportion(chosen, layout.sizes)
                others = budget.tokens - chosen
            else:
                whole = min(size, -int(-ratio_fraction(budget.ratio) * size * ratio_fraction(EXPANSION) // 1))
                each = [-int(-ratio_fraction(self.chosen_share) * whole // 1)] * frames
                others = (whole - each[0]) * frames
            kept = self._diverse(unit, self._weights(tokens, x, start), each)
            owed, links = self._shares(kept, start, length, others, exact)
            trees = self._trees(x, unit, ~kept, start, links)
            roots = trees.root.sum(1)
            left = torch.zeros_like(roots).scatter_add(0, start, roots)[start].clamp(min=1)
            wanted_rows = roots.double() * owed[start] / left
            if exact:
                counts = largest_remainder(wanted_rows, others, roots) if others else torch.zeros_like(roots)
            else:
                counts = torch.minimum((wanted_rows - 1e-9).ceil().to(torch.int64), roots)
                others = int(counts.sum().item())
            clusters = cluster_groups(
                lambda rows: trees.mean[rows],
                trees.root,
                counts,
                others,
                tokens.features,
                neighbours=int(self.neighbours),
                fewer=True,
                mass=trees.size,
            )
            place = _first((kept | clusters.centre).flatten(), sum(each) + others)
            index = table.flatten()[place]
            features, mass = x.flatten(0, 1)[place], torch.ones_like(place)
            if others:
                slot = (clusters.centre.flatten().cumsum(0) - 1).clamp(min=0)[place]
                merged = clusters.centre.flatten()[place]
                features = torch.where(merged[:, None], clusters.features[slot], features)
                mass = torch.where(merged, clusters.size[slot], 1)
            lost = torch.zeros(len(layout), dtype=torch.bool, device=table.device)
            lost[table] = ~kept & (counts == 0)[trees.frame]
        return send(tokens, MergedTokens(index, features, mass, lost), budget.separators)

    def segments_of(self, means: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first frame and the length (T,) of each frame's segment, from the means (T, D) of the frames."""
        unit = unit_rows(means)
        alike = (unit[1:] * unit[:-1]).sum(-1)
        rank = torch.argsort(torch.argsort(alike, stable=True), stable=True)
        cut = (rank < int(self.segments) - 1) | (alike < self.cut)
        return starts_of(torch.cat((cut.new_ones(1), cut)))

    def _weights(self, tokens: VisualTokens, x: Tensor, start: Tensor) -> Tensor:
        """Return (T, L), attention times the product with the segment's mean, as shares of the frame's largest."""
        attention = tokens.evidence.get(RECEIVED)
        weight = x.new_ones(x.shape[:2])
        if attention is not None:
            weight = torch.nan_to_num(attention.to(x.dtype), nan=0.0, posinf=0.0)[tokens.layout.table].clamp(
                min=0
            )
        if self.events:
            member = (torch.arange(len(start), device=start.device)[:, None] == start).to(x.dtype)
            segment = member @ x.mean(1) / member.sum(1, keepdim=True).clamp(min=1)
            weight = weight * matmul(x, segment[start][:, :, None])[..., 0].clamp(min=0)
        return weight / weight.amax(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)

    def _diverse(self, unit: Tensor, weight: Tensor, each: list[int]) -> Tensor:
        """Return (T, L) bool: of each frame the tokens of largest weight x distance to the nearest one chosen so far.

        The first is that of largest weight x distance to its nearest neighbour. Ties go to the earlier token.
        """
        limit = torch.tensor(each, device="cpu").to(unit.device)
        parts = [torch.zeros(unit.shape[:2], dtype=torch.bool, device=unit.device)[:0]]
        step = rows_per_block(unit, unit.shape[1] * (unit.shape[1] + 1))
        for u, w, most in zip(unit.split(step), weight.split(step), limit.split(step), strict=True):
            far = 1 - matmul(u, u.mT)
            far = torch.where(far > NOISE, far, 0.0)
            own = torch.eye(far.shape[1], dtype=torch.bool, device=far.device)
            near = far.masked_fill(own, 2.0).amin(1)
            score, near = w * near, torch.full_like(w, torch.inf)
            mask = torch.zeros_like(w, dtype=torch.bool)
            for number in range(max(each)):
                picked = score.argmax(1, keepdim=True)
                mask = mask | torch.zeros_like(mask).scatter(1, picked, (number < most)[:, None])
                row = far.gather(1, picked[:, :, None].expand(-1, -1, far.shape[2]))[:, 0]
                near = torch.minimum(near, row)
                score = (w * near).masked_fill(mask, -1.0)
            parts.append(mask)
        return torch.cat(parts)

    def _shares(
        self, kept: Tensor, start: Tensor, length: Tensor, others: int, exact: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the clusters owed to each segment and the links that it may have, (T,) each, in rows of first frames.

        A segment links so many tokens at most that as many roots are left as it is owed; in the code one more is left.
        """
        frames, size = kept.shape
        first = start == torch.arange(frames, device=start.device)
        free = torch.zeros_like(start).scatter_add(0, start, (~kept).sum(1))
        span = torch.where(first, length, 0)
        if exact:
            owed = largest_remainder(span.double(), others, free)
            return owed, free - owed
        owed = span * (others // frames)
        return owed, (free - owed - 1).clamp(min=0)

    def _trees(self, x: Tensor, unit: Tensor, free: Tensor, start: Tensor, links: Tensor) -> Trees:
        """Link each free token to its best free match one frame earlier, the closest links first, and average trees."""
        frames, size = free.shape
        number, column = torch.arange(frames, device=x.device), torch.arange(size, device=x.device)
        alike, parent = [unit.new_full((1, size), -torch.inf)], [column[None]]
        for rows in number[1:].split(rows_per_block(unit, size * (2 * unit.shape[2] + size))):
            cosine = matmul(unit[rows], unit[rows - 1].mT).masked_fill(~free[rows - 1][:, None], -torch.inf)
            best = cosine.max(2)
            alike.append(best.values)
            parent.append(best.indices)
        close, to = torch.cat(alike), torch.cat(parent)
        close = close.masked_fill(~free | (start == number)[:, None], -torch.inf)
        order = torch.argsort(close.flatten(), descending=True, stable=True)
        order = order[torch.argsort(start[order.div(size, rounding_mode="floor")], stable=True)]
        rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=order.device))
        rank = rank.view(frames, size) - (start * size)[:, None]
        linked = (close > self.link) & (rank < links[start][:, None])
        total, count, frame = x.clone(), torch.ones_like(close), number[:, None].expand(-1, size).clone()
        for t in range(frames - 1, 0, -1):
            joins = ((to[t] == column[:, None]) & linked[t]).to(x.dtype)
            total[t - 1] += joins @ total[t]
            count[t - 1] += joins @ count[t]
        for t in range(1, frames):
            frame[t] = torch.where(linked[t], frame[t - 1][to[t]], frame[t])
        root = free & ~linked
        mean = torch.where((count > 1)[..., None], total / count[..., None], x)
        return Trees(root, mean, count, frame)

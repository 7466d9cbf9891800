"""VisionZip (arXiv 2412.04467, CVPR 2025): dominant tokens by CLS attention, the others merged into contextual ones.

Formulas as in the authors' code (dvlab-research/VisionZip @ 3151f6d).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from vidcompress.checks import require_numbers
from vidcompress.core.batch import VisualBatch, evidence_of
from vidcompress.core.budget import VisualBudget, half_up, ratio_fraction
from vidcompress.core.layout import Layout, Modality, _first
from vidcompress.core.method import PerVisualMethod, register_method
from vidcompress.core.reductions import rank_table, rows_per_block
from vidcompress.core.selection import Selection, separators_for
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError
from vidcompress.ops.attention_scores import (
    Layer,
    attention_of,
    attention_wanted,
    require_layer,
    shares,
)
from vidcompress.ops.merging import columns_of, merge_groups, nearest_centre, side_by_side

HIDDEN, CLS_HIDDEN = Evidence("hidden", "features"), Evidence("cls_hidden", "features")

UNSENT, CLS, DOMINANT, CONTEXTUAL, SEPARATOR = range(
    -1, 4
)  # stages, in the order in which the authors send them


class ViewCounts(NamedTuple):
    """Numbers of dominant, CLS and contextual tokens that each view sends, V integers each."""

    dominant: list[int]
    cls: list[int]
    contextual: list[int]


class MergeGroups(NamedTuple):
    """Groups of merged tokens, views side by side.

    Attributes:
        dominant: (V, L) bool, tokens sent unchanged.
        centre: (V, C) int64, columns of the contextual tokens, ascending, padded with L.
        member: (V, L) bool, tokens merged into a centre.
    """

    dominant: Tensor
    centre: Tensor
    member: Tensor


@register_method
@dataclass(frozen=True)
class VisionZip(PerVisualMethod):
    """The tokens of most CLS attention of each view, and evenly spaced others that absorb the tokens like them.

    The CLS token's own feature is one of the tokens of a view that is not sent whole. Without a CLS token the attention
    that a token receives ranks instead.

    Attributes:
        contextual_share: share of contextual tokens in a view's budget, 0 to 1; the authors' 10 of 54 + 10, 20 of
            108 + 20 and 5 of 27 + 5 are all 0.15625.
        layer: encoder layer of attention and keys; `features` is the layer whose output the projector reads.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "visionzip"
    summary: ClassVar[str] = "of each view the tokens of most CLS attention; the others merged into a few"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    compares: ClassVar = "views"
    merges: ClassVar[bool] = True

    contextual_share: float = 0.15625
    layer: Layer = "features"

    def __post_init__(self) -> None:
        require_numbers(contextual_share=self.contextual_share)
        if not 0 <= self.contextual_share <= 1:
            raise ArgumentError(
                f"contextual_share must be a number from 0 to 1, got {self.contextual_share!r}; the authors use 0.15625"
            )
        require_layer(layer=self.layer)

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """Attention and keys of one layer, and the projector's input."""
        attention = attention_wanted(self.name, self.layer, has_cls)
        evidence = (*attention, Evidence("mean_keys", self.layer), HIDDEN)
        return (*evidence, CLS_HIDDEN) if has_cls else evidence

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return False: attention and keys choose the tokens, and the projector's input is merged."""
        return False

    def attention(self, tokens: VisualTokens) -> Tensor:
        """Return the attention (N,) that ranks tokens."""
        return attention_of(VisualBatch([tokens]), self.layer)

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Send dominant tokens unchanged, contextual tokens at their centres, and CLS at a position that is free.

        A contextual token stands for the tokens that joined it; CLS counts for the token whose position it takes, which
        then counts for no other. Tokens of views without contextual tokens go into none.
        """
        layout, counts = tokens.layout, self.counts(tokens, budget)
        attention = self.attention(tokens)
        groups = self.groups(attention, layout, counts)
        table = torch.cat((layout.table, layout.table.new_full((len(layout.views), 1), len(layout))), 1)
        centre = table.gather(1, groups.centre)
        index, stage = self._sent(layout, groups.dominant, centre, counts, budget)
        features, mass, heirless = tokens.rows(index), None, None
        if sum(counts.contextual):
            rows = _first(stage == CONTEXTUAL, sum(counts.contextual))
            number = torch.arange(centre.numel(), device=centre.device)
            slot = index.new_zeros(len(layout) + 1).index_copy_(0, centre.flatten(), number)[index[rows]]
            merged, sizes, masses = self._merged(tokens, groups, counts)
            # A centre without members stays bit-equal.
            contextual = torch.where(sizes[slot, None] > 0, merged[slot], features[rows])
            features = features.index_copy(0, rows, contextual)
            mass = torch.ones_like(index, dtype=torch.float32).index_copy(0, rows, masses[slot])
            heirless = _without_heir(layout, index, counts)
        if sum(counts.cls) and tokens.project is not None:
            rows = _first(stage == CLS, sum(counts.cls))
            hidden = evidence_of(tokens, CLS_HIDDEN)[layout.view[index[rows]]]
            features = features.index_copy(0, rows, tokens.project(hidden.to(features.dtype)))
        return Selection(index, features, mass=mass, heirless=heirless, scores=attention)

    def _sent(
        self, layout: Layout, dominant: Tensor, centre: Tensor, counts: ViewCounts, budget: VisualBudget
    ) -> tuple[Tensor, Tensor]:
        """Return positions and stages (K,), in sending order; CLS takes the first unsent position of its view."""
        none = len(layout)
        stage = layout.view.new_full((none + 1,), UNSENT)
        stage[torch.where(dominant, layout.table, none)] = DOMINANT
        stage[centre] = CONTEXTUAL
        index = _first(stage[:-1] > UNSENT, sum(counts.dominant) + sum(counts.contextual))
        parts = [(index, stage[index])]
        if sum(counts.cls):
            views = torch.tensor([i for i, count in enumerate(counts.cls) if count], device=stage.device)
            table = layout.table[views]
            free = torch.where((table < none) & (stage[table] == UNSENT), table, none).amin(1)
            parts.append((free, torch.full_like(free, CLS)))
        if budget.separators:
            separators = separators_for(layout, index, budget.separators)
            parts.append((separators, torch.full_like(separators, SEPARATOR)))
        index, stage = (torch.cat(column) for column in zip(*parts, strict=True))
        order = torch.argsort(_appended(layout, index, stage) if budget.policy == "reference" else index)
        return index[order], stage[order]

    def counts(self, tokens: VisualTokens, budget: VisualBudget) -> ViewCounts:
        """Split a view's budget k into C = round(share k) contextual tokens, one CLS token and k - C - 1 dominant."""
        share = ratio_fraction(self.contextual_share)
        with_cls = CLS_HIDDEN in tokens.evidence and tokens.project is not None
        dominant, cls, contextual = [], [], []
        for k, size in zip(shares(tokens.layout, budget), tokens.layout.sizes, strict=True):
            contextual.append(half_up(share * k))
            cls.append(int(with_cls and contextual[-1] < k < size))
            dominant.append(k - contextual[-1] - cls[-1])
        return ViewCounts(dominant, cls, contextual)

    def groups(self, scores: Tensor, layout: Layout, counts: ViewCounts) -> MergeGroups:
        """Choose dominant tokens by rank; every s-th of the R others is a centre, s = max(1, R // C), C in all."""
        steps = [
            max(1, (size - d) // max(1, c))
            for size, d, c in zip(layout.sizes, counts.dominant, counts.contextual, strict=True)
        ]
        host = torch.tensor([counts.dominant, counts.contextual, steps], dtype=torch.int64)
        first, centres, step = host.to(scores.device)[:, :, None]
        inside = layout.table < len(layout)
        dominant = inside & (rank_table(scores, layout) < first)
        rest = inside & ~dominant
        number = rest.cumsum(1) - 1
        centre = rest & (number % step == 0) & (number // step < centres)
        columns = columns_of(centre, max(counts.contextual, default=0))
        return MergeGroups(dominant, columns, rest & ~centre & (centres > 0))

    def assignment(self, tokens: VisualTokens, groups: MergeGroups, rows: slice) -> Tensor:
        """Return the number of the centre most like each token of some views, by cosine of mean keys: (v, L) int64."""
        keys = evidence_of(tokens, Evidence("mean_keys", self.layer))
        return nearest_centre(side_by_side(keys, tokens.layout.table[rows]), groups.centre[rows])

    def _merged(
        self, tokens: VisualTokens, groups: MergeGroups, counts: ViewCounts
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return of the centres of all views merged features (V * C, D) in the features' dtype, the number of members
        (V * C,), and the masses (V * C,) float32."""
        table = tokens.layout.table
        project = tokens.project
        source = tokens.features if project is None else evidence_of(tokens, HIDDEN)
        merged, sizes, group = [], [], []
        step = rows_per_block(source, table.shape[1] * (source.shape[1] + 2 * groups.centre.shape[1]))
        for start in range(0, table.shape[0], step):
            rows = slice(start, start + step)
            group.append(self.assignment(tokens, groups, rows))
            features, size = merge_groups(
                side_by_side(source, table[rows]),
                group[-1],
                groups.member[rows],
                groups.centre[rows],
            )
            merged.append(features)
            sizes.append(size)
        flat = rearrange(torch.cat(merged), "view centre d -> (view centre) d").to(tokens.dtype)
        size = torch.cat(sizes)
        mass = 1 + size.to(torch.float32)
        if sum(counts.cls):  # CLS takes the place of the first member
            first = torch.cat(group).gather(1, groups.member.to(torch.int8).argmax(1, keepdim=True))
            taken = torch.tensor(counts.cls, dtype=mass.dtype, device=mass.device)[:, None]
            mass = mass.scatter_add(1, first, -taken)
        return flat if project is None else project(flat), size.flatten(), mass.flatten()


def _without_heir(layout: Layout, index: Tensor, counts: ViewCounts) -> Tensor | None:
    """Return (N,) bool: unsent tokens of the views without contextual tokens; None where there are none."""
    without = [
        not contextual and dominant + cls < size
        for dominant, cls, contextual, size in zip(*counts, layout.sizes, strict=True)
    ]
    if not any(without):
        return None
    views = torch.tensor([*without, False], device=index.device)
    return views[layout.view].scatter(0, index, False)


def _appended(layout: Layout, index: Tensor, stage: Tensor) -> Tensor:
    """Return the authors' order as a sorting key (K,).

    A thumbnail or frame sends CLS, dominant tokens, contextual tokens, newlines. The crops of an image together send
    dominant tokens and newlines in sequence, then CLS tokens by view, then contextual tokens by view.
    """
    views = len(layout.views)
    view, inner = layout.view[index], stage
    if layout.modality == "video":  # a newline belongs to the frame whose tokens precede it
        view = layout.view.masked_fill(layout.separator, -1).cummax(0).values[index]
    else:
        canvas = (view > 0) | (stage == SEPARATOR)
        inner = torch.where(canvas, torch.where(stage < DOMINANT, view, 0), stage)
        inner = torch.where(canvas & (stage == CONTEXTUAL), view, inner)
        block = torch.where(stage == CLS, 1, torch.where(stage == CONTEXTUAL, 2, 0))
        view = torch.where(canvas, views + block, view)
    return (view * (views + SEPARATOR + 1) + inner) * (len(layout) + 1) + index

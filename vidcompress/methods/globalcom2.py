"""GlobalCom2 (arXiv 2501.05179, AAAI 2026): the global view scores the local views and their tokens.

Image formulas as in the authors' code (xuyang-liu16/GlobalCom2 @ 96b2d00); the video form follows the paper,
for which no code was published.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor

from vidcompress.checks import is_whole, one_of, require_numbers
from vidcompress.core.batch import VisualBatch, check_coverage, joined
from vidcompress.core.budget import Policy, VisualBudget, tokens_to_keep
from vidcompress.core.layout import GLOBAL_VIEWS, Layout, Modality, _first
from vidcompress.core.method import ScoredMethod, register_method
from vidcompress.core.reductions import EPSILON, distances, in_groups, working_dtype
from vidcompress.core.report.visual import Allotment
from vidcompress.core.scoring import (
    Allocation,
    Commander,
    Score,
    allocate,
    commander_of_image,
    over_views,
    softmax_rates,
    token_scores,
)
from vidcompress.core.selection import Selection, best_first, rank_within_views
from vidcompress.core.stream.running_mean import RunningMeanStream
from vidcompress.core.stream.stream import Stream, StreamSize, whole_clip
from vidcompress.core.tokens import Evidence, Quantity, VisualTokens
from vidcompress.errors import ArgumentError, UnsupportedInputError, shown
from vidcompress.ops.virtual_tiles import tiled_layout

_MEANING: dict[Allocation, str] = {
    "softmax_sum": "sum of the global view's scores over the view",
    "gated": "sum of the global view's scores over the view",
    "softmax_max": "largest of the global view's scores on the view",
    "topk": "number of the global view's best places on the view",
    "uniform": "",
}
MOST_TILES = 144
"""Upper limit of the option `tiles`: about the number of places of the commander."""
EvidenceOption = Literal["auto", "cls_logits", "cls_attention", "attention_received", "distance"]


@register_method
@dataclass(frozen=True)
class GlobalCom2(ScoredMethod):
    """The global view's scores split the budget over crops or frames; global plus local scores choose the tokens.

    Attributes:
        tau: temperature of the softmax over views, in units of summed evidence; above 0.
        alpha: weight of the global score, 0 to 1; the local score has 1 - alpha.
        allocation: `softmax_sum` (the paper's), `softmax_max`, `topk`, `uniform`. `gated` (ours) is `softmax_sum` with
            no tokens for the least important crops, so that `encoder_saving="crops"` need not encode them; on clips
            `gated` is `softmax_sum`.
        gate: for `gated`, tokens of the thumbnail and of the crops that stay, per token to keep; at least 1.
        tiles: number N of virtual tiles of an image at native resolution, 1 to 144 (ours). Tiles share the budget as
            crops do; the commander is the view's own evidence, pooled to about 12 x 12. With 1, and where the view has
            too few rows and columns, the tokens are chosen by their own evidence alone. Other views are not cut, and no
            view is cut under `policy="reference"`.
        score: `holistic` (the paper's), `global`, `local`.
        evidence: `auto` is `cls_logits` for images when the encoder has a CLS token, else `distance`.
        layer: encoder layer of attention evidence; negative counts from the last.
        coverage: share of a clip's budget below its number of frames that is spread evenly over time (ours), 0 to 1.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "globalcom2"
    summary: ClassVar[str] = (
        "the thumbnail (or the whole clip) decides how much each crop (or frame) keeps, and what"
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})

    tau: float = 10.0
    alpha: float = 0.5
    allocation: Allocation = "softmax_sum"
    score: Score = "holistic"
    evidence: EvidenceOption = "auto"
    layer: int = -1
    gate: float = 2.0
    tiles: int = 4
    coverage: float = 0.0

    def __post_init__(self) -> None:
        require_numbers(tau=self.tau, alpha=self.alpha, gate=self.gate)
        check_coverage(self.coverage)
        if not 1 <= self.gate < float("inf"):
            raise ArgumentError(
                f"gate must be a number of at least 1, got {self.gate!r}: the views that stay hold that many times the "
                "tokens to keep"
            )
        if not 0 < self.tau < float("inf"):
            raise ArgumentError(
                f"tau must be a number above 0, got {self.tau!r}; the paper uses 10, 5 to 20 are alike"
            )
        if not 0 <= self.alpha <= 1:
            raise ArgumentError(f"alpha must be a number from 0 (local) to 1 (global), got {self.alpha!r}")
        for option, allowed in (
            ("allocation", get_args(Allocation)),
            ("score", get_args(Score)),
            ("evidence", get_args(EvidenceOption)),
        ):
            one_of(option, getattr(self, option), allowed)
        if not is_whole(self.layer):
            raise ArgumentError(
                f"layer must be an integer such as -1 for the last encoder layer, got {shown(self.layer)}"
            )
        if not is_whole(self.tiles) or not 1 <= self.tiles <= MOST_TILES:
            raise ArgumentError(
                f"tiles must be an integer from 1 to {MOST_TILES}, got {shown(self.tiles)}; 1 leaves a view whole"
            )

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """The attention quantity that the scores start from; none where they start from distances."""
        if self.evidence == "distance" or (self.evidence == "auto" and (modality == "video" or not has_cls)):
            return ()
        return (self._attention_key,)

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Return whether the scores start from distances: for clips, and for images without attention evidence."""
        return modality == "video" or not self.needs(modality, has_cls)

    def cut(self, batch: VisualBatch) -> VisualBatch:
        """Return the batch with tiles as the views of every image at native resolution that is large enough."""
        if all(view.kind != "image" for one in batch.visuals for view in one.layout.views[:1]):
            return batch
        return VisualBatch([self._tiled(one) for one in batch.visuals])

    def _tiled(self, tokens: VisualTokens) -> VisualTokens:
        tiles = tiled_layout(tokens.layout, int(self.tiles))
        if tiles is not None:
            tokens = copy.copy(tokens)  # not `replace`, which would project deferred features
            tokens.layout = tiles
        return tokens

    def scores(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> tuple[Tensor, Allotment]:
        """Return token scores (N,) float32 or better, and the weights N_j r_j of the views, by the commander's S.

        `select` has called `cut` on the batch before.
        """
        video = batch.visuals[0].layout.modality == "video"
        by_modality = self._of_clips if video else self._of_images
        commander, local, allotment = by_modality(batch, budgets)
        return token_scores(commander, local, batch.layout, score=self.score, alpha=self.alpha), allotment

    def _of_clips(
        self, batch: VisualBatch, budgets: Sequence[VisualBudget]
    ) -> tuple[Tensor, Tensor, Allotment]:
        """Return scores by the commanders and within frames, (N,) each, and frame weights; one shape at a time."""

        def measure(clips: VisualBatch, numbers: tuple[int, ...]) -> list[Tensor]:
            whole, local = self.global_and_local(clips)
            given = [budgets[number] for number in numbers]
            if self.allocation == "topk":  # the best places are counted within one clip
                each = zip(whole.split(clips.lengths), clips.visuals, given, strict=True)
                part = Allotment.join([self._allot(Commander(c), one.layout, [b]) for c, one, b in each])
            else:
                part = self._allot(Commander(whole), clips.layout, given)
            return [whole, local, part.weights, *([] if part.importance is None else [part.importance])]

        axes = "NNV" if self.allocation == "uniform" else "NNVV"
        commander, local, weights, *importance = in_groups(batch, measure, axes)
        allotment = Allotment(
            weights, importance[0] if importance else None, _MEANING[self.allocation], coverage=self.coverage
        )
        return commander, local, allotment

    def _of_images(
        self, batch: VisualBatch, budgets: Sequence[VisualBudget]
    ) -> tuple[Tensor, Tensor, Allotment]:
        """Return scores by the commanders and within views, (N,) each, and view weights; one image at a time."""
        whole, local = self.global_and_local(batch)
        layouts = [one.layout for one in batch.visuals]
        commanders = [
            commander_of_image(*part) for part in zip(whole.split(batch.lengths), layouts, strict=True)
        ]
        parts = [
            self._allot(commander, layout, [budget])
            for commander, layout, budget in zip(commanders, layouts, budgets, strict=True)
        ]
        if len(parts) == 1:
            return commanders[0].tokens, local, parts[0]
        return torch.cat([commander.tokens for commander in commanders]), local, Allotment.join(parts)

    def global_and_local(self, batch: VisualBatch) -> tuple[Tensor, Tensor]:
        """Return the global scores (N,), which make the commanders, and the local scores (N,) within each view.

        Attention of an image is both. Otherwise global scores are distances to the mean of the clip, of the tiled image
        or of the view, and local scores are attention, or distances to the mean of the view.
        """
        attention = [self._attention_evidence(one) for one in batch.visuals]
        given = [values for values in attention if values is not None]
        tiled = [any(view.kind == "tile" for view in one.layout.views[:1]) for one in batch.visuals]
        if 0 < len(given) < len(batch.visuals) or any(tiled) != all(tiled):
            alone = [self.global_and_local(VisualBatch([one])) for one in batch.visuals]
            return joined([whole for whole, _ in alone]), joined([local for _, local in alone])
        own, video = joined(given) if given else None, batch.visuals[0].layout.modality == "video"
        if own is not None and not video:
            return own, own
        far = distances(batch, whole=video or tiled[0])
        return far.view if far.whole is None else far.whole, far.view if own is None else own

    def _allot(self, commander: Commander, layout: Layout, budgets: Sequence[VisualBudget]) -> Allotment:
        """Return the weights N_j r_j of the views of an image, or of clips of one shape, after the gate of `gated`."""
        rates, importance = allocate(
            commander,
            layout,
            [budget.ratio for budget in budgets],
            allocation=self.allocation,
            tau=self.tau,
            policy=budgets[0].policy,
        )
        weights = layout.sizes_tensor[:-1] * rates
        if self.allocation == "gated" and commander.grid is not None:
            crops = [view.kind not in GLOBAL_VIEWS for view in layout.views]
            gate = self._gate(commander, layout, budgets[0])
            weights = redistribute(weights, gate, torch.tensor(crops, device=weights.device))
        kind, meaning = next((view.kind for view in layout.views), None), _MEANING[self.allocation]
        note = self._why_whole(layout, budgets[0].policy) if kind == "image" else ""
        return Allotment(weights, importance, meaning, layout if kind == "tile" else None, note)

    def _why_whole(self, layout: Layout, policy: Policy) -> str:
        """Return why an image at native resolution was not cut; "" where `tiles` is 1."""
        if self.tiles == 1:
            return ""
        if policy == "reference":
            why = "policy='reference' reproduces code without tiles"
        else:
            why = f"its {layout.grid[0]} x {layout.grid[1]} tokens cannot be cut into {self.tiles} tiles"
        return f"{why}, so it is ranked as one view"

    def crops(self, thumbnail: VisualTokens, layout: Layout, budget: VisualBudget) -> tuple[int, ...] | None:
        """Return the numbers of the crops that `gated` gives tokens, as `scores` does; synchronises the device once."""
        if self.allocation != "gated":
            raise ArgumentError(
                f"encoder_saving='crops' leaves out crops that get nothing, but allocation={self.allocation!r} gives "
                "every crop something; add allocation='gated'"
            )
        layout = layout.to(thumbnail.features.device)
        # Zeros around the thumbnail give sums in the order in which `scores` sums.
        local = self._attention_evidence(thumbnail)
        if local is None:
            zeros = VisualTokens(_among_zeros(thumbnail.features, layout), layout)
            alone = distances(VisualBatch([zeros])).view
        else:
            alone = _among_zeros(local, layout)
        gate = self._gate(commander_of_image(alone, layout), layout, budget).tolist()
        return tuple(
            n for n, view in enumerate(layout.views) if view.kind == "crop" and layout.sizes[n] and gate[n]
        )

    def _gate(self, commander: Commander, layout: Layout, budget: VisualBudget) -> Tensor:
        return gated_views(commander, layout, self.gate * tokens_to_keep(layout, budget), budget.policy)

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep int(N_j r_j) tokens per view: the thumbnail's, best first, then those of crops or frames in sequence.

        Every separator is kept. Tokens keep their true places; the released code moves them when there is padding.
        """
        layout = tokens.layout
        scores, allotment = self.scores(VisualBatch([tokens]), [budget])
        counts = allotment.weights.to(torch.int64)  # the conversion truncates as int() does
        limit = torch.cat((counts, counts.new_zeros(1)))
        kept = (rank_within_views(scores, layout) < limit[layout.view]) | layout.separator
        thumb = next((i for i, view in enumerate(layout.views) if view.kind in GLOBAL_VIEWS), None)
        if thumb is None:
            return Selection(_first(kept, _count(kept)), allotment=allotment, scores=scores)
        mine = layout.view == thumb
        first = int(layout.sizes[thumb] * budget.ratio)
        best = best_first(scores)
        best = best[torch.argsort((~mine)[best], stable=True)][:first]  # the thumbnail's, best first
        rest = kept & ~mine
        index = torch.cat((best, _first(rest, _count(rest))))
        return Selection(index, allotment=allotment, scores=scores)

    def stream(self, size: StreamSize) -> Stream:
        """Return a stream with exact sums per frame, which says of which frames its choice is proven to be `select`'s.

        Raises:
            UnsupportedInputError: an allocation or evidence that does not follow from sums over frames.
        """
        if self.allocation in ("softmax_max", "topk") or self.evidence not in ("auto", "distance"):
            whole_clip(
                f"'globalcom2' with allocation={self.allocation!r}, evidence={self.evidence!r}",
                "allocation='softmax_sum' and evidence='auto'",
            )
        alpha = {"global": 1.0, "local": 0.0}.get(self.score, self.alpha)
        sharpness = 0.0 if self.allocation == "uniform" else 1 / self.tau
        return RunningMeanStream(self.select, size, self._rates_of_frames, sharpness, alpha, self.coverage)

    def _rates_of_frames(self, importance: Tensor, ratio: float) -> Tensor:
        """Return the share (F,) of its tokens that each frame keeps; as `allocate` does."""
        live = torch.ones_like(importance, dtype=torch.bool)
        if self.allocation == "uniform":
            return ratio * live.double()
        return (ratio * softmax_rates(importance, live, len(importance), self.tau)).clamp(max=1.0)

    @cached_property
    def _attention_key(self) -> Evidence:
        if self.evidence in get_args(Quantity):
            return Evidence(cast(Quantity, self.evidence), self.layer)
        return Evidence("cls_logits", self.layer)

    def _attention_evidence(self, tokens: VisualTokens) -> Tensor | None:
        """Return the attention evidence (N,) in float32 or better, or None where scores start from distances."""
        if self.evidence == "distance" or (self.evidence == "auto" and tokens.layout.modality == "video"):
            return None
        attention = tokens.evidence.get(self._attention_key)
        if attention is None and self.evidence != "auto":
            raise UnsupportedInputError(
                f"evidence={self.evidence!r} needs {self._attention_key}, but the tokens came with "
                f"{list(tokens.evidence) or 'no evidence'}; use evidence='distance' or pass it in VisualTokens"
            )
        return None if attention is None else attention.to(working_dtype(attention))


def gated_views(commander: Commander, layout: Layout, needed: float, policy: Policy = "exact") -> Tensor:
    """Return the mask (V,) bool of the views that may send tokens: the thumbnail, and the crops of largest sum.

    The crops that stay hold, with the thumbnail, the tokens needed; at least one crop stays.

    Args:
        commander: commander of an image.
        layout: layout of the image.
        needed: tokens that the views must hold.
        policy: as in `allocate`.
    """
    crops = [
        view.kind not in GLOBAL_VIEWS and size > 0
        for view, size in zip(layout.views, layout.sizes, strict=True)
    ]
    live = torch.tensor(crops, device=layout.view.device)
    sums = torch.nan_to_num(over_views(commander, layout, "sum", policy))
    order = best_first(torch.where(live, sums, -torch.inf))
    sizes = layout.sizes_tensor[:-1][order]
    others = sum(size for size, crop in zip(layout.sizes, crops, strict=True) if not crop)
    held = others + sizes.cumsum(0) - sizes  # before each crop, the best first
    place = torch.arange(len(crops), device=order.device)
    stays = torch.zeros_like(live).index_copy(0, order, (held < needed) | (place == 0))
    if layout.canvas is None:  # the commander cannot tell the crops apart
        stays = torch.ones_like(live)
    return stays & live | ~live


def redistribute(weights: Tensor, gate: Tensor, crops: Tensor) -> Tensor:
    """Return the weights (V,) of the views; crops outside the gate hand theirs on to the other crops."""
    left = torch.where(crops & gate, weights, 0.0)
    share = torch.where(crops, weights, 0.0).sum() / left.sum().clamp(min=EPSILON)
    return torch.where(crops, left * share, weights)


def _among_zeros(values: Tensor, layout: Layout) -> Tensor:
    """Return (N, ...): the values of the thumbnail's tokens (n, ...) at their positions, and zeros elsewhere."""
    number = next(number for number, view in enumerate(layout.views) if view.kind in GLOBAL_VIEWS)
    places = layout.table[number, : layout.sizes[number]]
    return values.new_zeros((len(layout), *values.shape[1:])).index_copy(0, places, values)


def _count(mask: Tensor) -> int:
    """Count the entries that are set. Synchronises the device, which only the authors' counts need."""
    return int(mask.sum().item())

"""VidCom2 (EMNLP 2025): keep frames and tokens that differ from the others. Videos only.

Formulas from the paper and its code (xuyang-liu16/VidCom2 @ 944a17d); the global reconciliation to an exact count
follows the port in vLLM (module video_prune.vidcom2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from vidcompress.checks import one_of, require_numbers
from vidcompress.core.batch import VisualBatch, check_coverage
from vidcompress.core.budget import VisualBudget, tokens_to_keep
from vidcompress.core.layout import Layout, Modality, _first
from vidcompress.core.method import ScoredMethod, register_method
from vidcompress.core.reductions import (
    EPSILON,
    blocks,
    by_visual,
    in_groups,
    products,
    products_with_each,
    rows_per_block,
    sums_per_view,
    to_positions,
    weighted_sums,
    working_dtype,
)
from vidcompress.core.report.visual import Allotment
from vidcompress.core.scoring import ratios_of, softmax_of_views
from vidcompress.core.selection import Selection, best_first, rank_within_views, with_separators
from vidcompress.core.stream.shared import SharedStream
from vidcompress.core.stream.stream import Stream, StreamSize, whole_clip
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError, shown

Reconcile = Literal["largest_remainder", "global"]
_MEANING = "minus the mean similarity of the frame's tokens to the clip's mean"


class VidCom2Scores(NamedTuple):
    """Scores of VidCom2 for B clips of one shape.

    Attributes:
        channels: (B, C share) int64, the least varying channels of each clip, ascending.
        similarity: (N,) v + f, Gaussian similarity to the clip's mean plus that to the frame's mean; low is kept.
        frame: (V,) float64, u_t = minus the mean of v over frame t; high values are important.
    """

    channels: Tensor
    similarity: Tensor
    frame: Tensor


@register_method
@dataclass(frozen=True)
class VidCom2(ScoredMethod):
    """The tokens of each frame that differ from clip and frame; frames that differ from the clip keep more.

    Attributes:
        tau: temperature of the softmax over frames; above 0.
        channel_share: share of the channels that are used, those of least variance over the clip; (0, 1].
        widths: squared widths a of the Gaussian kernels exp(-d^2 / 2a); each above 0.
        reconcile: how `exact` meets the budget. `largest_remainder` splits it over the frames as other methods do;
            `global` (vLLM's) rounds per frame as the authors do, then drops the kept tokens of largest v + f, or adds
            the dropped tokens of smallest, anywhere in the clip.
        coverage: share of a budget below the number of frames that is spread evenly over time (ours), 0 to 1; for
            `largest_remainder` only.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "vidcom2"
    summary: ClassVar[str] = "frames unlike the clip keep more, tokens unlike clip and frame are kept"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})

    tau: float = 0.01
    channel_share: float = 0.5
    widths: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
    reconcile: Reconcile = "largest_remainder"
    coverage: float = 0.0

    def __post_init__(self) -> None:
        check_coverage(self.coverage)
        require_numbers(tau=self.tau, channel_share=self.channel_share)
        if not isinstance(self.widths, (tuple, list)):
            raise ArgumentError(f"widths must be a list of numbers above 0, got {shown(self.widths)}")
        require_numbers(**{f"widths[{i}]": width for i, width in enumerate(self.widths)})
        object.__setattr__(self, "widths", tuple(float(width) for width in self.widths))
        if not 0 < self.tau < float("inf"):
            raise ArgumentError(f"tau must be a number above 0, got {self.tau!r}; the paper uses 0.01")
        if not 0 < self.channel_share <= 1:
            raise ArgumentError(
                f"channel_share must be above 0 and at most 1, got {self.channel_share!r}; use 0.5"
            )
        if not self.widths or not all(width > 0 for width in self.widths):
            raise ArgumentError(f"widths must be one or more numbers above 0, got {self.widths!r}")
        one_of("reconcile", self.reconcile, ("largest_remainder", "global"))

    def measure(self, clips: VisualBatch) -> VidCom2Scores:
        """Compute the scores of B clips of one shape in float32 (float64 for float64 features)."""
        layout, visuals = clips.layout, len(clips.visuals)
        variance = channel_variance(clips)
        size = max(1, int(variance.shape[1] * self.channel_share))
        channels = torch.argsort(variance, stable=True)[:, :size].sort().values
        close, squares, scales = [], [], []
        total = variance.new_zeros((visuals, size), dtype=working_dtype(clips.features))
        for x, mask in blocks(clips):
            x = _columns(x, channels)
            norm = torch.linalg.vector_norm(x, dim=-1)
            scale = mask / norm.clamp(min=EPSILON)
            sums = weighted_sums(scale, x)
            means = sums / mask.sum(1, keepdim=True).clamp(min=1)
            square = (norm * scale).square()  # 1, or 0 for a token that is zero
            distance = square + means.square().sum(-1, keepdim=True) - 2 * products(x, means) * scale
            close.append(self._kernels(distance))
            squares.append(square)
            scales.append(scale)
            total = total + by_visual(clips, sums)
        mean = total / max(1, layout.num_tokens // visuals)
        row = mean.new_zeros(variance.shape).scatter(1, channels, mean)
        to_mean = rearrange(to_positions(clips, squares), "(b n) -> b n", b=visuals)
        to_mean = rearrange(to_mean + mean.square().sum(-1, keepdim=True), "b n -> (b n)")
        distance = to_mean - 2 * products_with_each(clips, row) * to_positions(clips, scales)
        to_clip = self._kernels(distance)
        frame = -sums_per_view(to_clip.to(torch.float64), layout) / layout.sizes_tensor[:-1].clamp(min=1)
        return VidCom2Scores(channels, to_clip + to_positions(clips, close), frame)

    def scores(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> tuple[Tensor, Allotment]:
        """Return minus the similarity (N,), and the frame weights, with u_t; clips of one shape at once."""

        def measure(clips: VisualBatch, numbers: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
            measured = self.measure(clips)
            ratios = ratios_of([budgets[number] for number in numbers], measured.frame.device)
            scales = self.scales(measured.frame.view(len(clips.visuals), -1), ratios)
            return measured.similarity, measured.frame, scales.flatten()

        similarity, frame, scales = in_groups(batch, measure, "NVV", used=self.channel_share)
        weights = batch.layout.sizes_tensor[:-1] * scales
        return -similarity, Allotment(weights, frame, _MEANING, coverage=self.coverage)

    def scales(self, frame: Tensor, ratio: float | Tensor) -> Tensor:
        """Return scale_t = min(1, R (1 + p_t - mean p)), p = softmax((u - max u) / tau): (T,) or (B, T) float64."""
        share = softmax_of_views(frame, torch.ones_like(frame, dtype=torch.bool), self.tau)
        rates = ratio * (1 + share - share.mean(-1, keepdim=True))
        return torch.where(rates.isnan(), ratio, rates).clamp(max=1.0)

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Keep the authors' counts; each frame sends its kept tokens, then all its separators."""
        layout = tokens.layout
        scores, allotment = self.scores(VisualBatch([tokens]), [budget])
        kept = self._rounded(scores, allotment.weights, layout) | layout.separator
        index = _first(kept, int(kept.sum().item()))
        # A separator belongs to the frame whose tokens precede it.
        frame = layout.view.masked_fill(layout.separator, -1).cummax(0).values
        order = torch.argsort(frame[index] * 2 + layout.separator[index], stable=True)
        return Selection(index[order], allotment=allotment, scores=scores)

    def _exact(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """As every other method does it, or reconciled over each clip."""
        if self.reconcile == "largest_remainder":
            return super()._exact(batch, budgets)
        scores, allotment = self.scores(batch, budgets)
        layouts, parts = [one.layout for one in batch.visuals], allotment.split(batch.views)
        return list(map(self._reconciled, layouts, scores.split(batch.lengths), parts, budgets))

    def _reconciled(
        self, layout: Layout, scores: Tensor, allotment: Allotment, budget: VisualBudget
    ) -> Selection:
        kept = self._rounded(scores, allotment.weights, layout)
        # Kept tokens first, then dropped ones, best first in both: the first `total` are what adding or dropping
        # one token at a time arrives at.
        best, total = best_first(scores), tokens_to_keep(layout, budget)
        tier = torch.where(layout.separator, 2, torch.where(kept, 0, 1))
        chosen = best[torch.argsort(tier[best], stable=True)][:total].sort().values
        sent = with_separators(layout, chosen, budget.separators)
        return Selection(sent, allotment=allotment, scores=scores)

    def _rounded(self, scores: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        """Return (N,) bool: the best k_t = max(1, round half to even(scale_t n)) tokens of each frame."""
        limits = torch.cat((weights.round().clamp(min=1), weights.new_zeros(1)))
        return rank_within_views(scores, layout) < limits[layout.view]

    def stream(self, size: StreamSize) -> Stream:
        """Return a stream whose scores are frozen when a frame comes, or at the first eviction; see `FrozenStream`.

        Raises:
            UnsupportedInputError: `reconcile="global"`, which trades tokens between frames.
        """
        if self.reconcile == "global":
            whole_clip("'vidcom2' with reconcile='global'", "reconcile='largest_remainder'")
        return FrozenStream(self, size)

    def _kernels(self, squared: Tensor) -> Tensor:
        squared = squared.clamp(min=0)  # rounding can make the distance to a token's own mean negative
        return sum((torch.exp(squared / (-2 * width)) for width in self.widths), torch.zeros_like(squared))


class FrozenStream(SharedStream):
    """VidCom2 as frames come: a token's similarity, and u_t of its frame, stay as they were when the frame came.

    The clip's channels and mean are those of the frames until then; the frames before the first eviction have those of
    all of them. Sums of tokens keep the norms that they were divided by. So nothing is proven about `select`.
    """

    def __init__(self, method: VidCom2, size: StreamSize) -> None:
        super().__init__(method.select, size, method.coverage)
        self.method = method
        self.sums: dict[
            str, Tensor
        ] = {}  # (D,) float64: first and second moments, and tokens over their norms

    def _arrive(self, features: Tensor, row: int) -> None:
        together = not self.evictions
        if together and not self._arrived:
            self._take_all()
        x, shift = features.to(working_dtype(features)), self.own["shift"]
        count = torch.tensor([self.frames * features.shape[1]], device=x.device)
        if not together:
            moments = (x - shift.to(x.dtype)).double()
            first, second = self._add("first", moments), self._add("second", moments.square())
            count = torch.arange(1, len(x) + 1, device=x.device) * x.shape[1] + self._arrived * x.shape[1]
        else:
            first, second = self.own["first"][None], self.own["second"][None]
        channels = self._channels(first, second, count[:, None]).expand(len(x), -1)
        picked = x.gather(2, channels[:, None].expand(-1, x.shape[1], -1))
        scale = 1 / torch.linalg.vector_norm(picked, dim=-1, keepdim=True).clamp(min=EPSILON)
        total = self.own["total"][None] if together else self._add("total", (x * scale).double())
        mean = total.expand(len(x), -1).gather(1, channels) / count[:, None]
        unit = picked * scale
        far = [(unit - centre[:, None].to(unit.dtype)).square().sum(-1) for centre in (mean, unit.mean(1))]
        to_clip, to_frame = map(self.method._kernels, far)
        self.table.write(row, score=-(to_clip + to_frame).flatten())
        at, importance = 0, -to_clip.double().mean(1)
        while at < len(x):
            part = slice(at, at + self.rows.room(len(x) - at))
            self.rows.add({"importance": importance[part]})
            at = part.stop

    def _take_all(self) -> None:
        """Take sums (D,) float64 over all frames held: of tokens less a first one, their squares, and unit tokens."""
        features = self.table["features"]
        self.own["shift"] = features[0].double()
        blocks_ = features.split(rows_per_block(features, features.shape[1]))
        for name, power in (("first", 1), ("second", 2)):
            self.own[name] = sum(
                ((x.double() - self.own["shift"]) ** power).sum(0) for x in blocks_
            ) + torch.zeros_like(self.own["shift"])
        count = torch.tensor([[len(features)]], device=features.device)
        channels = self._channels(self.own["first"][None], self.own["second"][None], count)[0]
        total = torch.zeros_like(self.own["shift"])
        for block in blocks_:
            x = block.to(working_dtype(features))
            norm = torch.linalg.vector_norm(x[:, channels], dim=1, keepdim=True)
            total += (x / norm.clamp(min=EPSILON)).sum(0, dtype=torch.float64)
        self.own["total"] = total

    def _add(self, name: str, values: Tensor) -> Tensor:
        """Add tokens (k, n, D) to a sum, and return it after each frame: (k, D)."""
        after = self.own[name] + values.sum(1).cumsum(0)
        self.own[name] = after[-1].clone()
        return after

    def _channels(self, first: Tensor, second: Tensor, count: Tensor) -> Tensor:
        """Return the least varying channels (k, C), ascending."""
        variance = second / count - (first / count).square()
        size = max(1, int(variance.shape[1] * self.method.channel_share))
        return torch.argsort(variance, dim=1, stable=True)[:, :size].sort(1).values

    def _weights(self, ratio: float) -> Tensor:
        frames = self._sizes() / self.frame_size
        return self._sizes() * self.method.scales(self.rows["importance"] / frames, ratio)

    def _scores(self) -> Tensor:
        return self.table["score"]


def _columns(x: Tensor, channels: Tensor) -> Tensor:
    """Return the channels (B, C) of views (v, L, D) of B clips: (v, L, C)."""
    visuals = channels.shape[0]
    if visuals == 1:
        return x.flatten(0, 1).index_select(1, channels[0]).view(*x.shape[:2], channels.shape[1])
    rows = rearrange(x, "(b t) l d -> b (t l) d", b=visuals)
    columns = rows.gather(2, repeat(channels, "b c -> b n c", n=rows.shape[1]))
    return rearrange(columns, "b (t l) c -> (b t) l c", l=x.shape[1])


def channel_variance(clips: VisualBatch) -> Tensor:
    """Return the biased variance (B, C) float64 of each channel over all tokens of a clip, without separators.

    One pass over the features shifted by the first token, which is near enough to the mean for float32.
    """
    visuals = len(clips.visuals)
    features = rearrange(clips.features, "(b n) d -> b n d", b=visuals)
    mask = (~clips.layout.separator).to(working_dtype(features))
    mask = rearrange(mask, "(b n) -> b n", b=visuals)
    count = max(1, clips.layout.num_tokens // visuals)
    shift = features[:, :1].to(mask.dtype)
    first = mask.new_zeros((visuals, features.shape[-1]), dtype=torch.float64)
    second = first.clone()
    step = max(1, rows_per_block(features, features.shape[-1]) // visuals)
    for x, m in zip(torch.split(features, step, dim=1), torch.split(mask, step, dim=1), strict=True):
        y = x.to(mask.dtype) - shift
        first += weighted_sums(m, y)
        second += weighted_sums(m, y.square_())
    return second / count - (first / count).square()

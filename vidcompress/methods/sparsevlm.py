"""SparseVLM (arXiv 2410.04417): text tokens that match the image rate its visual tokens in three layers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from vidcompress.checks import flag
from vidcompress.core.method import Positions, register_method
from vidcompress.core.pruning.method import Between, InLLMMethod, visual_attention
from vidcompress.ops.clustering import cluster_means, density_peaks

_OF = 576
_NAMED: dict[int, tuple[int, ...]] = {
    192: (300, 200, 110),
    128: (303, 110, 36),
    96: (238, 48, 26),
    64: (66, 30, 17),
}
_NAMED_2: dict[int, tuple[int, ...]] = {
    192: (300, 200, 118),
    128: (238, 108, 60),
    96: (246, 54, 28),
    64: (66, 34, 20),
}
"""Tokens kept of 576 behind layers 2, 6 and 15 of 32, by the setting's name."""


@register_method
@dataclass(frozen=True)
class SparseVLM(InLLMMethod):
    """The visual tokens that the raters attend to most, after layers 2, 6 and 15 of 32; the best others are merged.

    Raters are the text tokens behind the image whose mean share of the visual tokens' softmax over text, computed once
    on the input embeddings, is above average. Of P pruned tokens int(0.3 P) + 1 are clustered into a tenth as many.

    Attributes:
        schedule: see `InLLMMethod`. Counts are interpolated between the authors' settings "64" and "192".
        recycle: whether pruned tokens are merged into new ones.
    """

    name: ClassVar[str] = "sparsevlm"
    summary: ClassVar[str] = (
        "inside, at layers 3, 7 and 16 of 32: what the question's telling words attend to; merges"
    )
    positions: ClassVar[Positions] = "contiguous"
    source: ClassVar = "previous"
    asks: ClassVar = "text"
    depths: ClassVar[tuple[Fraction, ...]] = (Fraction(3, 32), Fraction(7, 32), Fraction(16, 32))
    usual: ClassVar[Fraction] = Fraction(36, 100)
    named: ClassVar[dict[int, tuple[int, ...]]] = _NAMED

    recycle: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("recycle", self.recycle)

    def counts(self, total: int, level: Fraction) -> list[int]:
        """Interpolate linearly in the level: no token, the setting "64", the setting "192", all tokens."""
        knots = [(Fraction(0),) * 3, *(tuple(Fraction(k, _OF) for k in self.named[n]) for n in (64, 192))]
        knots.append((Fraction(1),) * 3)
        place = level * (len(knots) - 1)
        lower = min(int(place), len(knots) - 2)
        shares = [a + (b - a) * (place - lower) for a, b in zip(knots[lower], knots[lower + 1], strict=True)]
        return [max(1, int(total * share)) for share in shares]

    def reference_counts(self, total: int, ratio: Fraction) -> list[int]:
        """Return the counts of the authors' setting nearest to the ratio (192, 128, 96 or 64 of 576 tokens)."""
        setting = min(self.named, key=lambda name: (abs(Fraction(name, _OF) - ratio), -name))
        return [int(total * Fraction(k, _OF)) for k in self.named[setting]]

    def merged(self, pruned: int) -> int:
        """Return the number of clusters: a tenth of the recycled tokens and one more, or 0 without recycling."""
        return recycled(pruned)[1] if self.recycle else 0

    def weigh(self, embeddings: Tensor, visual: Tensor, queries: Tensor) -> Tensor:
        """Return weight 1 for the raters and 0 for other text tokens."""
        states = embeddings.float()
        text = states[:, -queries.shape[1] :]
        logits = (states @ text.transpose(1, 2)).masked_fill(
            ~queries[:, None], torch.finfo(torch.float32).min
        )
        of_visual = visual[:, :, None].float()
        share = (logits.softmax(dim=-1) * of_visual).sum(dim=1) / of_visual.sum(dim=1).clamp(min=1)
        count = queries.sum(dim=1, keepdim=True).clamp(min=1)
        mean = (share * queries).sum(dim=1, keepdim=True) / count
        raters = queries & (share > mean)
        # Without a token above the mean (one word, or equal shares) all are raters.
        raters = torch.where(raters.any(dim=1, keepdim=True), raters, queries)
        return raters.float()

    def score(self, between: Between) -> Tensor:
        """Return the attention of the raters, averaged over raters and heads."""
        return visual_attention(between)

    def merge(
        self, between: Between, scores: Tensor, kept: Tensor, pruned: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cluster the best pruned tokens, row by row, and return the means, the centres and which of them are used."""
        sizes = [recycled(count) for count in pruned]
        counts = [clusters for _, clusters in sizes]
        left = scores.masked_fill(kept, -torch.inf).argsort(dim=1, descending=True, stable=True)
        b, most = len(counts), max(counts)
        features = between.hidden.new_zeros((b, most, between.hidden.shape[2]))
        centre = torch.zeros((b, most), dtype=torch.int64, device=features.device)
        for row, (members, clusters) in enumerate(sizes):
            if clusters:
                columns = left[row, :members]
                tokens = between.hidden[row, columns].float()
                peaks, cluster = density_peaks(tokens, clusters, min(clusters, members))
                features[row, :clusters] = cluster_means(tokens, cluster, clusters).to(features.dtype)
                centre[row, :clusters] = columns[peaks]
        limit = torch.tensor(counts, device="cpu").to(features.device)[:, None]
        return features, centre, torch.arange(most, device=features.device) < limit


def recycled(pruned: int) -> tuple[int, int]:
    """Return the number of pruned tokens that are clustered, and the number of clusters."""
    if pruned <= 0:
        return 0, 0
    members = int(Fraction(3, 10) * pruned) + 1
    members = min(members, pruned)
    return members, min(members // 10 + 1, members)


@register_method
@dataclass(frozen=True)
class SparseVLM2(SparseVLM):
    """SparseVLM's second version: no merging, original positions, attention divided by rotary decay, the best heads.

    Attributes:
        recycle: as in `SparseVLM`; off in this version.
    """

    name: ClassVar[str] = "sparsevlm2"
    summary: ClassVar[str] = (
        "as sparsevlm in its second version: nothing merged, the 14 of 32 heads that look most"
    )
    positions: ClassVar[Positions] = "original"
    named: ClassVar[dict[int, tuple[int, ...]]] = _NAMED_2

    recycle: bool = False

    def score(self, between: Between) -> Tensor:
        """Divide attention by that of rotary embeddings alone, and average over the heads with the largest sums."""
        cos, sin = (part.float() for part in between.rotary)
        count = between.attention.shape[2]
        plain = cos[:, -count:] @ cos.transpose(1, 2) + sin[:, -count:] @ sin.transpose(1, 2)
        plain = plain / cos.shape[-1] ** 0.5
        plain = torch.where(plain.abs() < 1e-6, torch.full_like(plain, 1e-6), plain)
        weighted = between.attention / plain[:, None] * between.weights[:, None, :, None]
        to_visual = (weighted * between.visual[:, None, None]).sum(dim=(2, 3))
        heads = max(1, round(Fraction(14, 32) * to_visual.shape[1]))
        best = to_visual.argsort(dim=1, descending=True, stable=True)[:, :heads]
        rows = weighted.sum(dim=2) / between.weights.sum(dim=1)[:, None, None].clamp(min=1e-12)
        return rows.gather(1, best[:, :, None].expand(-1, -1, rows.shape[2])).mean(dim=1)

"""GlobalCom2 (arXiv 2501.05179, AAAI 2026): the global view says what each local view is worth, and where.

Image formulas as in the authors' code (xuyang-liu16/GlobalCom2 @ 96b2d00); the video form follows the paper,
for which no code was published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from ..budget import Plan
from ..errors import ArgumentError, UnsupportedInputError
from ..moments import distances, working_dtype
from ..registry import register_method
from ..scoring import Allocation, Commander, Score, allocate, commander_of_image, token_scores
from ..selection import Selection, rank_within_views
from ..views import Evidence, Layout, Modality, Quantity, VisualTokens, _first
from .base import ScoredMethod

EvidenceOption = Literal["auto", "cls_logits", "cls_attention", "attention_received", "distance"]
ALLOCATIONS = ("uniform", "topk", "softmax_max", "softmax_sum")


@register_method
@dataclass(frozen=True)
class GlobalCom2(ScoredMethod):
    """Crops and frames share the budget by what the global view says of them; tokens by global plus local score.

    Attributes:
        tau: temperature of the softmax over views, in units of summed evidence; above 0.
        alpha: weight of the global score, 0 to 1; the local score has 1 - alpha.
        allocation: `softmax_sum` (the paper's), `softmax_max`, `topk`, `uniform`.
        score: `holistic` (the paper's), `global`, `local`.
        evidence_from: `auto` is `cls_logits` for images when the encoder has a CLS token, else `distance`.
        layer: encoder layer of attention evidence; negative counts from the last.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "globalcom2"
    summary: ClassVar[str] = "the thumbnail (or the whole clip) decides how much each crop (or frame) keeps, and what"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})

    tau: float = 10.0
    alpha: float = 0.5
    allocation: Allocation = "softmax_sum"
    score: Score = "holistic"
    evidence_from: EvidenceOption = "auto"
    layer: int = -1

"""Encoder training, the first lesson: labels of patches, and of a view at its CLS token where there is one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tiny import native
from tiny.architecture import GRID, NATIVE
from tiny.views import IGNORE, TAGS, Views
from vidcompress.tools.evaluation.shapes.vocabulary import COLORS, SHAPES

STATISTICS: Final = {
    "tiny-onevision": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "tiny-next": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    NATIVE: ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
}
"""Model name to the per-channel mean and standard deviation of its preprocessing."""


class Heads(nn.Module):
    """Linear read-outs that exist only during training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.color = nn.Linear(width, 1 + len(COLORS))
        self.shape = nn.Linear(width, 1 + len(SHAPES))
        self.digit = nn.Linear(width, 11)
        self.row = nn.Linear(width, GRID)
        self.column = nn.Linear(width, GRID)
        self.tags = nn.Linear(width, TAGS)


def normalise(pixels: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """Turn uint8 (N, 112, 112, 3) into float32 (N, 3, 112, 112), normalised as `name`'s processor does."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in STATISTICS[name])
    return (torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std


def look(model: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Encode views.

    Args:
        model: one of the two models.
        pixels: float32 (N, 3, 112, 112), normalised.

    Returns:
        The patch features the projector reads, (N, 64, width), and the CLS token of the last layer,
        (N, width), or None for an encoder without one.
    """
    outputs = model.model.vision_tower(pixels, output_hidden_states=True, return_dict=True)
    features = outputs.hidden_states[model.config.vision_feature_layer]
    if model.config.vision_feature_select_strategy == "default":
        return features[:, 1:], outputs.pooler_output
    return features, None


def look_at_views(model: Any, pixels: np.ndarray, name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Encode labelled views, uint8 (N, 112, 112, 3) or pairs of frames; returns what `look` returns."""
    if name != NATIVE:
        return look(model, normalise(pixels, name).to(model.device))
    final = native.look(model, torch.as_tensor(native.patches(pixels)).to(model.device), (GRID, GRID))[-1]
    return final[:, native.row_major(GRID, GRID)], None


def tags_loss(heads: Heads, cls: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Multi-label loss of the CLS token: (N, width) against (N, TAGS), where 2 means not asked."""
    asked = tags != 2
    loss = F.binary_cross_entropy_with_logits(heads.tags(cls).float(), (tags == 1).float(), reduction="none")
    return (loss * asked).sum() / asked.sum()


def labels_loss(model: Any, heads: Heads, views: Views, name: str) -> torch.Tensor:
    """Loss of the first lesson on a batch of labelled views."""
    features, cls = look_at_views(model, views.pixels, name)
    device = features.device
    total = torch.zeros((), device=device)
    for key, weight in (("color", 1.0), ("shape", 1.0), ("digit", 1.5)):
        logits = getattr(heads, key)(features).float().flatten(0, 1)
        target = torch.as_tensor(getattr(views, key)).flatten().to(device)
        importance = torch.ones(logits.shape[-1], device=device)
        importance[0] = 0.25
        total = total + weight * F.cross_entropy(logits, target, weight=importance, ignore_index=IGNORE)
    place = torch.arange(GRID * GRID, device=device)
    for head, target in ((heads.row, place // GRID), (heads.column, place % GRID)):
        logits = head(features).float().flatten(0, 1)
        total = total + 0.1 * F.cross_entropy(logits, target.repeat(len(features)))
    if cls is not None:
        total = total + 4.0 * tags_loss(heads, cls, torch.as_tensor(views.tags).to(device))
    return total


@torch.no_grad()
def labels_accuracy(model: Any, heads: Heads, views: Views, name: str) -> dict[str, float]:
    """Share of foreground patches labelled right per quantity, and of tags found by CLS (recall at the true number)."""
    hits: dict[str, list[float]] = {}
    for start in range(0, len(views.pixels), 64):
        part = slice(start, start + 64)
        features, cls = look_at_views(model, views.pixels[part], name)
        for key in ("color", "shape", "digit"):
            target = torch.as_tensor(getattr(views, key)[part])
            guess = getattr(heads, key)(features).argmax(-1).cpu()
            hits.setdefault(key, []).extend((guess == target)[target > 0].float().tolist())
            hits.setdefault(f"no {key}", []).extend((guess == 0)[target == 0].float().tolist())
        if cls is not None:
            tags = torch.as_tensor(views.tags[part])
            guess = (heads.tags(cls) > 0).cpu()
            hits.setdefault("tags found", []).extend(guess[tags == 1].float().tolist())
            hits.setdefault("tags rejected", []).extend((~guess)[tags == 0].float().tolist())
    return {key: float(np.mean(values)) for key, values in hits.items()}

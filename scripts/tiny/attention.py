"""An attention for training on small sequences: plain products, several times faster than the fused one on CPUs.

Same mathematics; only the training uses it, the exported models choose theirs as every transformers model does.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import AttentionInterface

NAME: Final = "plain-products"


def plain_products(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend: query (B, H, L, d), key and value (B, H / groups, S, d), additive mask; returns (B, L, H, d)."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    scores = torch.matmul(query * scale, key.transpose(-1, -2))
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.float().softmax(-1).to(value.dtype)
    return torch.matmul(weights, value).transpose(1, 2), None


def use(model: Any) -> None:
    """Make every attention of `model` use the plain products."""
    AttentionInterface.register(NAME, plain_products)
    model.set_attn_implementation(NAME)

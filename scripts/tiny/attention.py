"""Attention for training on CPUs: plain products in bfloat16, several times faster than the fused kernels there.

Same mathematics; only the training uses it, the exported models choose theirs as every transformers model does.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import AttentionInterface

NAME: Final = "plain-products"


class _Products(torch.autograd.Function):
    """softmax(q k^T + mask) v, one sample at a time so that its scores stay in the cache; the weights are kept."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
        """Attend: query (B, G, n, d), key and value (B, G, S, d), mask None or (B, n, S); returns (B, G, n, d)."""
        with torch.autocast("cpu", enabled=False):
            weights, results = [], []
            for row in range(len(query)):
                if mask is None:
                    scores = torch.bmm(query[row], key[row].transpose(1, 2))
                else:
                    blocked = mask[row].expand(query.shape[1], -1, -1)
                    scores = torch.baddbmm(blocked, query[row], key[row].transpose(1, 2))
                weights.append(torch.softmax(scores, -1))
                results.append(torch.bmm(weights[-1], value[row]))
        ctx.save_for_backward(query, key, value, *weights)
        return torch.stack(results)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:  # type: ignore[override]
        """Go back through the products of every sample."""
        query, key, value, *weights = ctx.saved_tensors
        to_query, to_key, to_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        with torch.autocast("cpu", enabled=False):
            for row, weight in enumerate(weights):
                torch.bmm(weight.transpose(1, 2), gradient[row], out=to_value[row])
                to_weight = torch.bmm(gradient[row], value[row].transpose(1, 2))
                to_score = torch._softmax_backward_data(to_weight, weight, -1, weight.dtype)
                torch.bmm(to_score, key[row], out=to_query[row])
                torch.bmm(to_score.transpose(1, 2), query[row], out=to_key[row])
        return to_query, to_key, to_value, None


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
    query, key = query.to(value.dtype), key.to(value.dtype)  # normalised ones come in float32 under autocast
    batch, heads, length, width = query.shape
    kinds = key.shape[1]
    groups = heads // kinds
    scale = scaling if scaling is not None else width**-0.5
    folded = (query * scale).reshape(batch, kinds, groups * length, width)
    mask = None
    if attention_mask is not None:
        mask = attention_mask[:, 0].to(query.dtype).repeat(1, groups, 1)
    result = _Products.apply(folded, key.contiguous(), value.contiguous(), mask)
    return result.view(batch, heads, length, width).transpose(1, 2), None


def use(model: Any) -> None:
    """Make every attention of `model` use the plain products."""
    AttentionInterface.register(NAME, plain_products)
    model.set_attn_implementation(NAME)

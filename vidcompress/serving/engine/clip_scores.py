"""CLS evidence of CLIP in vLLM, which builds the encoder no further than the features: further layers for scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from vllm.distributed import tensor_model_parallel_all_reduce
from vllm.model_executor.layers.attention import MMEncoderAttention
from vllm.model_executor.models.clip import CLIPEncoderLayer

from vidcompress.core.tokens import Evidence, Quantity


class ScoringEncoder(nn.Module):
    """Encoder that also gives scores: the layers that vLLM built, and further ones where the scores are of a later one.

    Args:
        layers: those that vLLM built, whose last output is the features.
        config: of the encoder.
        evidence: of the CLS token, in the last layer (-1) or in that of the features.
        quant_config, prefix: as of the layers.
    """

    def __init__(
        self,
        layers: nn.ModuleList,
        config: Any,
        evidence: Evidence,
        quant_config: Any = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        self.features_after, self.quantity = len(layers), evidence.quantity
        self.scored = len(layers) - 1 if evidence.layer == "features" else int(config.num_hidden_layers) - 1
        behind = [
            CLIPEncoderLayer(
                config, quant_config, prefix=f"{prefix}.layers.{number}", attn_cls=MMEncoderAttention
            )
            for number in range(len(layers), self.scored + 1)
        ]
        self.layers = nn.ModuleList([*layers, *behind])
        self.scores: Tensor | None = None

    def forward(self, inputs_embeds: Tensor, return_all_hidden_states: bool) -> Tensor:
        """Return the features (view, token, C), and keep the scores (view, patch) until `taken`."""
        if return_all_hidden_states:
            raise RuntimeError(
                "scores of several feature layers are not served; this is a mistake, please report it"
            )
        hidden = features = inputs_embeds
        for number, layer in enumerate(self.layers):
            if number == self.scored:
                self.scores = cls_scores(layer, hidden, self.quantity)
            if number >= self.features_after and number == self.scored:
                break  # of this layer only the scores are needed
            hidden = layer(hidden)
            if number + 1 == self.features_after:
                features = hidden
        return features

    def taken(self) -> Tensor:
        """Return the scores of the last run, and forget them."""
        scores, self.scores = self.scores, None
        if scores is None:
            raise RuntimeError("no scores: the encoder has not run; this is a mistake, please report it")
        return scores


def cls_scores(layer: Any, hidden: Tensor, quantity: Quantity) -> Tensor:
    """Return the head-mean of the CLS token's logits, or of their softmax, in one layer: (view, patch) float32.

    Args:
        layer: of the encoder; its heads may be split over ranks.
        hidden: its input, (view, token, C).
        quantity: `cls_logits` or `cls_attention`.
    """
    attention = layer.self_attn
    joint, _ = attention.qkv_proj(layer.layer_norm1(hidden))
    query, key, _ = joint.chunk(3, dim=-1)
    heads = attention.num_heads_per_partition
    query = query[:, 0].unflatten(-1, (heads, -1)).float()
    key = key.unflatten(-1, (heads, -1)).float()
    with torch.autocast(hidden.device.type, enabled=False):
        logits = torch.einsum("vhd,vkhd->vhk", query, key) * attention.scale
        summed = (logits if quantity == "cls_logits" else logits.softmax(-1)).sum(1)
    if attention.tp_size > 1:
        summed = tensor_model_parallel_all_reduce(summed)
    scores: Tensor = summed[:, 1:] / attention.num_heads
    return scores

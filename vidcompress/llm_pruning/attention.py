"""Attention rows of a decoder layer from its queries and keys, without the whole map."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from vidcompress.errors import UnsupportedModelError

Norm = Callable[[Tensor], Tensor]
"""Function that normalises (..., d) along its last axis."""

_ROTATED_IN_HALVES: WeakSet[Any] = WeakSet()
"""Rotary embeddings that passed `check_rotary`, kept because the check synchronises with the device."""


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary position embeddings in the half-split form of Llama, Qwen2 and Mistral.

    Args:
        states: (b, heads, n, d).
        cos, sin: (b or 1, n, d).
    """
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    rotated: Tensor = states * cos.unsqueeze(1) + turned * sin.unsqueeze(1)
    return rotated


def split_heads(states: Tensor, head_dim: int, norm: Norm | None = None) -> Tensor:
    """Reshape (b, n, heads * d) to (b, heads, n, d), each head normalised where the layer does that."""
    split: Tensor = states.unflatten(-1, (-1, head_dim))
    return (split if norm is None else norm(split)).transpose(1, 2)


def attention_rows(
    queries: Tensor,
    keys: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    head_dim: int,
    scaling: float,
    real: Tensor,
    norms: tuple[Norm | None, Norm | None] = (None, None),
) -> Tensor:
    """Compute softmax attention of the last q columns to all columns.

    Args:
        queries: (b, q, H * d) outputs of the layer's q_proj for the last q columns, before rotation.
        keys: (b, n, G * d) outputs of k_proj for all columns; G divides H (grouped queries).
        cos, sin: (b or 1, n, d) rotary embeddings of the columns.
        head_dim: d.
        scaling: of the scores, usually d ** -0.5.
        real: (b, n) bool, False at padding.
        norms: of the heads of queries and keys, before rotation; None for none.

    Returns:
        (b, H, q, n) float32; rows of padding columns have no meaning.
    """
    count, width = queries.shape[1], keys.shape[1]
    cos, sin = cos.float(), sin.float()
    q = rotate(split_heads(queries, head_dim, norms[0]).float(), cos[:, -count:], sin[:, -count:])
    k = rotate(split_heads(keys, head_dim, norms[1]).float(), cos, sin)
    b, heads, _, _ = q.shape
    groups = k.shape[1]
    grouped = q.reshape(b, groups, heads // groups * count, head_dim)
    scores = (grouped @ k.transpose(-1, -2)).reshape(b, heads, count, width) * scaling
    column = torch.arange(width, device=scores.device)
    visible = (column <= column[-count:, None]) & real[:, None, :]
    hidden = scores.masked_fill(~visible[:, None], torch.finfo(scores.dtype).min)
    return hidden.softmax(dim=-1)


def turned_keys(keys: Tensor, cos: Tensor, sin: Tensor, *, head_dim: int, norm: Norm | None = None) -> Tensor:
    """Return the keys (b, n, G * d) float32 of all columns, normalised head by head and rotated.

    Args:
        keys: (b, n, G * d) outputs of k_proj.
        cos, sin: (b or 1, n, d) rotary embeddings of the columns.
        head_dim: d.
        norm: of the heads, before rotation; None for none.
    """
    heads = split_heads(keys, head_dim, norm).float()
    return rotate(heads, cos.float(), sin.float()).transpose(1, 2).flatten(2)


def head_norms(attention: Any) -> tuple[Norm | None, Norm | None]:
    """Return the norms of the heads of queries and keys in an attention; None for each where there is none."""
    return getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)


def check_layer(layer: object, *, qk_norm: bool) -> None:
    """Refuse a decoder layer whose attention has another structure.

    Args:
        layer: of the decoder.
        qk_norm: whether it normalises queries and keys.

    Raises:
        UnsupportedModelError: no separate q_proj and k_proj, or queries and keys that are normalised otherwise than
            head by head before rotation.
    """
    attention = getattr(layer, "self_attn", None)
    parts = ("q_proj", "k_proj", "head_dim", "scaling")
    missing = [part for part in parts if not hasattr(attention, part)]
    if missing or not hasattr(layer, "input_layernorm"):
        raise UnsupportedModelError(
            f"decoder layer {type(layer).__name__} cannot be pruned inside: its self_attn must have "
            f"{', '.join(parts)}, as in Llama, Qwen2, Qwen3 and Mistral; use a method before the language model"
        )
    norms = head_norms(attention)
    widths = [getattr(getattr(norm, "weight", None), "shape", None) for norm in norms]
    if norms == (None, None) and not qk_norm:
        return
    if widths != [(attention.head_dim,)] * 2:  # type: ignore[union-attr]
        raise UnsupportedModelError(
            f"decoder layer {type(layer).__name__} cannot be pruned inside: it normalises queries and keys, and not "
            "head by head with a q_norm and a k_norm as in Qwen3; use a method before the language model"
        )


def check_rotary(decoder: Any, *, axes: int) -> None:
    """Refuse a decoder that rotates other pairs of channels than `rotate`.

    Args:
        decoder: with `rotary_emb`, and layers that passed `check_layer`.
        axes: of its positions.

    Raises:
        UnsupportedModelError: it rotates neighbouring channels (GLM, Cohere), a part of them, or otherwise in layers of
            another kind (Gemma 3); or it scales queries by their position (Ministral 3).
    """
    rotary, head_dim = decoder.rotary_emb, int(decoder.layers[0].self_attn.head_dim)
    if "layer_type" in inspect.signature(type(rotary).forward).parameters:
        raise UnsupportedModelError(
            f"decoder {type(decoder).__name__} cannot be pruned inside: its layers of one kind rotate queries and keys "
            "otherwise than those of another do; use a method before the language model"
        )
    rope = getattr(getattr(decoder, "config", None), "rope_parameters", None)
    if isinstance(rope, Mapping) and rope.get("llama_4_scaling_beta") is not None:
        raise UnsupportedModelError(
            f"decoder {type(decoder).__name__} cannot be pruned inside: it scales queries by their position "
            "(llama_4_scaling_beta), which behind a stage is another; use a method before the language model"
        )
    frequencies = getattr(rotary, "inv_freq", None)
    if rotary in _ROTATED_IN_HALVES or frequencies is None or frequencies.device.type == "meta":
        return
    ids = torch.arange(2, device=frequencies.device)[None]
    states = torch.zeros(1, 2, 1, device=frequencies.device)
    cos, _ = rotary(states, ids.expand(3, 1, 2) if axes > 1 else ids)
    first, second = cos.chunk(2, dim=-1)
    if cos.shape[-1] != head_dim or not torch.equal(first, second):
        raise UnsupportedModelError(
            f"decoder {type(decoder).__name__} cannot be pruned inside: it rotates neighbouring channels of queries "
            "and keys, or some of them only, and not both halves as Llama, Qwen2, Qwen3 and Mistral do; use a method "
            "before the language model"
        )
    _ROTATED_IN_HALVES.add(rotary)

"""Attention with masses once more: one row alone, query by query, in float64, without masks, hooks or a cache.

The rest of a decoder (projections, norms, rotary embeddings, experts, companions) is the stock code, whose attention
function is replaced by the one here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

NAME = "slow_mass"
"""No masks are registered under it, so that the stock model makes none."""

Columns = Callable[[int], tuple[Tensor, Tensor]]
"""Bias (n,) and presence (n,) bool of the columns in a layer, by its number."""

_columns: list[Columns] = []


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Softmax over the columns up to each query, (1, head, n, d) to (1, n, head, d); a column sees itself always."""
    bias, there = _columns[-1](module.layer_idx)
    share = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(share, dim=1)[0] for part in (key, value))
    rows = []
    for i in range(query.shape[2]):
        first = 0 if sliding_window is None else max(0, i - sliding_window + 1)
        seen = there[first : i + 1].clone()
        seen[-1] = True
        scores = key[:, first : i + 1] @ query[0, :, i, :, None]
        scores = scaling * scores[..., 0] + bias[first : i + 1].to(scores)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        rows.append((weights[:, None] @ value[:, first : i + 1])[:, 0])
    return torch.stack(rows)[None], None


AttentionInterface.register(NAME, attend)


@contextmanager
def with_columns(columns: Columns) -> Iterator[None]:
    """Attention sees these columns."""
    _columns.append(columns)
    try:
        yield
    finally:
        _columns.pop()


def slow_copy(model: Any, dtype: torch.dtype = torch.float64) -> Any:
    """Decoder of a model and its head, a copy in float64 that attends slowly."""
    decoder = copy.deepcopy(model.model.language_model).to(dtype)
    decoder.config._attn_implementation = NAME
    for layer in decoder.layers:
        layer.self_attn.config._attn_implementation = NAME
    decoder.slow_head = copy.deepcopy(model.lm_head).to(dtype)
    return decoder


@contextmanager
def taken_in(model: Any) -> Iterator[list[dict[str, Any]]]:
    """Arguments of every call of the decoder."""
    calls: list[dict[str, Any]] = []
    handle = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(dict(kwargs)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


def slow_logits(
    decoder: Any, call: dict[str, Any], row: int, real: Tensor, answer: Tensor, columns: Columns
) -> Tensor:
    """Logits (n, V) of one row, prompt and answer, run whole.

    Args:
        decoder: from `slow_copy`.
        call: arguments of the stock decoder's prefill, from `taken_in`.
        row: of them.
        real: (C,) bool, columns of the prompt that are no padding.
        answer: (A,) ids behind it.
        columns: bias and presence of all n = real columns + A.
    """
    dtype = next(decoder.parameters()).dtype
    states = call["inputs_embeds"][row, real].to(dtype)
    later = decoder.embed_tokens(answer)
    more: dict[str, Any] = {}
    positions = call.get("position_ids")
    if positions is not None:
        positions = positions[..., min(row, positions.shape[-2] - 1), :][..., real]
        behind = positions[..., -1:] + 1 + torch.arange(len(answer))
        more["position_ids"] = torch.cat((positions, behind), dim=-1).unsqueeze(-2)
    if call.get("visual_pos_masks") is not None:
        visual = call["visual_pos_masks"]
        number = torch.cumsum(visual.flatten(), 0).view_as(visual) - 1
        mine = visual[row] & real
        levels = [level[number[row, mine]].to(dtype) for level in call["deepstack_visual_embeds"]]
        more["visual_pos_masks"] = torch.cat((visual[row, real], torch.zeros(len(answer)).bool()))[None]
        more["deepstack_visual_embeds"] = levels
    with with_columns(columns):
        out = decoder(inputs_embeds=torch.cat((states, later))[None], use_cache=False, **more)
    logits: Tensor = decoder.slow_head(out.last_hidden_state)[0]
    return logits

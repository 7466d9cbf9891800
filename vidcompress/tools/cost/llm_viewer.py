"""Convention of LLM-Viewer (arXiv 2402.16363), by which the field mostly quotes TFLOPs.

It counts the language model alone, at n tokens: matrix products as 2 operations per multiply-add, softmax as 5 per
score, norms as 7, residual additions as 1 and the gated activation as 2 per channel of the hidden state. The
language-modelling head counts 1 per weight, for one token. Prefill sums to

    L [2n (2 d^2 + 2 d^2 G/H + 3 d m) + 4 n^2 d + 5 H n^2 + 18 n d] + d V.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from vidcompress.adapters.model_shape import DecoderShape
from vidcompress.tools.cost.devices import DEVICES, Device
from vidcompress.tools.cost.operations import Operation, total, total_seconds

BLOCK = 128
"""Most query rows of a block of its fused attention; fewer where heads are narrower."""


def undefined(shape: DecoderShape) -> str | None:
    """Return why its formula and FastV's say nothing of a decoder: not all layers attend to the whole prompt."""
    linear, windows = (sum(kind == name for kind in shape.kinds) for name in ("linear", "window"))
    if linear:
        return f"{linear} of {shape.layers} decoder layers are linear attention"
    if windows:
        return f"{windows} of {shape.layers} decoder layers attend within a window of {shape.window:,} tokens"
    return None


def layer(
    shape: DecoderShape, queries: int, keys: int, *, size: int = 2, fused: bool = False
) -> list[Operation]:
    """Count the operations of one decoder layer for one row.

    Args:
        shape: of the decoder.
        queries: tokens that the layer takes in: n at prefill, 1 while decoding.
        keys: tokens that they attend to, n.
        size: bytes of a number.
        fused: whether attention is one operation, as in FlashAttention.
    """
    d, prefill = shape.hidden, queries > 1
    kv = d * shape.kv_heads // shape.heads
    linear = [
        _linear("q", d, d, queries, size),
        *(_linear(name, d, kv, queries, size, cached=True) for name in ("k", "v")),
        _linear("out", d, d, queries, size),
        *(_linear(name, d, shape.ffn, queries, size) for name in ("gate", "up")),
        _linear("down", shape.ffn, d, queries, size),
    ]
    rows = queries * d * size
    point = [
        *(Operation(name, 7 * queries * d, load_act=rows, store_act=rows) for name in ("norm 1", "norm 2")),
        *(Operation(name, queries * d, load_act=rows, store_act=rows) for name in ("add 1", "add 2")),
        Operation("act", 2 * queries * d, load_act=2 * rows, store_act=rows),
    ]
    attention = (
        _fused(shape, queries, keys, size) if fused else _attention(shape, queries, keys, size, prefill)
    )
    return [*linear, *attention, *point]


def head(shape: DecoderShape, *, size: int = 2) -> Operation:
    """Count the language-modelling head for one token of one row."""
    d, vocab = shape.hidden, shape.base_vocab
    return Operation(
        "lm_head", d * vocab, load_weight=d * vocab * size, load_act=d * size, store_act=vocab * size
    )


def prefill_flops(shape: DecoderShape, tokens: Sequence[int]) -> int:
    """Count the operations of prefill by LLM-Viewer's rules.

    Args:
        shape: of the decoder.
        tokens: n of each layer.
    """
    layers = sum(total(layer(shape, n, n)) for n in tokens if n)
    return int(layers + head(shape).flops)


def decode_flops(shape: DecoderShape, tokens: Sequence[int]) -> int:
    """Count the operations of one decoding step, with n tokens in the cache of each layer."""
    return int(sum(total(layer(shape, 1, n)) for n in tokens) + head(shape).flops)


def analyse(
    shape: DecoderShape,
    n: int,
    *,
    size: int = 2,
    fused: bool = False,
    device: Device = DEVICES["A100-80G"],
) -> dict[str, dict[str, Any]]:
    """Return LLM-Viewer's analysis of n tokens, one row.

    Returns:
        "prefill" and "decode" (one token with a context of n), each with OPs, memory_access and its parts in bytes,
        inference_time in seconds, and memory_consumption and its parts in bytes.
    """
    phases = {}
    for phase, queries in (("prefill", n), ("decode", 1)):
        one = layer(shape, queries, n, size=size, fused=fused)
        every = [*(operation.times(shape.layers) for operation in one), head(shape, size=size)]
        phases[phase] = dict(_sums(every)) | {
            "inference_time": total_seconds(every, device, "bfloat16"),
            "memory_consumption_tmp_act": total(one, "store_act"),
        }
    weights = shape.layers * total(layer(shape, n, n, size=size), "load_weight")
    cache = phases["prefill"]["store_kv_cache"]
    for values in phases.values():
        values["memory_consumption_weight"], values["memory_consumption_kv_cache"] = weights, cache
        values["memory_consumption"] = weights + cache + values["memory_consumption_tmp_act"]
    return phases


def _sums(operations: Sequence[Operation]) -> Iterator[tuple[str, float]]:
    names = {
        "OPs": "flops",
        "memory_access": "moved",
        "load_weight": "load_weight",
        "load_act": "load_act",
        "store_act": "store_act",
        "load_kv_cache": "load_kv",
        "store_kv_cache": "store_kv",
    }
    for name, key in names.items():
        yield name, total(operations, key)


def _linear(name: str, inner: int, outer: int, rows: int, size: int, cached: bool = False) -> Operation:
    out = outer * rows * size
    return Operation(
        name,
        2 * inner * outer * rows,
        load_weight=inner * outer * size,
        load_act=inner * rows * size,
        store_act=0 if cached else out,
        store_kv=out if cached else 0,
    )


def _attention(shape: DecoderShape, queries: int, keys: int, size: int, prefill: bool) -> list[Operation]:
    """Count scores, softmax and weighted sum. At prefill queries count with the number of key heads."""
    d, kv = shape.hidden, shape.hidden * shape.kv_heads // shape.heads
    scores, rows, cached = shape.heads * queries * keys * size, queries * d * size, keys * kv * size
    flops = 2 * queries * keys * d
    return [
        Operation(
            "qk",
            flops,
            load_act=cached if prefill else rows,
            store_act=scores,
            load_kv=cached,
        ),
        Operation("softmax", 5 * shape.heads * queries * keys, load_act=scores, store_act=scores),
        Operation("sv", flops, load_act=scores, store_act=rows, load_kv=cached),
    ]


def _fused(shape: DecoderShape, queries: int, keys: int, size: int) -> list[Operation]:
    """Count one operation: keys and values of all heads are read once per query block, scores are output twice."""
    d = shape.hidden
    blocks = math.ceil(queries / min(BLOCK, d // shape.heads))
    return [
        Operation(
            "attention",
            4 * queries * keys * d + 5 * shape.heads * queries * keys,
            load_act=queries * d * size,
            store_act=2 * shape.heads * queries * keys * size,
            load_kv=2 * blocks * keys * d * size,
        )
    ]

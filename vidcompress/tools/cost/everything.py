"""Convention "everything": all operations of a run, from pixels to the last new token, and the bytes they move.

Matrix products count 2 operations per multiply-add: those with weights, of attention (whole squares, as usual) and of
the patch embedding, as in torch's FlopCounterMode. Norms, activations, softmax and rotary embeddings count no
operations; the bytes they move count in the roofline time. A layer with a window attends to at most its width of
tokens, as kernels with windows do; torch counts whole squares there. Linear attention: `linear_decoder_layer`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vidcompress.adapters.model_shape import DecoderShape, EncoderShape, LinearShape, ModelShape
from vidcompress.tools.cost.encoder_work import EncoderWork
from vidcompress.tools.cost.operations import Operation

CHUNK = 64
"""Tokens of a chunk of linear attention, as transformers and flash-linear-attention have it."""
STATE_SIZE = 4
"""Bytes of a number of the state of linear attention, which is float32 in any model."""


def linear(name: str, inner: int, outer: int, rows: int, size: int, passes: int = 1) -> Operation:
    """Count a matrix product with weights (inner, outer), which are read once per pass."""
    return Operation(
        name,
        2 * inner * outer * rows,
        load_weight=inner * outer * size * passes,
        load_act=inner * rows * size,
        store_act=outer * rows * size,
    )


def pointwise(width: int, rows: int, size: int, reads: int) -> Operation:
    """Count norms, additions and activations that read `reads` times (rows, width) and write it as often."""
    moved = reads * width * rows * size
    return Operation("pointwise", load_act=moved, store_act=moved)


def encoder(shape: EncoderShape, work: EncoderWork, size: int) -> list[Operation]:
    """Count the vision tower up to the layer whose output is used."""
    if not work.patches:
        return []
    inner = shape.channels * shape.frames * shape.patch_size**2
    whole = shape.runs if shape.window is None else min(shape.whole, shape.runs)
    return [
        linear("patches", inner, shape.hidden, work.patches, size, work.passes),
        *(op.times(whole) for op in encoder_layer(shape, work, size)),
        *(op.times(shape.runs - whole) for op in encoder_layer(shape, work, size, near=True)),
        pointwise(shape.hidden, work.tokens, size, 1),
    ]


def encoder_layer(
    shape: EncoderShape, work: EncoderWork, size: int, *, near: bool = False
) -> list[Operation]:
    """Count one layer of the vision tower on all views; `near` where its attention stays within windows."""
    c, rows, passes = shape.hidden, work.tokens, work.passes
    into = ("gate", "up") if shape.gated else ("fc1",)
    return [
        *(linear(name, c, c, rows, size, passes) for name in ("q", "k", "v", "out")),
        Operation(
            "attention",
            4 * (work.near if near else work.pairs) * c,
            load_act=rows * c * size,
            store_act=rows * c * size,
            load_kv=2 * rows * c * size,
        ),
        *(linear(name, c, shape.ffn, rows, size, passes) for name in into),
        linear("fc2", shape.ffn, c, rows, size, passes),
        pointwise(c, rows, size, 4),
        pointwise(shape.ffn, rows, size, len(into)),
    ]


def projector(shape: ModelShape, rows: int, size: int, *, passes: int) -> list[Operation]:
    """Count the MLP between encoder and decoder, on `rows` patches or pooled tokens."""
    return (
        [linear("projector", inner, outer, rows, size, passes) for inner, outer in shape.projector]
        if rows
        else []
    )


def decoder_layer(shape: DecoderShape, rows: int, queries: int, keys: float, size: int) -> list[Operation]:
    """Count one decoder layer with attention.

    Args:
        shape: of the decoder.
        rows: prompts of the batch.
        queries: tokens of each that it takes in. keys: tokens that they attend to; for several steps their mean.
        size: bytes of a number.
    """
    d, wide, kv = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    every = rows * queries
    gate = [gating(wide, every, size)] if shape.gated else []
    return [
        linear("q", d, wide * (2 if shape.gated else 1), every, size),
        *(linear(name, d, kv, every, size) for name in ("k", "v")),
        _attend(rows, queries, keys, wide, kv, size),
        *gate,
        linear("out", wide, d, every, size),
        *_mlp(shape, every, size),
    ]


def linear_decoder_layer(
    shape: DecoderShape, of: LinearShape, rows: int, queries: int, size: int, *, step: bool
) -> list[Operation]:
    """Count one decoder layer with linear attention, by a gated delta rule.

    Over a prompt the rule takes chunks of c = `CHUNK` tokens, the last one padded. With heads of k and v numbers, each
    chunk and head has two products of keys and queries with keys (4 c^2 k), two triangular solves (c^2 (k + v)), the
    chunk's attention (2 c^2 v), and three products with the state (6 c k v). torch's FlopCounterMode leaves out the
    solves. A step has three products with the state: read, update and output (6 k v), which torch has as sums.

    Args:
        shape: of the decoder. of: its linear attention.
        rows: prompts of the batch.
        queries: tokens of each that it takes in.
        size: bytes of a number.
        step: whether it is one new token, which reads the state of those before it.
    """
    d, every = shape.hidden, rows * queries
    k, v, c = of.key_dim, of.value_dim, CHUNK
    chunk = 4 * c * c * k + c * c * (k + v) + 2 * c * c * v + 6 * c * k * v
    flops = 6 * k * v if step else math.ceil(queries / c) * chunk
    taken, kept = rows * of.mixed * of.kernel * size, rows * of.state * STATE_SIZE
    return [
        linear("qkv", d, of.mixed, every, size),
        linear("z", d, of.values, every, size),
        *(linear(name, d, of.value_heads, every, size) for name in ("b", "a")),
        Operation(
            "convolution",
            2 * of.kernel * of.mixed * every,
            load_weight=of.mixed * of.kernel * size,
            load_act=of.mixed * every * size,
            store_act=of.mixed * every * size,
            load_kv=taken if step else 0,
            store_kv=taken,
        ),
        Operation(
            "delta rule",
            rows * of.value_heads * flops,
            load_act=(of.mixed + 2 * of.value_heads) * every * size,
            store_act=of.values * every * size,
            load_kv=kept if step else 0,
            store_kv=kept,
        ),
        gating(of.values, every, size),
        linear("out", of.values, d, every, size),
        *_mlp(shape, every, size),
    ]


def gating(width: int, rows: int, size: int) -> Operation:
    """Count what an output gate of (rows, width) moves: values and gate are read, their product is written."""
    moved = width * rows * size
    return Operation("gate", load_act=2 * moved, store_act=moved)


def decoder(shape: DecoderShape, rows: int, tokens: Sequence[int], size: int) -> list[Operation]:
    """Count the prefill of all layers, with n tokens in each."""
    return [
        op
        for kind, n in layers_of(shape, tokens)
        if n
        for op in _layer(shape, kind, rows, n, reach(shape, kind, n), size, step=False)
    ]


def decode_step(
    shape: DecoderShape, rows: int, tokens: Sequence[int], new: int, size: int
) -> list[Operation]:
    """Count the mean of the steps of `new` tokens per row, behind n tokens of the prompt in each layer.

    The first new token comes of the prompt, so there are new - 1 steps; the step s attends to n + s tokens, or to as
    many as a window holds.
    """
    layers = [
        op
        for kind, n in layers_of(shape, tokens)
        for op in _layer(shape, kind, rows, 1, _mean_reach(shape, kind, n, new), size, step=True)
    ]
    return [*layers, head(shape, rows, size)]


def layers_of(shape: DecoderShape, tokens: Sequence[int]) -> list[tuple[str, int]]:
    """Return the kind of each layer with its number of tokens."""
    return list(zip(shape.kinds or ("full",) * len(tokens), tokens, strict=True))


def reach(shape: DecoderShape, kind: str, tokens: int) -> int:
    """Return the number of tokens that the last of so many attends to in a layer of that kind."""
    return min(tokens, shape.window) if kind == "window" and shape.window else tokens


def _mean_reach(shape: DecoderShape, kind: str, tokens: int, new: int) -> float:
    steps = new - 1
    if kind != "window" or not shape.window:
        return tokens + (steps + 1) / 2
    growing = min(max(shape.window - tokens, 0), steps)
    return (growing * (tokens + (growing + 1) / 2) + (steps - growing) * shape.window) / steps


def _layer(
    shape: DecoderShape, kind: str, rows: int, queries: int, keys: float, size: int, *, step: bool
) -> list[Operation]:
    if kind == "linear" and shape.linear is not None:
        return linear_decoder_layer(shape, shape.linear, rows, queries, size, step=step)
    return decoder_layer(shape, rows, queries, keys, size)


def _mlp(shape: DecoderShape, rows: int, size: int) -> list[Operation]:
    """Count the MLP of a decoder layer, and the norms and additions of the whole layer."""
    d = shape.hidden
    return [
        *(linear(name, d, shape.ffn, rows, size) for name in ("gate", "up")),
        linear("down", shape.ffn, d, rows, size),
        pointwise(d, rows, size, 4),
        pointwise(shape.ffn, rows, size, 2),
    ]


def head(shape: DecoderShape, rows: int, size: int) -> Operation:
    """Count the logits of one token per row."""
    return linear("lm_head", shape.hidden, shape.vocab, rows, size)


def _attend(rows: int, queries: int, keys: float, wide: int, kv: int, size: int) -> Operation:
    """Count scores and weighted sum; a fused kernel keeps the scores on the chip."""
    return Operation(
        "attention",
        4 * rows * queries * keys * wide,
        load_act=rows * queries * wide * size,
        store_act=rows * queries * wide * size,
        load_kv=2 * rows * keys * kv * size,
    )

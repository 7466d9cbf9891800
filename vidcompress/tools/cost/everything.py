"""Convention "everything": all operations of a run, from pixels to the last new token, and the bytes they move.

Matrix products count 2 operations per multiply-add: those with weights, of attention (whole squares, as usual) and of
the patch embedding, as in torch's FlopCounterMode. Norms, activations, softmax and rotary embeddings count no
operations; the bytes they move count in the roofline time.
"""

from __future__ import annotations

from collections.abc import Sequence

from vidcompress.adapters.model_shape import DecoderShape, EncoderShape, ModelShape
from vidcompress.tools.cost.encoder_work import EncoderWork
from vidcompress.tools.cost.operations import Operation


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
    """Count one decoder layer.

    Args:
        shape: of the decoder.
        rows: prompts of the batch.
        queries: tokens of each that it takes in. keys: tokens that they attend to; for several steps their mean.
        size: bytes of a number.
    """
    d, wide, kv = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    every = rows * queries
    return [
        linear("q", d, wide, every, size),
        *(linear(name, d, kv, every, size) for name in ("k", "v")),
        _attend(rows, queries, keys, wide, kv, size),
        linear("out", wide, d, every, size),
        *(linear(name, d, shape.ffn, every, size) for name in ("gate", "up")),
        linear("down", shape.ffn, d, every, size),
        pointwise(d, every, size, 4),
        pointwise(shape.ffn, every, size, 2),
    ]


def decoder(shape: DecoderShape, rows: int, tokens: Sequence[int], size: int) -> list[Operation]:
    """Count the prefill of all layers, with n tokens in each."""
    return [op for n in tokens if n for op in decoder_layer(shape, rows, n, n, size)]


def decode_step(shape: DecoderShape, rows: int, cached: Sequence[float], size: int) -> list[Operation]:
    """Count one new token per row; each layer attends to `cached` tokens and the new one."""
    layers = [op for n in cached for op in decoder_layer(shape, rows, 1, n + 1, size)]
    return [*layers, head(shape, rows, size)]


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

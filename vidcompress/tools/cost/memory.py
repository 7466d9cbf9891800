"""Peak memory of a run in bytes: weights, keys and values, states, and the widest activations.

The widest moment of a decoder layer is its MLP: residual, normed input and embeddings (3 D per token), gate and up
with their product (3 m). The encoder's is its MLP too, on one chunk of views, beside the pixels and the earlier
features. Attention is assumed to be fused, so that it holds no map.

A layer with a window caches one token less than its width, as transformers does: the next token is the last of the
window. Linear attention keeps a state in place of keys and values, of the same size after any number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vidcompress.adapters.model_shape import DecoderShape, ModelShape
from vidcompress.tools.cost.encoder_work import EncoderWork
from vidcompress.tools.cost.everything import STATE_SIZE, layers_of


@dataclass(frozen=True)
class Memory:
    """Memory of the whole batch in bytes.

    Attributes:
        weights: of all tensors of the model.
        kv_cache: keys and values after the last new token.
        state: states of linear attention and its convolution; 0 without such layers.
        pixels: of all views, a part of `encode`.
        encode: most that encoding holds beside the weights: pixels, features, the widest layer.
        prefill: most that prefill holds beside the weights: keys and values so far, features, the widest layer.
        peak: weights and the most of these: encode, prefill, cache and states together.
    """

    weights: int
    kv_cache: int
    state: int
    pixels: int
    encode: int
    prefill: int
    peak: int


def kv_bytes(shape: DecoderShape, rows: int, tokens: Sequence[int], size: int) -> int:
    """Count the bytes of keys and values of n tokens in each layer."""
    held = sum(_held(shape, kind, n) for kind, n in layers_of(shape, tokens))
    return held * _token_bytes(shape, rows, size)


def state_bytes(shape: DecoderShape, rows: int, size: int) -> int:
    """Count the bytes of the states of all layers of linear attention."""
    return sum(kind == "linear" for kind in shape.kinds) * _layer_state(shape, rows, size)


def _layer_state(shape: DecoderShape, rows: int, size: int) -> int:
    of = shape.linear
    return 0 if of is None else rows * (of.state * STATE_SIZE + of.mixed * of.kernel * size)


def _token_bytes(shape: DecoderShape, rows: int, size: int) -> int:
    return 2 * rows * shape.kv_heads * shape.head_dim * size


def _held(shape: DecoderShape, kind: str, tokens: int) -> int:
    """Return the number of tokens whose keys and values a layer of that kind caches."""
    if kind == "window" and shape.window:
        return min(tokens, shape.window - 1)
    return 0 if kind == "linear" else tokens


def memory(
    shape: ModelShape,
    *,
    parameters: int,
    rows: int,
    work: EncoderWork,
    features: int,
    tokens: Sequence[int],
    new_tokens: int,
    size: int,
) -> Memory:
    """Estimate the memory of a run.

    Args:
        shape: of the model.
        parameters: their number.
        rows: prompts of the batch.
        work: of the encoder on the whole batch.
        features: visual positions per prompt before compression.
        tokens: that each decoder layer takes in at prefill, per prompt.
        new_tokens: generated per prompt.
        size: bytes of a number.
    """
    weights = parameters * size
    cache = kv_bytes(shape.decoder, rows, [n + max(0, new_tokens - 1) for n in tokens], size)
    state = state_bytes(shape.decoder, rows, size)
    encode, prefill = (
        _encode(shape, rows, work, features, size),
        _prefill(shape.decoder, rows, tokens, size),
    )
    pixels = work.values * size
    return Memory(
        weights, cache, state, pixels, encode, prefill, weights + max(encode, prefill, cache + state)
    )


def _encode(shape: ModelShape, rows: int, work: EncoderWork, features: int, size: int) -> int:
    vision, width = shape.encoder, shape.decoder.hidden
    if not work.patches:
        return 0
    layer = work.at_once * ((3 if vision.gated else 2) * vision.ffn + 2 * vision.hidden)
    read, between = shape.projector[0]
    written = shape.projector[1][1] if len(shape.projector) > 1 else 0
    wide = work.patches_at_once * (read + between + written) // vision.merge**2  # a token's widest moment
    return (work.values + rows * features * width + max(layer, wide)) * size


def _prefill(shape: DecoderShape, rows: int, tokens: Sequence[int], size: int) -> int:
    cached, most, of = 0, 0, shape.linear
    for kind, n in layers_of(shape, tokens):
        wide = 3 * shape.ffn
        if kind == "linear" and of is not None:  # before and behind the convolution; the output and its gate
            cached += _layer_state(shape, rows, size)
            wide = max(wide, 2 * of.mixed + 2 * of.values)
        cached += _held(shape, kind, n) * _token_bytes(shape, rows, size)
        most = max(most, cached + rows * n * (3 * shape.hidden + wide) * size)
    return most

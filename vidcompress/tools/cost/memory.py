"""Peak memory of a run in bytes: weights, keys and values, and the widest activations.

The widest moment of a decoder layer is its MLP: residual, normed input and embeddings (3 D per token), gate and up
with their product (3 m). The encoder's is its MLP too, on one chunk of views, beside the pixels and the earlier
features. Attention is assumed to be fused, so that it holds no map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vidcompress.adapters.model_shape import DecoderShape, ModelShape
from vidcompress.tools.cost.encoder_work import EncoderWork


@dataclass(frozen=True)
class Memory:
    """Memory of the whole batch in bytes.

    Attributes:
        weights: of all tensors of the model.
        kv_cache: keys and values after the last new token.
        encode: most that encoding holds beside the weights: pixels, features, the widest layer.
        prefill: most that prefill holds beside the weights: keys and values so far, features, the widest layer.
        peak: weights and the most of the three above.
    """

    weights: int
    kv_cache: int
    encode: int
    prefill: int
    peak: int


def kv_bytes(shape: DecoderShape, rows: int, tokens: Sequence[int], size: int) -> int:
    """Count the bytes of keys and values of n tokens in each layer."""
    return 2 * rows * sum(tokens) * shape.kv_heads * shape.head_dim * size


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
    encode, prefill = (
        _encode(shape, rows, work, features, size),
        _prefill(shape.decoder, rows, tokens, size),
    )
    return Memory(weights, cache, encode, prefill, weights + max(encode, prefill, cache))


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
    cached, most = 0, 0
    for n in tokens:
        cached += kv_bytes(shape, rows, [n], size)
        most = max(most, cached + rows * n * 3 * (shape.hidden + shape.ffn) * size)
    return most

"""Formula of the FastV paper (arXiv 2403.06764), which DivPrune and others quote too."""

from __future__ import annotations

from collections.abc import Sequence

from vidcompress.adapters.model_shape import DecoderShape


def prefill_flops(shape: DecoderShape, tokens: Sequence[int]) -> int:
    """Return the sum over the layers of 4 n d^2 + 2 n^2 d + 2 n d m.

    It counts one operation per multiply-add, keys as wide as queries, an MLP of two matrices and no language-modelling
    head: on a Vicuna 40 % of LLM-Viewer's count. Never compare the two.

    Args:
        shape: of the decoder.
        tokens: n of each layer.
    """
    d, m = shape.hidden, shape.ffn
    return sum(4 * n * d * d + 2 * n * n * d + 2 * n * d * m for n in tokens)

"""Cost of token selection: encoder evidence, compared features, attention rows between decoder layers."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from vidcompress.adapters.encoder_probe import PROBED
from vidcompress.adapters.model_shape import EncoderShape, ModelShape
from vidcompress.core.method import Method
from vidcompress.core.tokens import Evidence
from vidcompress.tools.cost.encoder_work import EncoderWork
from vidcompress.tools.cost.everything import encoder_layer, linear, projector
from vidcompress.tools.cost.load import Load
from vidcompress.tools.cost.operations import Operation

KEYS_ONLY = ("keys", "mean_keys")


def selection(
    shape: ModelShape, load: Load, work: EncoderWork, method: Method, rows: int, size: int
) -> list[Operation]:
    """Count the operations of the selection, beyond those of the uncompressed model.

    Args:
        shape: of the model.
        load: of one prompt.
        work: of the encoder, on all prompts.
        method: compression method.
        rows: prompts of the batch.
        size: bytes of a number.
    """
    width = shape.decoder.hidden
    operations = list(_evidence(shape.encoder, load.evidence, rows * load.views, work, size))
    if load.compared:
        operations.append(
            Operation("compare", 2 * rows * load.compared, load_act=2 * rows * load.total * width * size)
        )
    if load.reread:  # in float32, whatever the model's dtype
        flops = 2 * rows * load.reread * width
        operations.append(Operation("rounds", flops, load_act=flops // 2 * torch.float32.itemsize))
    if any(item.quantity == "hidden" for item in load.evidence):  # merged tokens are projected once more
        operations += projector(shape, rows * load.sent, size, passes=1)
    return operations + [op.times(rows) for op in _between(shape, load, method, size)]


def _evidence(
    shape: EncoderShape, needs: Iterable[Evidence], views: int, work: EncoderWork, size: int
) -> Iterable[Operation]:
    """Count the layers run for evidence alone, and the rows of attention read there."""
    places: dict[int, list[Evidence]] = {}
    for item in needs:
        if item.quantity in PROBED and isinstance(item.layer, int):
            places.setdefault(item.layer % shape.layers, []).append(item)
        elif item.quantity in PROBED:
            places.setdefault(shape.runs - 1, []).append(item)
    deepest = max(places, default=-1)
    if deepest >= shape.runs:
        layer = encoder_layer(shape, work, size)
        yield from (op.times(deepest - shape.runs) for op in layer)
        # The deepest layer computes only queries and keys.
        yield from (
            linear(name, shape.hidden, shape.hidden, work.tokens, size, work.passes) for name in ("q", "k")
        )
    for items in places.values():
        for item in items:
            if item.quantity not in KEYS_ONLY:
                # One query per view, its CLS token, or all queries.
                pairs = work.pairs if item.quantity == "attention_received" else work.tokens
                yield Operation(
                    item.quantity, 2 * pairs * shape.hidden, load_act=2 * work.tokens * shape.hidden * size
                )


def _between(shape: ModelShape, load: Load, method: Method, size: int) -> Iterable[Operation]:
    """Count the rows of attention that an inside method ranks by, before every layer that takes in fewer tokens."""
    inside, d = method.inside, shape.decoder
    if inside is None:
        return
    queries = load.text if inside.asks == "text" else 1
    wide = d.heads * d.head_dim
    if inside.asks == "text" and len(set(load.visual)) > 1:  # the choice of query words, once
        yield Operation("weigh", 2 * queries * (load.sent + load.text) * d.hidden)
    for before, after in zip(load.visual, load.visual[1:], strict=False):
        if after == before:
            continue
        keys = before + load.text
        yield Operation("rows", 2 * queries * keys * wide, load_act=keys * d.kv_heads * d.head_dim * size)
        if inside.source == "next":
            yield linear("q", d.hidden, wide, queries, size)
            yield linear("k", d.hidden, d.kv_heads * d.head_dim, keys, size)

"""Roofline of a row (`tools.cost`): its operations and bytes, estimated from the config."""

from __future__ import annotations

from typing import Any

from vidcompress.errors import VidcompressError
from vidcompress.tools.benchmark.row import BenchRow, Workload
from vidcompress.tools.cost import estimate
from vidcompress.tools.cost.model import Model, model_of


def cost_model(model: Any) -> Model | None:
    """Build a model without weights for `roofline_of_row`, once per run; None where its cost cannot be estimated."""
    try:
        return model_of(model)
    except VidcompressError:
        return None


def roofline_of_row(
    model: Model, dtype: str, workload: Workload, batch: int, row: BenchRow, text_tokens: int, new_tokens: int
) -> Any:
    """Estimate the operations and bytes of a row.

    Args:
        model: the measured model, without its weights.
        dtype: of the run.
        workload, batch, row: of the run; the stock model costs as much as the uncompressed row.
        text_tokens, new_tokens: of each request.

    Returns:
        `first_token_flops` (everything up to the first token), `parts` of it, `kv_cache_bytes`, `encode_bytes` and
        `prefill_bytes` (most beside weights and pixels; of the encoder's, those of `max_views` views at once); None
        where the row's cost cannot be estimated.
    """
    options: dict[str, Any] = {}
    if row.variant is not None:
        options["config"] = row.variant.settings
    try:
        cost = estimate(
            model,
            size=workload.size,
            frames=workload.frames or None,
            text_tokens=text_tokens,
            new_tokens=new_tokens,
            batch_size=batch,
            dtype=dtype,
            **options,
        )
    except VidcompressError:
        return None
    return {
        "first_token_flops": cost.prefill_flops["everything"],
        "parts": cost.parts,
        "kv_cache_bytes": cost.kv_cache_bytes,
        "encode_bytes": cost.memory.encode - cost.memory.pixels,
        "prefill_bytes": cost.memory.prefill,
    }

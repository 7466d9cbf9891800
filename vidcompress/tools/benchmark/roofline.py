"""What a row costs on paper (`tools.cost`): the speed-up that operations allow, and the memory they take."""

from __future__ import annotations

from typing import Any

from vidcompress.errors import VidcompressError
from vidcompress.tools.benchmark.plan import Row, Workload
from vidcompress.tools.cost import estimate
from vidcompress.tools.cost.model import Model, model_of
from vidcompress.tools.cost.operations import PRECISIONS


def model_on_paper(model: Any) -> Model | None:
    """What `on_paper` takes, made once per run; None where nothing is known of the model's cost."""
    try:
        return model_of(model)
    except VidcompressError:
        return None


def on_paper(
    model: Model, dtype: str, workload: Workload, batch: int, row: Row, text_tokens: int, new_tokens: int
) -> Any:
    """Operations and bytes of a row.

    Args:
        model: that is measured, without its weights.
        dtype: that it runs in.
        workload, batch, row: what is run; the stock model costs what the uncompressed row does.
        text_tokens, new_tokens: of each request.

    Returns:
        `first_token_flops` (everything up to the first token), `parts` of it, `kv_cache_bytes`, `encode_bytes` and
        `prefill_bytes` (most beside weights and pixels; of the encoder's, those of `max_views` views at once); None
        where nothing is known of the row's cost.
    """
    options: dict[str, Any] = {}
    if row.entry is not None:
        options["config"] = row.entry.settings
    try:
        found = estimate(
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
    vision = found.geometry.encoder
    size = PRECISIONS[dtype]
    pixels = batch * found.views * vision.channels * vision.image_size**2 * size
    return {
        "first_token_flops": found.prefill_flops["everything"],
        "parts": found.parts,
        "kv_cache_bytes": found.kv_cache_bytes,
        "encode_bytes": found.memory.encode - pixels,
        "prefill_bytes": found.memory.prefill,
    }

"""Contract of a row in a batch: the same tokens and logits as alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidcompress.adapters.base import adapter_for
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import get_method
from vidcompress.core.wrappers import unwrap
from vidcompress.session.compress import compress_inputs
from vidcompress.session.prompt import PER_TOKEN_KEYS
from vidcompress.testing.expect import (
    compressed,
    logits,
    name_of,
    placeholder_mask,
    precision,
    require,
    same,
)


def check_rows(model: Any, inputs: Mapping[str, Any], method: str | Method, *, ratio: str = "0.5") -> None:
    """Check that a row has the same tokens and logits alone and, left-padded, beside a longer row of other pixels.

    Args:
        model, inputs, method: as in `check_identity`; every tensor has its rows, visuals or patches along its first
            dimension.
        ratio: the retention ratio.

    Raises:
        ContractError: the neighbour changes them.
    """
    model = unwrap(model)
    settings: dict[str, Any] = {"retention_ratio": ratio, "max_views": 1}
    alone = compressed(model, inputs, get_method(method), **settings)
    if alone is None:
        return
    together = compress_inputs(model, _with_neighbours(model, inputs), method, **settings)
    rows, visuals = inputs["input_ids"].shape[0], len(alone.report.visuals)
    for first, second in zip(alone.report.visuals, together.report.visuals[:visuals], strict=True):
        equal = torch.equal(first.kept_positions, second.kept_positions)
        require(
            equal,
            f"{name_of(method)}: row {first.row} keeps other tokens beside other rows than alone; "
            "what is computed over a whole visual must not run over the batch",
        )
    real = alone["attention_mask"].bool()
    mine = together["attention_mask"][:rows].bool()
    what = f"{name_of(method)}: logits of a row beside other rows"
    same(logits(model, together)[:rows][mine], logits(model, alone)[real], what, precision(model))


def _with_neighbours(model: Any, inputs: Mapping[str, Any], extra: int = 3) -> dict[str, Any]:
    """Return the batch twice: as it is, and with other pixels and `extra` more tokens of text in front."""
    ids = inputs["input_ids"]
    mask = inputs.get("attention_mask", torch.ones_like(ids)).bool()
    rows = [row[real] for row, real in zip(ids, mask, strict=True)]
    word = ids[~placeholder_mask(model, ids) & mask][:1].expand(extra)
    rows += [torch.cat((word, row)) for row in rows]
    width = max(len(row) for row in rows)
    padded = [torch.cat((word[:1].expand(width - len(row)), row)) for row in rows]
    real = [torch.arange(width, device=ids.device) >= width - len(row) for row in rows]
    batch: dict[str, Any] = {"input_ids": torch.stack(padded), "attention_mask": torch.stack(real).long()}
    adapter = adapter_for(model)
    pixels = (*adapter.image_keys[:1], *adapter.video_keys[:1])
    for key, value in inputs.items():
        if key in batch:
            continue
        if key in PER_TOKEN_KEYS or (isinstance(value, Tensor) and value.shape == ids.shape):
            batch[key] = _padded_alike(value, mask, width)
        elif isinstance(value, Tensor):
            other = value.flip(-1) * -0.5 if key in pixels else value
            batch[key] = torch.cat((value, other))
        else:
            batch[key] = [*value, *value] if isinstance(value, list) else value
    return batch


def _padded_alike(value: Tensor, mask: Tensor, width: int) -> Tensor:
    """Return a per-token input (..., row, column) of the batch twice: left-padded, and with zeros in front."""
    rows = [value[..., number, :][..., real] for number, real in enumerate(mask)]
    return torch.stack([pad(row, (width - row.shape[-1], 0)) for row in (*rows, *rows)], dim=-2)

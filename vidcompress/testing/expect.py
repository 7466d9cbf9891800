"""Errors of checks, and helpers that several checks share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.traits import masks_tell
from vidcompress.core.method import Method, Positions
from vidcompress.errors import BudgetError
from vidcompress.session.compress import compress_inputs
from vidcompress.session.inputs import CompressedInputs


class ContractError(AssertionError):
    """Error: a rule for every method or adapter is violated."""


def require(condition: bool, message: str) -> None:
    """Raise a `ContractError` with the message unless the condition holds."""
    if not condition:
        raise ContractError(message)


def logits(model: Any, inputs: Mapping[str, Any]) -> Tensor:
    """Return the model's logits (row, column, vocabulary), without a graph; masses of compressed inputs count."""
    block = inputs.pruning() if isinstance(inputs, CompressedInputs) else nullcontext()
    with block, torch.no_grad():
        out: Tensor = model(**inputs).logits
    return out


def same(a: Tensor, b: Tensor, what: str, tolerance: float) -> None:
    """Compare logits: bit for bit where the tolerance is 0, else to the tolerance relative to the largest of b, or 1.

    Raises:
        ContractError: they differ; the message begins with `what`.
    """
    require(a.shape == b.shape, f"{what}: shape {tuple(a.shape)} where {tuple(b.shape)} is expected")
    if not a.numel():
        return
    apart = float((a.double() - b.double()).abs().max())
    scale = max(1.0, float(b.double().abs().max()))
    require(
        apart <= tolerance * scale,
        f"{what}: differs by up to {apart:.3g}, allowed is {tolerance * scale:.3g}",
    )


def precision(model: Any) -> float:
    """Return the tolerance for values computed in another order: 1e-5 in float32, more in smaller dtypes."""
    return max(1e-5, 50 * torch.finfo(model.dtype).eps)


def placeholder_mask(model: Any, ids: Tensor) -> Tensor:
    """Return a bool mask of the placeholders of images or videos in ids (row, column)."""
    adapter = adapter_for(model)
    tokens = [token for token in (adapter.image_token_id, adapter.video_token_id) if token is not None]
    return torch.isin(ids, torch.tensor(tokens, device=ids.device))


def masking_tells(model: Any, columns: int) -> bool:
    """Return whether a compressed prompt equals the whole one of so many columns with dropped tokens masked; see
    `masks_tell`."""
    return masks_tell(adapter_for(model).traits, columns)


def positions_of(model: Any) -> tuple[Positions, ...]:
    """Return the position policies that checks run a family with: those it serves, but `scaled`, which is `original`
    where nothing says how long the clips of the training were."""
    traits = adapter_for(model).traits
    policies: tuple[Positions, ...] = ("contiguous",) if traits.axes == 1 else ()
    return (*policies, "original") if traits.honours_positions else policies


def compressed(
    model: Any, inputs: Mapping[str, Any], method: Method, **settings: Any
) -> CompressedInputs | None:
    """Compress; None where a method that cannot meet every budget refuses this one."""
    try:
        return compress_inputs(model, inputs, method, **settings)
    except BudgetError:
        if method.exact:
            raise
        return None


def name_of(method: str | Method) -> str:
    """Return the name of a method."""
    return method if isinstance(method, str) else method.name

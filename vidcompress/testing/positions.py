"""Contract of an adapter's positions: they equal the stock model's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.stock import stock_positions
from vidcompress.core.wrappers import unwrap
from vidcompress.testing.expect import require

TYPES = "mm_token_type_ids"
"""Token types that M-RoPE positions follow from; without them stock models silently count columns."""


def stock_axes(model: Any, inputs: Mapping[str, Any], mask: Tensor | None) -> Tensor:
    """Return positions (axis, row, column) of the uncompressed prompt: the caller's own, or the stock model's."""
    ids, given = inputs["input_ids"], inputs.get("position_ids")
    if given is None:
        return stock_positions(model, inputs, ids, mask)
    positions: Tensor = given if given.ndim == 3 else given[None]
    return positions


def check_positions(model: Any, inputs: Mapping[str, Any]) -> None:
    """Check that the adapter has the stock model's number of axes of positions, and its positions on each.

    Args:
        model: a model that an adapter serves, in eval mode.
        inputs: output of its processor, with token types.

    Raises:
        ContractError: no positions, another number of axes, or other positions than the stock model's.
    """
    model = unwrap(model)
    adapter = adapter_for(model)
    traits, who, name = adapter.traits, type(adapter).__name__, type(model).__name__
    if not traits.honours_positions:
        return
    grids = [key for key in inputs if key.endswith("_grid_thw") and inputs[key] is not None]
    takes_types = TYPES in inspect.signature(model.forward).parameters
    require(
        not (grids and takes_types and inputs.get(TYPES) is None),
        f"the inputs have {', '.join(grids)} and no {TYPES}, without which {name} counts columns and says nothing; "
        "check with all that its processor returns",
    )
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    stock = stock_positions(model, inputs, ids, mask)
    axes = len(stock)
    require(
        traits.axes == axes or (axes, traits.axes) == (4, 3),  # the text positions may be left out
        f"{who}.traits.axes is {traits.axes}, and positions of {name} have {axes} axes: fewer are another model",
    )
    given = adapter.positions(inputs, ids, mask)
    if given is None:
        require(
            axes == 1,
            f"{who}.positions returns None, which says columns, and positions of {name} have {axes} axes; return "
            "vidcompress.adapters.stock_positions of all inputs",
        )
        return
    require(
        given.shape == (traits.axes, *ids.shape),
        f"{who}.positions has shape {tuple(given.shape)}, expected (axis, row, column) = "
        f"{(traits.axes, *ids.shape)}",
    )
    wrong = given != stock[-traits.axes :].to(given)
    differ = int((wrong if mask is None else wrong & mask.to(wrong)).sum())
    require(
        not differ,
        f"{who}.positions differs from the positions of {name} in {differ} places; return "
        "vidcompress.adapters.stock_positions of all inputs, grids and token types among them",
    )

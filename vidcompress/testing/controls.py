"""Negative controls: inputs that a family needs, left out on purpose, must change the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidcompress.adapters.base import adapter_for
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import UnsupportedInputError
from vidcompress.session.compress import compress_inputs
from vidcompress.testing.expect import logits, precision, require
from vidcompress.testing.positions import stock_axes

TYPES = ("mm_token_type_ids", "token_type_ids")
"""Inputs that positions or masks follow from; without them stock models silently count columns, or hide tokens."""
VISIBLE = 1e-3
"""Difference of logits that a control must make."""


def check_controls(model: Any, inputs: Mapping[str, Any]) -> None:
    """Check that compressed inputs without positions, with one axis, with empty companions, or without token types
    where a picture's tokens see each other both ways, give other logits.

    The stock model and the adapter's traits decide which of them apply. Positions and masks that follow from token
    types must not be guessed without these.

    Args:
        model: a model that an adapter serves, in eval mode.
        inputs: output of its processor.

    Raises:
        ContractError: these inputs do not show the errors of a wrong adapter; or missing token types are accepted.
    """
    model = unwrap(model)
    adapter = adapter_for(model)
    short = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    real = short["attention_mask"].bool()
    right = logits(model, short)[real]
    places, wrong = short.get("position_ids"), {}
    if places is not None and places.ndim == 3:
        flat = (short["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        wrong["no positions"] = {k: v for k, v in dict(short).items() if k != "position_ids"}
        wrong["two-dimensional positions"] = dict(short) | {"position_ids": flat}
    if any(level for levels in short.features.deep.values() for level in levels):
        emptied = dict(short)
        for output in emptied["mm_encoder_outputs"].values():
            output.deepstack_features = []
        wrong["empty companions"] = emptied
    types = [name for name in TYPES if inputs.get(name) is not None]
    if adapter.traits.both_ways:
        require(
            bool(types),
            f"{type(adapter).__name__}.traits.both_ways needs one of {', '.join(TYPES)} in the inputs",
        )
        wrong["no token types"] = {k: v for k, v in dict(short).items() if k not in TYPES}
    needed = max(VISIBLE, 2 * precision(model) * max(1.0, float(right.abs().max())))
    for what, case in wrong.items():
        apart = float((logits(model, case)[real] - right).abs().max())
        require(
            apart > needed,
            f"with {what} the logits differ by {apart:.3g}, where {needed:.3g} must show: on this model and these "
            "inputs no check can tell a wrong adapter; use larger weights, or a picture of several rows",
        )
    if adapter.traits.axes > 1 and types:
        _check_types(model, inputs)
    if adapter.traits.both_ways:
        _refuses_bare(model, inputs, "then hides later tokens of a picture; let Adapter.visuals refuse them")


def _check_types(model: Any, inputs: Mapping[str, Any]) -> None:
    """Check that inputs without token types are refused, for which stock positions would be columns."""
    bare = {key: value for key, value in inputs.items() if key not in TYPES}
    mask = inputs.get("attention_mask")
    if bool((stock_axes(model, bare, mask) == stock_axes(model, inputs, mask)).all()):
        return  # they do not follow from types
    _refuses_bare(model, inputs, "then counts columns; let Adapter.positions refuse them")


def _refuses_bare(model: Any, inputs: Mapping[str, Any], effect: str) -> None:
    bare = {key: value for key, value in inputs.items() if key not in TYPES}
    left_out = " and ".join(key for key in TYPES if inputs.get(key) is not None)
    try:
        compress_inputs(model, bare, "uniform", retention_ratio=0.5)
    except UnsupportedInputError:
        return
    require(
        False,
        f"inputs without {left_out} must raise UnsupportedInputError and did not: {type(model).__name__} {effect}",
    )

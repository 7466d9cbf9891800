"""Controls: what a family needs, left out on purpose, shows in the logits; else no check can tell a wrong adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidcompress.adapters.base import adapter_for
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import UnsupportedInputError
from vidcompress.session.compress import compress_inputs
from vidcompress.testing.expect import logits, precision, require
from vidcompress.testing.positions import TYPES, stock_axes

VISIBLE = 1e-3
"""Difference of logits that a control must make."""


def check_controls(model: Any, inputs: Mapping[str, Any]) -> None:
    """Compressed inputs without positions, with those of one axis or with empty companions give other logits.

    Which of them apply follows from the stock model and from what the adapter says of it. Positions that follow from
    token types must not be guessed without them.

    Args:
        model: a model that an adapter serves, in eval mode.
        inputs: what its processor returns.

    Raises:
        ContractError: the model cannot tell a wrong adapter from a right one on these inputs; or an input without which
            positions are guessed is not missed.
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
    needed = max(VISIBLE, 2 * precision(model) * max(1.0, float(right.abs().max())))
    for what, case in wrong.items():
        apart = float((logits(model, case)[real] - right).abs().max())
        require(
            apart > needed,
            f"with {what} the logits differ by {apart:.3g}, where {needed:.3g} must show: on this model and these "
            "inputs no check can tell a wrong adapter; use larger weights, or a picture of several rows",
        )
    if adapter.traits.axes > 1 and inputs.get(TYPES) is not None:
        _check_types(model, inputs)


def _check_types(model: Any, inputs: Mapping[str, Any]) -> None:
    """Without token types stock positions are columns; the adapter must refuse such inputs."""
    bare = {key: value for key, value in inputs.items() if key != TYPES}
    mask = inputs.get("attention_mask")
    if bool((stock_axes(model, bare, mask) == stock_axes(model, inputs, mask)).all()):
        return  # they do not follow from types
    try:
        compress_inputs(model, bare, "uniform", retention_ratio=0.5)
    except UnsupportedInputError:
        return
    require(
        False,
        f"inputs without {TYPES} must raise UnsupportedInputError and did not: {type(model).__name__} then counts "
        "columns; let Adapter.positions refuse them",
    )

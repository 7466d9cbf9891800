"""Positions of the shortened prompt: which policy a family serves, and the positions of its uncompressed prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vidcompress.adapters.base import Adapter
from vidcompress.core.config import CompressionConfig
from vidcompress.errors import ArgumentError, UnsupportedInputError


def served_positions(adapter: Adapter, settings: CompressionConfig) -> CompressionConfig:
    """Settings whose position policy the family serves.

    Args:
        adapter: of the model.
        settings: as the caller wants them.

    Returns:
        The same settings where positions are columns; else with the one policy that the family serves.

    Raises:
        ArgumentError: the caller named the other policy.
    """
    traits, name = adapter.traits, type(adapter.model).__name__
    if traits.axes > 1:
        if settings.positions == "contiguous":
            raise ArgumentError(
                f"positions='contiguous' cannot go with {name}, whose positions have {traits.axes} axes: one number on "
                "every axis is another model; use positions='original', or leave it out"
            )
        return settings.replace(positions="original")
    if not traits.honours_positions:
        if settings.positions == "original":
            raise ArgumentError(
                f"positions='original' cannot go with {name}, whose generate makes positions of its own; use "
                "positions='contiguous', or leave it out"
            )
        return settings.replace(positions="contiguous")
    return settings


def full_positions(
    adapter: Adapter, inputs: Mapping[str, Any], mask: Tensor | None, settings: CompressionConfig
) -> Tensor | None:
    """Positions (axis, row, column) of the uncompressed prompt from the adapter; None where they are columns.

    Args:
        adapter: of the model.
        inputs: of the caller; `position_ids` among them come first.
        mask: (row, column) as the prompt is read; None for no padding.
        settings: from `served_positions`.

    Raises:
        UnsupportedInputError: `position_ids` of the caller, or positions of the adapter, of another number of axes.
    """
    ids, axes = inputs["input_ids"], adapter.traits.axes
    given = inputs.get("position_ids")
    if given is not None:
        if axes > 1 and not (isinstance(given, Tensor) and given.shape == (axes, *ids.shape)):
            raise UnsupportedInputError(
                f"position_ids must have shape {(axes, *ids.shape)} (axis, row, column) for "
                f"{type(adapter.model).__name__}, got "
                f"{tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__}; leave them out"
            )
        return None
    if settings.resolved_positions != "original":
        return None
    positions = adapter.positions(inputs, ids, mask)
    if axes > 1 and (positions is None or positions.shape != (axes, *ids.shape)):
        got = None if positions is None else tuple(positions.shape)
        raise UnsupportedInputError(
            f"{type(adapter).__name__}.positions must give {(axes, *ids.shape)} (axis, row, column), got {got}"
        )
    return positions

"""Shortened prompts: one placeholder per surviving token, with matching positions and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter, Visual
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.config import CompressionConfig
from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Modality
from vidcompress.core.prompt import Prompt, Span
from vidcompress.errors import ArgumentError, UnsupportedInputError

PER_TOKEN_KEYS = ("labels", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids", "position_ids")
TEXT_AXIS_OF = 4
"""Axes of M-RoPE positions with the text positions in front: text, time, height, width."""


@outside_caller_modes
def questions(prompt: Prompt) -> dict[tuple[str, int], Tensor]:
    """Return the text about every visual: the text behind it in its row, or before it where none follows.

    Returns:
        For each (modality, number) the ids (T,) int64 of that text on the CPU, without placeholders and without the
        text between the runs of a visual.
    """
    texts: dict[tuple[str, int], Tensor] = {}
    for row, spans in zip(prompt.rows, prompt.spans, strict=True):
        is_text = torch.ones_like(row, dtype=torch.bool)
        for span in spans:
            is_text[span.start : span.stop] = False
        for span in spans:
            after = row[span.stop :][is_text[span.stop :]]
            before = row[: span.start][is_text[: span.start]]
            texts[span.key] = after if len(after) else before
    return texts


def visual_budgets(
    prompt: Prompt, visuals: Mapping[tuple[str, int], Visual], settings: CompressionConfig
) -> dict[tuple[str, int], VisualBudget]:
    """Return the budget of every visual, row by row, before anything is encoded."""
    plans: dict[tuple[str, int], VisualBudget] = {}
    for spans in prompt.spans:
        keys = [span.key for span in spans]
        for key, budget in zip(keys, settings.budget.split([span.length for span in spans]), strict=True):
            layout = visuals[key].layout
            settings.method.check(layout)
            sent = settings.method.sent(budget, layout.full_length)
            plans[key] = visual_budget(
                layout,
                sent,
                ratio=settings.budget.ratio if sent == budget else None,
                separators=settings.resolved_separators,
                policy=settings.policy,
            )
    return plans


def served_positions(adapter: Adapter, settings: CompressionConfig) -> CompressionConfig:
    """Return settings whose position policy the family serves.

    Args:
        adapter: of the model.
        settings: of the caller.

    Returns:
        The same settings where positions are columns; else settings with the one policy that the family serves.

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
    """Return positions (axis, row, column) of the uncompressed prompt from the adapter; None where they are columns.

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


def splice(
    inputs: Mapping[str, Any],
    prompt: Prompt,
    kept: Mapping[tuple[str, int], Tensor],
    *,
    placeholders: Mapping[Modality, int],
    pad_token_id: int,
    original_positions: bool,
    positions: Tensor | None = None,
) -> dict[str, Tensor]:
    """Shorten every per-token input: text and surviving placeholders stay.

    Args:
        inputs: the caller's inputs.
        prompt: their parsed rows.
        kept: for each (modality, number) the (K,) source positions of its surviving tokens, in the order sent;
            ascending for a visual of several runs.
        placeholders: token id that is written for every surviving token of `image` and of `video`.
        pad_token_id: fills the padding.
        original_positions: also return `position_ids` with the gaps that dropped tokens leave; otherwise
            position_ids that the caller gave are renumbered without gaps.
        positions: (axis, row, column) positions of the full prompt, for models whose positions are not columns.

    Returns:
        input_ids, attention_mask and, where given or asked for, labels, type ids and position_ids; padded on
        the side on which the inputs were padded.

    Raises:
        UnsupportedInputError: a per-token input whose last two axes are not those of input_ids.
    """
    ids: Tensor = inputs["input_ids"]
    right = prompt.pad_right
    given = {key: inputs[key] for key in PER_TOKEN_KEYS if inputs.get(key) is not None}
    if positions is not None:
        given.setdefault("position_ids", positions)
    several_runs = any(len(span.runs) > 1 for spans in prompt.spans for span in spans)
    picks: list[Tensor] = []
    if original_positions or given or several_runs:
        picks = [_picks(len(r), s, kept) for r, s in zip(prompt.rows, prompt.spans, strict=True)]
    if several_runs:
        rows = [
            _written(row, spans, placeholders).to(ids.device).index_select(0, pick.to(ids.device))
            for row, spans, pick in zip(prompt.rows, prompt.spans, picks, strict=True)
        ]
    else:
        rows = [
            _counted(row, spans, kept, placeholders)
            for row, spans in zip(prompt.rows, prompt.spans, strict=True)
        ]
    out = {
        "input_ids": _pad(rows, pad_token_id, right).to(ids.device),
        "attention_mask": _pad([torch.ones_like(r) for r in rows], 0, right).to(ids.device),
    }
    for key, value in given.items():
        _check_shape(key, value, ids)
        cut = [
            value[..., number, :].index_select(-1, columns.to(value.device)[pick.to(value.device)])
            for number, (columns, pick) in enumerate(zip(prompt.columns, picks, strict=True))
        ]
        if key == "position_ids" and not original_positions:
            cut = [torch.arange(len(row), dtype=row.dtype, device=row.device) for row in cut]
        out[key] = _pad(cut, -100 if key == "labels" else 0, right)
    if original_positions and "position_ids" not in out:
        places = picks
        if prompt.dropped:  # columns of the original row, with the text that is left out
            first = [
                min([int(where[0]), *gone])
                for where, gone in zip(prompt.columns, prompt.dropped, strict=True)
            ]
            places = [
                where.to(pick.device).index_select(0, pick) - start
                for where, pick, start in zip(prompt.columns, picks, first, strict=True)
            ]
        out["position_ids"] = _pad([p.to(ids.device) for p in places], 0, right)
    place = out.get("position_ids")
    if place is not None and place.ndim == 3 and place.shape[0] == TEXT_AXIS_OF:
        # Gaps in the text positions are read as packed sequences.
        place[0] = (out["attention_mask"].to(place).cumsum(-1) - 1).clamp(min=0)
    return out


def _check_shape(key: str, value: Any, ids: Tensor) -> None:
    """Refuse a per-token input that is not (row, column), or (axis, row, column) for positions."""
    if isinstance(value, Tensor):
        axes = value.ndim - 2 if key == "position_ids" else 0
        if axes in (0, 1) and value.shape[axes:] == ids.shape:
            return
    raise UnsupportedInputError(
        f"{key} must have the shape of input_ids {tuple(ids.shape)}, got "
        f"{tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
    )


def _picks(length: int, spans: Sequence[Span], kept: Mapping[tuple[str, int], Tensor]) -> Tensor:
    """Surviving columns of an unpadded row: (new length,) int64, on the device of the selections.

    The number of survivors is known on the host, so there is no device synchronisation.
    """
    if not spans:
        return torch.arange(length, device="cpu")
    device = kept[spans[0].key].device
    pieces, at = [], 0
    for span in spans:
        pieces.append(torch.arange(at, span.start, device=device))
        sources = kept[span.key].to(device)
        if len(span.runs) == 1:
            pieces.append(span.start + sources)
        else:
            chosen = span.columns.to(device).index_select(0, sources)
            gaps = zip(span.runs, span.runs[1:], strict=False)
            text = [torch.arange(run.stop, after.start, device=device) for run, after in gaps]
            pieces.append(torch.cat([chosen, *text]).sort().values)
        at = span.stop
    pieces.append(torch.arange(at, length, device=device))
    return torch.cat(pieces)


def _written(row: Tensor, spans: Sequence[Span], placeholders: Mapping[Modality, int]) -> Tensor:
    """Return an unpadded row with the placeholder ids that are sent."""
    written = row.clone()
    for span in spans:
        for run in span.runs:
            written[run.start : run.stop] = placeholders[span.modality]
    return written


def _counted(
    row: Tensor,
    spans: Sequence[Span],
    kept: Mapping[tuple[str, int], Tensor],
    placeholders: Mapping[Modality, int],
) -> Tensor:
    """Return a shortened row whose visuals are one run each, from counts on the host."""
    pieces, at = [], 0
    for span in spans:
        count = int(kept[span.key].shape[0])
        pieces += [row[at : span.start], torch.full((count,), placeholders[span.modality], device="cpu")]
        at = span.stop
    return torch.cat([*pieces, row[at:]])


def _pad(rows: Sequence[Tensor], value: int, right: bool) -> Tensor:
    """Stack (..., column) rows of unequal length in front of their last axis, padded on one side."""
    width = max(r.shape[-1] for r in rows)
    out = rows[0].new_full((*rows[0].shape[:-1], len(rows), width), value)
    for i, row in enumerate(rows):
        start = 0 if right else width - row.shape[-1]
        out[..., i, start : start + row.shape[-1]] = row
    return out


def inferred_mask(model: Any, ids: Tensor) -> Tensor | None:
    """Return the mask that `generate` infers without one: padding ids are padding, unless they also end answers."""
    config = getattr(model, "generation_config", None)
    pad, ends = getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)
    if pad is None or pad in (ends if isinstance(ends, list) else [ends]):
        return None
    mask: Tensor = ids != pad
    return mask.to(torch.int64)


def pad_token_id(model: Any, prompt: Prompt) -> int:
    """Return the id that fills padding: that of the caller's padding, else that of the model's configs."""
    if prompt.padding is not None:
        return prompt.padding
    for config in (getattr(model, "generation_config", None), model.config, model.config.get_text_config()):
        for name in ("pad_token_id", "eos_token_id"):
            value = getattr(config, name, None)
            value = value[0] if isinstance(value, list) else value
            if value is not None:
                return int(value)
    return 0

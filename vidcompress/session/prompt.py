"""Shortened prompts: as many placeholders as tokens survive, positions and labels to match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Modality
from vidcompress.core.prompt import Prompt, Span
from vidcompress.errors import UnsupportedInputError

PER_TOKEN_KEYS = ("labels", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids", "position_ids")
TEXT_AXIS_OF = 4
"""Axes of M-RoPE positions with the text positions in front: text, time, height, width."""


@outside_caller_modes
def parse_prompt(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    placeholders: Mapping[Modality, int | None],
    runs: Mapping[Modality, Sequence[tuple[int, ...]]],
) -> Prompt:
    """Match placeholders with visuals.

    Args:
        input_ids: (row, column) int64.
        attention_mask: (row, column), 0 at padding; None for no padding.
        placeholders: token id of `image` and of `video`.
        runs: for `image` and `video` the lengths of the runs of placeholders of every visual of the batch, in order;
            they sum to the full length N of the visual.

    Raises:
        UnsupportedInputError: placeholders and visuals do not match, padding inside a row, no real token.
    """
    ids = input_ids.detach().to("cpu", torch.int64)
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.detach().to("cpu", torch.int64)
    if mask.shape != ids.shape:
        raise UnsupportedInputError(
            f"attention_mask must have the shape of input_ids {tuple(ids.shape)}, got {tuple(mask.shape)}; pass a 2-D "
            "mask (4-D masks cannot be shortened)"
        )
    queues = {kind: list(enumerate(runs.get(kind, ()))) for kind in placeholders}
    rows, columns, spans = [], [], []
    for number, (row, real) in enumerate(zip(ids, mask.bool(), strict=True)):
        where = real.nonzero().flatten()
        if len(where) == 0 or int(where[-1] - where[0]) + 1 != len(where):
            raise UnsupportedInputError(
                f"attention_mask row {number} must be one run of ones, padded on one side; got {len(where)} ones "
                "with gaps, pass the processor's output unchanged"
                if len(where)
                else f"attention_mask row {number} has no ones; pass the processor's output unchanged"
            )
        rows.append(row[where])
        columns.append(where)
        spans.append(_row_spans(row[where], number, placeholders, queues))
    for kind, rest in queues.items():
        if rest:
            raise UnsupportedInputError(
                f"the inputs hold {len(runs[kind])} {kind}s, but the prompts have placeholders for only "
                f"{len(runs[kind]) - len(rest)}; put one {kind} placeholder per {kind} into the text"
            )
    pads = ids[mask == 0]  # looked at here, where ids and mask are on the host already
    padding = int(pads[0]) if len(pads) else None
    return Prompt(rows, columns, spans, bool((mask[:, -1] == 0).any()), padding)


def _row_spans(
    ids: Tensor,
    number: int,
    placeholders: Mapping[Modality, int | None],
    queues: dict[Modality, list[tuple[int, tuple[int, ...]]]],
) -> list[Span]:
    spans = []
    for kind, token in placeholders.items():
        if token is None:
            continue
        index = 0  # of the visual whose runs are being read
        due: list[int] = []
        placed: list[range] = []
        for start, length in _runs(ids == token):
            while length > 0:
                if not due:
                    if not queues[kind]:
                        raise UnsupportedInputError(
                            f"prompt row {number} has {length} {kind} placeholders more than the inputs have {kind}s; "
                            f"pass one {kind} per placeholder, expanded by the processor"
                        )
                    index, lengths = queues[kind].pop(0)
                    due, placed = list(lengths), []
                full = due.pop(0)
                if full > length:
                    raise UnsupportedInputError(
                        f"prompt row {number} has a run of {length} {kind} placeholders where {kind} {index} has "
                        f"{full} tokens; let the processor expand the placeholders"
                    )
                placed.append(range(start, start + full))
                start, length = start + full, length - full
                if not due:
                    spans.append(Span(tuple(placed), kind, index))
        if due:
            raise UnsupportedInputError(
                f"prompt row {number} ends before {kind} {index} does: {len(placed)} of its {len(placed) + len(due)} "
                "runs of placeholders are there; pass the processor's output unchanged"
            )
    return sorted(spans, key=lambda span: span.start)


def _runs(mask: Tensor) -> list[tuple[int, int]]:
    """(start, length) of every run of true entries."""
    outside = torch.zeros(1, dtype=torch.int8)
    edges = torch.diff(mask.to(torch.int8), prepend=outside, append=outside)
    starts, stops = (edges == 1).nonzero().flatten().tolist(), (edges == -1).nonzero().flatten().tolist()
    return [(a, b - a) for a, b in zip(starts, stops, strict=True)]


@outside_caller_modes
def questions(prompt: Prompt) -> dict[tuple[str, int], Tensor]:
    """Text about every visual: what follows it in its row, or what precedes it where nothing follows.

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
            texts[span.modality, span.number] = after if len(after) else before
    return texts


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
        out["position_ids"] = _pad([p.to(ids.device) for p in picks], 0, right)
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

    The number of survivors is known on the host, so nothing is asked of the device.
    """
    if not spans:
        return torch.arange(length, device="cpu")
    device = kept[spans[0].modality, spans[0].number].device
    pieces, at = [], 0
    for span in spans:
        pieces.append(torch.arange(at, span.start, device=device))
        sources = kept[span.modality, span.number].to(device)
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
    """An unpadded row with the placeholder ids that are sent."""
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
    """A shortened row whose visuals are one run each: it follows from counts, on the host."""
    pieces, at = [], 0
    for span in spans:
        count = int(kept[span.modality, span.number].shape[0])
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

"""Write shortened prompts: as many placeholders as tokens survive, positions and labels to match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.prompt import Prompt, Span
from vidcompress.errors import UnsupportedInputError

PER_TOKEN_KEYS = ("labels", "token_type_ids", "mm_token_type_ids", "position_ids")


@outside_caller_modes
def parse_prompt(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    placeholders: Mapping[str, int | None],
    lengths: Mapping[str, Sequence[int]],
) -> Prompt:
    """Match placeholders with visuals.

    Args:
        input_ids: (row, column) int64.
        attention_mask: (row, column), 0 at padding; None for no padding.
        placeholders: token id of `image` and of `video`.
        lengths: for `image` and `video` the full length N of every visual of the batch, in order.

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
    queues = {kind: list(enumerate(lengths.get(kind, ()))) for kind in placeholders}
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
                f"the inputs hold {len(lengths[kind])} {kind}s, but the prompts have placeholders for only "
                f"{len(lengths[kind]) - len(rest)}; put one {kind} placeholder per {kind} into the text"
            )
    pads = ids[mask == 0]  # looked at here, where ids and mask are on the host already
    padding = int(pads[0]) if len(pads) else None
    return Prompt(rows, columns, spans, bool((mask[:, -1] == 0).any()), padding)


def _row_spans(
    ids: Tensor, number: int, placeholders: Mapping[str, int | None], queues: dict[str, list[tuple[int, int]]]
) -> list[Span]:
    spans = []
    for kind, token in placeholders.items():
        if token is None:
            continue
        for start, length in _runs(ids == token):
            while length > 0:
                if not queues[kind]:
                    raise UnsupportedInputError(
                        f"prompt row {number} has {length} {kind} placeholders more than the inputs have {kind}s; pass "
                        f"one {kind} per placeholder, expanded by the processor"
                    )
                index, full = queues[kind].pop(0)
                if full > length:
                    raise UnsupportedInputError(
                        f"prompt row {number} has a run of {length} {kind} placeholders where {kind} {index} has "
                        f"{full} tokens; let the processor expand the placeholders"
                    )
                spans.append(Span(start, full, kind, index))
                start, length = start + full, length - full
    return sorted(spans, key=lambda span: span.start)


def _runs(mask: Tensor) -> list[tuple[int, int]]:
    """(start, length) of every run of true entries."""
    outside = torch.zeros(1, dtype=torch.int8)
    edges = torch.diff(mask.to(torch.int8), prepend=outside, append=outside)
    starts, stops = (edges == 1).nonzero().flatten().tolist(), (edges == -1).nonzero().flatten().tolist()
    return [(a, b - a) for a, b in zip(starts, stops, strict=True)]


@outside_caller_modes
def questions(prompt: Prompt) -> dict[tuple[str, int], Tensor]:
    """The text about every visual: what follows it in its row, or what precedes it where nothing follows.

    Returns:
        For each (modality, number) the ids (T,) int64 of that text on the CPU, without placeholders.
    """
    found = {}
    for row, spans in zip(prompt.rows, prompt.spans, strict=True):
        is_text = torch.ones_like(row, dtype=torch.bool)
        for span in spans:
            is_text[span.start : span.start + span.length] = False
        for span in spans:
            stop = span.start + span.length
            after = row[stop:][is_text[stop:]]
            found[span.modality, span.number] = (
                after if len(after) else row[: span.start][is_text[: span.start]]
            )
    return found


def splice(
    inputs: Mapping[str, Any],
    prompt: Prompt,
    kept: Mapping[tuple[str, int], Tensor],
    *,
    image_token_id: int,
    pad_token_id: int,
    original_positions: bool,
) -> dict[str, Tensor]:
    """Shorten every per-token input.

    Args:
        inputs: the caller's inputs.
        prompt: their parsed rows.
        kept: for each (modality, number) the (K,) source positions of its surviving tokens, in the order sent.
        image_token_id: written for every surviving visual token, images and videos alike.
        pad_token_id: fills the padding.
        original_positions: also return `position_ids` with the gaps that dropped tokens leave; otherwise
            position_ids that the caller gave are renumbered without gaps.

    Returns:
        input_ids, attention_mask and, where given or asked for, labels, type ids and position_ids; padded on
        the side on which the inputs were padded.
    """
    device = inputs["input_ids"].device
    picks: list[Tensor] = []
    if original_positions or any(inputs.get(key) is not None for key in PER_TOKEN_KEYS):
        picks = [_picks(len(r), s, kept) for r, s in zip(prompt.rows, prompt.spans, strict=True)]
    ids = []
    for row, spans in zip(prompt.rows, prompt.spans, strict=True):
        pieces, at = [], 0
        for span in spans:
            count = int(kept[span.modality, span.number].shape[0])
            pieces += [row[at : span.start], torch.full((count,), image_token_id, device="cpu")]
            at = span.start + span.length
        ids.append(torch.cat([*pieces, row[at:]]))
    out = {
        "input_ids": _pad(ids, pad_token_id, prompt.pad_right).to(device),
        "attention_mask": _pad([torch.ones_like(r) for r in ids], 0, prompt.pad_right).to(device),
    }
    for key in PER_TOKEN_KEYS:
        value = inputs.get(key)
        if value is None:
            continue
        if not isinstance(value, Tensor) or value.shape != inputs["input_ids"].shape:
            raise UnsupportedInputError(
                f"{key} must have the shape of input_ids {tuple(inputs['input_ids'].shape)}, got "
                f"{tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
            )
        rows = [
            value[i, columns.to(value.device)][pick.to(value.device)]
            for i, (columns, pick) in enumerate(zip(prompt.columns, picks, strict=True))
        ]
        if key == "position_ids" and not original_positions:
            rows = [torch.arange(len(row), dtype=row.dtype, device=row.device) for row in rows]
        out[key] = _pad(rows, -100 if key == "labels" else 0, prompt.pad_right)
    if original_positions and "position_ids" not in out:
        out["position_ids"] = _pad([p.to(device) for p in picks], 0, prompt.pad_right)
    return out


def _picks(length: int, spans: Sequence[Span], kept: Mapping[tuple[str, int], Tensor]) -> Tensor:
    """Which tokens of an unpadded row survive: (new length,) int64, on the device of the selections."""
    if not spans:
        return torch.arange(length, device="cpu")
    device = kept[spans[0].modality, spans[0].number].device
    pieces, at = [], 0
    for span in spans:
        pieces.append(torch.arange(at, span.start, device=device))
        pieces.append(span.start + kept[span.modality, span.number].to(device))
        at = span.start + span.length
    pieces.append(torch.arange(at, length, device=device))
    return torch.cat(pieces)


def _pad(rows: Sequence[Tensor], value: int, right: bool) -> Tensor:
    """Stack rows of unequal length, padded on one side."""
    width = max(r.shape[0] for r in rows)
    out = rows[0].new_full((len(rows), width), value)
    for i, row in enumerate(rows):
        start = 0 if right else width - row.shape[0]
        out[i, start : start + row.shape[0]] = row
    return out

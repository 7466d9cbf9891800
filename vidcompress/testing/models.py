"""Contract of a method on a model: the stock model at 1.0, exact counts, masked equivalence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.base import adapter_for
from vidcompress.core.method import Method, Positions
from vidcompress.core.method_lookup import get_method
from vidcompress.core.wrappers import unwrap
from vidcompress.session.compress import compress_inputs
from vidcompress.session.inputs import CompressedInputs
from vidcompress.testing.expect import (
    compressed,
    logits,
    masking_tells,
    name_of,
    placeholder_mask,
    positions_of,
    precision,
    require,
    same,
)
from vidcompress.testing.positions import stock_axes

RATIOS = ("0.01", "0.1", "0.25", "0.5", "0.77", "1")


def check_identity(
    model: Any,
    inputs: Mapping[str, Any],
    method: str | Method = "none",
    max_views: Sequence[int] = (1, 2, 16),
) -> None:
    """Check the logits at retention 1.0: the stock model's, to the bit on the CPU in float32 in the largest chunk.

    In smaller chunks the encoder multiplies other shapes, whose rounding depends on the processor.

    Args:
        model: a model that an adapter serves, in eval mode.
        inputs: output of its processor, one prompt row or several.
        method: a name or a `Method`.
        max_views: sizes of the chunks in which views are encoded, in units of 64 patches for encoders that take
            patches; the result may not depend on them.

    Raises:
        ContractError: logits, prompt or the caller's inputs have changed.
    """
    model = unwrap(model)
    before = {key: value.clone() for key, value in inputs.items() if isinstance(value, Tensor)}
    stock = logits(model, inputs)
    policies = positions_of(model)
    exact = stock.dtype == torch.float32 and stock.device.type == "cpu"
    for size in max_views:
        what = f"{name_of(method)} at retention 1.0, max_views={size}"
        got = compress_inputs(
            model,
            inputs,
            method,
            retention_ratio=1.0,
            positions=policies[0],
            max_views=size,
            max_patches=64 * size,
        )
        require(got["input_ids"].shape == inputs["input_ids"].shape, f"{what}: the prompt has another length")
        to_the_bit = exact and size == max(max_views)
        same(logits(model, got), stock, f"{what}: logits", 0.0 if to_the_bit else precision(model))
    if "original" in policies:
        gaps = compress_inputs(model, inputs, method, retention_ratio=1.0, positions="original")
        real = gaps["attention_mask"].bool()
        what = f"{name_of(method)} at retention 1.0 with original positions: logits"
        same(logits(model, gaps)[real], stock[real], what, precision(model))
    for key, value in before.items():
        require(
            torch.equal(value, inputs[key]),
            f"{name_of(method)}: {key} of the caller's inputs was written into",
        )


def check_counts(
    model: Any, inputs: Mapping[str, Any], method: str | Method, ratios: Sequence[str] = RATIOS
) -> None:
    """Check that each visual sends B = max(1, floor(R N + 1/2)) of its N positions; inexact methods no more than that.

    Args:
        model, inputs, method: as in `check_identity`.
        ratios: retention ratios, as decimals.

    Raises:
        ContractError: another count, a position sent twice, or text that has changed.
    """
    model = unwrap(model)
    chosen = get_method(method)
    total = int(placeholder_mask(model, inputs["input_ids"]).sum())
    for ratio in ratios:
        got = compressed(model, inputs, chosen, retention_ratio=ratio)
        if got is None:
            continue
        sent = 0
        for number, visual in enumerate(got.report.visuals):
            what = f"{chosen.name} at {ratio}, visual {number} of {visual.total} positions"
            budget = max(1, math.floor(Fraction(ratio) * visual.total + Fraction(1, 2)))
            budget = budget if chosen.uses_budget else visual.total
            require(visual.budget == budget, f"{what}: budget {visual.budget}, expected {budget}")
            right = visual.kept == budget if chosen.exact or not chosen.uses_budget else visual.kept <= budget
            require(right, f"{what}: sends {visual.kept}, its budget is {budget}")
            positions = visual.kept_positions
            require(len(set(positions.tolist())) == visual.kept, f"{what}: a position is sent twice")
            per_view = sum(view.kept for view in visual.views) + visual.separators_kept
            require(
                per_view == visual.kept,
                f"{what}: its views and separators add up to {per_view}, not {visual.kept}",
            )
            sent += visual.kept
        require(
            sum(v.total for v in got.report.visuals) == total,
            f"{total} placeholders, not all of them visuals",
        )
        require(
            int(placeholder_mask(model, got["input_ids"]).sum()) == sent,
            f"{chosen.name}: placeholders are not {sent}",
        )
        _check_text(model, inputs, got, chosen.name)


def check_masked(
    model: Any,
    inputs: Mapping[str, Any],
    method: str | Method,
    *,
    ratio: str = "0.5",
    positions: Positions = "contiguous",
) -> None:
    """Check that the logits equal those of the uncompressed model with every dropped token masked.

    The uncompressed model gets the same position ids, under `original` those of its own generate, and the features
    sent at the place of each sent token: the token itself, or the token that it was merged into. Masses are off on both
    sides. Nothing is checked where masking tells nothing: in decoders whose layers are not all attention, and of
    prompts beyond a sliding window; `check_entrance` judges these.

    Args:
        model, inputs, method: as in `check_identity`.
        ratio: the retention ratio.
        positions: `contiguous`, `original` or `scaled`; the last with the numbers that the compressed inputs have.

    Raises:
        ContractError: they differ by more than 1e-5 (in float32).
    """
    model = unwrap(model)
    if not masking_tells(model, inputs["input_ids"].shape[1]):
        return
    settings: dict[str, Any] = {"retention_ratio": ratio, "positions": positions, "mass": "off"}
    got = compressed(model, inputs, get_method(method), **settings)
    if got is None:
        return
    adapter = adapter_for(model)
    full = compress_inputs(model, inputs, "none", positions=positions)
    ids, mask = full["input_ids"], full["attention_mask"].clone()
    rows = {key: list(features) for key, features in full.features.rows.items()}
    for key, sent in got.features.rows.items():
        modalities = [modality for modality, name in adapter.sent_as.items() if name == key]
        of_key = ids == adapter.placeholder(modalities[0])
        numbers = sorted({v.row for v in got.report.visuals if v.modality in modalities})
        for number, row in enumerate(numbers):
            where = of_key[row].nonzero().flatten()
            kept = _kept_in_row(got, row, modalities).to(where.device)
            mask[row, where] = 0
            mask[row, where[kept]] = 1
            rows[key][number] = rows[key][number].clone()
            rows[key][number][kept] = sent[number].to(rows[key][number])
    if positions == "original":  # from the stock model, since the adapter may be wrong
        axes = stock_axes(model, inputs, full["attention_mask"])
        placed = axes if len(axes) > 1 else axes[0]
    elif positions == "scaled":
        placed = torch.zeros_like(mask)
        there = mask.bool()
        placed[there] = got["position_ids"][got["attention_mask"].bool()]
        risen = all(bool((row[real].diff() > 0).all()) for row, real in zip(placed, there, strict=True))
        require(risen, f"{name_of(method)} at {ratio}: scaled positions do not rise from token to token")
    else:
        placed = (mask.cumsum(-1) - 1).clamp(min=0)
    slow = dict(full) | {
        "mm_encoder_outputs": adapter.hand_over(adapter.traits, rows, full.features.deep),
        "attention_mask": mask,
        "position_ids": placed,
    }
    expected, got_logits = logits(model, slow)[mask.bool()], logits(model, got)[got["attention_mask"].bool()]
    what = f"{name_of(method)} at {ratio}, {positions} positions, against the model with dropped tokens masked: logits"
    same(got_logits, expected, what, precision(model))


def _kept_in_row(got: CompressedInputs, row: int, modalities: Sequence[str]) -> Tensor:
    """Return the numbers of the sent tokens among a row's placeholders of these modalities, in the order sent."""
    parts, before = [], 0
    for visual in got.report.visuals:
        if visual.row == row and visual.modality in modalities:
            parts.append(before + visual.kept_positions)
            before += visual.total
    return torch.cat(parts)


def _check_text(model: Any, inputs: Mapping[str, Any], got: CompressedInputs, name: str) -> None:
    def words(ids: Tensor, mask: Tensor) -> list[int]:
        return ids[mask.bool() & ~placeholder_mask(model, ids)].tolist()

    before = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    unchanged = words(inputs["input_ids"], before) == words(got["input_ids"], got["attention_mask"])
    require(unchanged, f"{name}: the text of a prompt has changed")

"""Contract of a method on a decoder that keeps a state: dropped tokens cannot be masked, so they are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.base import adapter_for
from vidcompress.core.method import Method, Positions
from vidcompress.core.method_lookup import get_method
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import UnsupportedModelError
from vidcompress.session.entrance import at_entrance, cut_of, language_model
from vidcompress.session.inputs import CompressedInputs
from vidcompress.session.prompt import TEXT_AXIS_OF
from vidcompress.testing.expect import compressed, logits, name_of, precision, same
from vidcompress.testing.positions import stock_axes


def check_gathered(
    model: Any,
    inputs: Mapping[str, Any],
    method: str | Method,
    *,
    ratio: str = "0.5",
    positions: Positions = "original",
) -> None:
    """Check that the logits equal those of the stock model on the surviving embeddings alone, row by row.

    For families whose decoder is not all attention, where `check_masked` does not apply: a layer that keeps a state has
    seen a masked token. The stock model gets, without any padding, the embeddings that it makes of the whole prompt
    at surviving columns, with the features sent at the place of each sent token, and its own positions there. Masses
    are off.

    Args:
        model, inputs, method: as in `check_identity`.
        ratio: the retention ratio.
        positions: `contiguous` or `original`.

    Raises:
        ContractError: they differ by more than 1e-5 (in float32).
        UnsupportedModelError: a family with companions, which embeddings do not hold; use `check_masked`.
    """
    model = unwrap(model)
    adapter = adapter_for(model)
    if adapter.traits.deep_levels:
        raise UnsupportedModelError(
            f"check_gathered cannot go with {type(model).__name__}, whose decoder adds companions behind its first "
            f"{adapter.traits.deep_levels} layers; use check_masked"
        )
    settings: dict[str, Any] = {"retention_ratio": ratio, "positions": positions, "mass": "off"}
    got = compressed(model, inputs, get_method(method), **settings)
    if got is None:
        return
    cut = cut_of(adapter, inputs, got, precision(model))
    whole: Tensor = at_entrance(model, language_model(adapter), inputs)["inputs_embeds"]
    stock, together = stock_axes(model, inputs, inputs.get("attention_mask")), logits(model, got)
    what = (
        f"{name_of(method)} at {ratio}, {positions} positions, against the surviving embeddings alone: logits"
    )
    for row, (columns, places) in enumerate(zip(cut.columns, cut.places, strict=True)):
        embeddings = _with_sent(whole[row, columns], adapter, got, row, places)
        placed = stock[:, row, columns].clone()
        if positions == "contiguous" or len(placed) == TEXT_AXIS_OF:  # the text axis has no gaps
            placed[0] = torch.arange(len(columns))
        alone = {
            "inputs_embeds": embeddings[None],
            "attention_mask": torch.ones_like(placed[:1]),
            "position_ids": placed[:1] if len(placed) == 1 else placed[:, None],
        }
        same(together[row, places], logits(model, alone)[0], what, precision(model))


def _with_sent(embeddings: Tensor, adapter: Any, got: CompressedInputs, row: int, places: Tensor) -> Tensor:
    """Return a row's surviving embeddings (n, D) with the features sent in them, which a method may have merged."""
    filled, ids = embeddings.clone(), got["input_ids"][row, places]
    for key, sent in got.features.rows.items():
        modalities = [modality for modality, name in adapter.sent_as.items() if name == key]
        numbers = sorted({v.row for v in got.report.visuals if v.modality in modalities})
        if row in numbers:
            filled[ids == adapter.placeholder(modalities[0])] = sent[numbers.index(row)].to(filled)
    return filled

"""Contract at the entrance of the language model: its inputs for a compressed prompt are a part of the whole ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidcompress.adapters.base import adapter_for
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import get_method
from vidcompress.core.wrappers import unwrap
from vidcompress.session.entrance import at_entrance as at_entrance
from vidcompress.session.entrance import difference_at_entrance
from vidcompress.testing.expect import compressed, name_of, positions_of, precision, require


def check_entrance(
    model: Any, inputs: Mapping[str, Any], method: str | Method = "uniform", *, ratio: str = "0.5"
) -> None:
    """Check that the language model's inputs for a compressed prompt are the stock model's, cut to surviving tokens.

    Embeddings and companions of surviving tokens are equal, positions are those of the stock model at surviving columns
    (the text axis of four renumbered), and every other tensor is equal or cut likewise, but masks of layers with a
    sliding window in a prompt beyond it. No decoder layer runs.

    Args:
        model: a model that an adapter serves, in eval mode.
        inputs: output of its processor.
        method: a name or a `Method` that makes no features of its own.
        ratio: the retention ratio.

    Raises:
        ContractError: an input that differs.
    """
    model = unwrap(model)
    adapter = adapter_for(model)
    what = f"{name_of(method)} at {ratio}, at the entrance of the language model"
    settings: dict[str, Any] = {"retention_ratio": ratio, "positions": positions_of(model)[-1], "mass": "off"}
    got = compressed(model, inputs, get_method(method), **settings)
    if got is None:
        return
    difference = difference_at_entrance(adapter, inputs, got, precision(model))
    require(difference is None, f"{what}: {difference}")

"""Invariant 7 for Gemma and Mistral 3: compression asks the device as often for many views as for few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from device_questions import CountSyncs
from gemma_models import gemma3, gemma3_inputs, gemma4, gemma4_inputs
from pixtral_models import mistral3, mistral3_inputs
from vidcompress.session.compress import compress_inputs

CASES: dict[str, tuple[Callable[[], Any], Callable[[int], dict[str, Any]]]] = {
    "crops of gemma3": (gemma3, lambda n: gemma3_inputs([[5, (n,), 7]], sizes=[(20, 90)])),
    "pictures of gemma3": (gemma3, lambda n: gemma3_inputs([[5, *[(0,)] * n, 7]])),
    "frames of gemma4": (gemma4, lambda n: gemma4_inputs([[5, (n, 2, 2), 7]])),
    "rows of mistral3": (mistral3, lambda n: mistral3_inputs([[5, (n, 3), 7]])),
}


@pytest.mark.parametrize("method", ["uniform", "globalcom2", "divprune"])
@pytest.mark.parametrize("case", CASES)
def test_few_and_many_views_ask_alike(case: str, method: str) -> None:
    """Beyond what belongs to one picture each: several pictures are several selections."""
    model, inputs_of = CASES[case][0](), CASES[case][1]

    def syncs(count: int) -> Counter[str]:
        inputs = inputs_of(count)
        settings: dict[str, Any] = {"retention_ratio": 0.5, "max_views": 64}
        compress_inputs(model, inputs, method, **settings)  # layouts are made once per geometry
        with CountSyncs() as counter:
            compress_inputs(model, inputs, method, **settings)
        return counter.seen

    few, many = syncs(3), syncs(17)
    if case.startswith("pictures"):
        assert sum(many.values()) <= sum(few.values()) * 17 / 3
    else:
        assert few == many

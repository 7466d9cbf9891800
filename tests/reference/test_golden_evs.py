"""EVS against recorded outputs of vLLM."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from reference.golden import cases, clip, load
from vidcompress.core.budget import VisualBudget
from vidcompress.methods.evs import EVS
from vidcompress.testing import select_alone


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("case", cases("vllm_evs"))
def test_dissimilarity_count_and_mask_match(case: str, dtype: torch.dtype) -> None:
    data, method = load("vllm_evs"), EVS()
    tokens, layout = clip("vllm_evs", case, dtype)
    np.testing.assert_allclose(
        method.dissimilarity(tokens).numpy(), data[f"{case}_dissimilarity"], rtol=0, atol=2e-6
    )
    for number, rate in enumerate(data[f"{case}_q"].tolist()):
        kept = np.flatnonzero(data[f"{case}_mask"][number]).tolist()
        share = VisualBudget(len(layout), 1, 0, 1 - rate, "reference")
        assert select_alone(method, tokens, share).index.tolist() == kept
        assert len(kept) == data[f"{case}_count"][number]
        exact = replace(share, positions=len(kept), policy="exact")
        assert select_alone(method, tokens, exact).index.tolist() == kept

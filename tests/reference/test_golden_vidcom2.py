"""VidCom2 against recorded outputs of the authors' code and of the port in vLLM."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from reference.golden import cases, clip, load, ragged
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.methods.vidcom2 import VidCom2
from vidcompress.testing import select_alone

DTYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases("vidcom2"))
def test_channels_scores_counts_and_order_match(case: str, dtype: torch.dtype) -> None:
    data, method = load("vidcom2"), VidCom2()
    tokens, layout = clip("vidcom2", case, dtype)
    measured = method.measure(VisualBatch([tokens]))
    assert measured.channels[0].tolist() == data[f"{case}_low_var_channels"].tolist()
    np.testing.assert_allclose(measured.frame.numpy(), data[f"{case}_frame_score"], rtol=0, atol=3e-6)
    frames, size = len(layout.views), layout.sizes[0]
    for number, ratio in enumerate(data[f"{case}_r"].tolist()):
        budget = visual_budget(layout, 1, ratio=Fraction(str(ratio)), separators="keep", policy="reference")
        scales = method.scales(measured.frame, budget.ratio)
        np.testing.assert_allclose(scales.numpy(), data[f"{case}_scales"][number], rtol=0, atol=2e-5)
        index = select_alone(method, tokens, budget).index
        sent = index.tolist()
        if str(data[f"{case}_model"]) == "llava_ov":
            assert sent.pop() == len(layout) - 1, "the newline comes last"
        assert sent == ragged(data, f"{case}_seq_index", number).tolist()
        for t in range(frames):
            kept = layout.row * layout.grid[1] + layout.col
            mine = kept[index[layout.view[index] == t]].tolist()
            assert mine == ragged(data, f"{case}_kept", number * frames + t).tolist()
            assert len(mine) <= size


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases("vllm_vidcom2"))
def test_global_reconciliation_matches_vllm(case: str, dtype: torch.dtype) -> None:
    data = load("vllm_vidcom2")
    tokens, layout = clip("vllm_vidcom2", case, dtype)
    for number, rate in enumerate(data[f"{case}_q"].tolist()):
        count = int(data[f"{case}_count"][number])
        budget = VisualBudget(len(layout), count, 0, 1 - rate)
        index = select_alone(VidCom2(reconcile="global"), tokens, budget).index
        assert index.tolist() == np.flatnonzero(data[f"{case}_mask"][number]).tolist()

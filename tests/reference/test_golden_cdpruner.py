"""CDPruner against recorded outputs of the authors' code: relevance, greedy order, gains, kept tokens."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from reference.golden import SIDE, cases, load
from vidcompress.adapters.layouts import image_layout
from vidcompress.core.budget import visual_budget
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.methods.cdpruner import CDPruner
from vidcompress.testing import select_alone

METHOD = CDPruner(auxiliary="recorded")
PATCHES = Evidence("patch_embedding", auxiliary="recorded")
TEXT = Evidence("text_embedding", auxiliary="recorded")


def scene(case: str, dtype: torch.dtype) -> VisualTokens:
    """The recorded views as a thumbnail and crops, with newlines whose features are far off on purpose."""
    data = load("cdpruner")
    values = {
        name: torch.from_numpy(data[f"{case}_{name}_q"].astype(np.float32) * data[f"{case}_{name}_step"])
        for name in ("feat", "embed")
    }
    views = values["feat"].shape[0]
    layout = image_layout((SIDE, SIDE), (1, views - 1) if views > 1 else None)
    packed = {}
    for name, value in values.items():
        flat = torch.full((len(layout), value.shape[-1]), 1e3, dtype=dtype)
        flat[layout.table.flatten()] = value.flatten(0, 1).to(dtype)
        packed[name] = flat
    text = torch.from_numpy(data[f"{case}_text_embeds"]).to(dtype)
    return VisualTokens(packed["feat"], layout, {PATCHES: packed["embed"], TEXT: text})


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("case", cases("cdpruner"))
def test_relevance_order_gain_and_tokens_match(case: str, dtype: torch.dtype) -> None:
    data, tokens = load("cdpruner"), scene(case, dtype)
    layout = tokens.layout
    relevance = METHOD.relevance_of(tokens)[layout.table]
    np.testing.assert_allclose(relevance.numpy(), data[f"{case}_relevance"], rtol=0, atol=1e-5)
    for count in data[f"{case}_T"].tolist():
        order = data[f"{case}_t{count}_order"]
        groups, picks = METHOD.picks(tokens, count)
        assert torch.equal(groups.index, layout.table)
        assert picks.order.tolist() == order.tolist()
        np.testing.assert_allclose(picks.gain.numpy(), data[f"{case}_t{count}_gain"], rtol=1e-4)
        share = Fraction(count, SIDE * SIDE)
        budget = visual_budget(layout, 1, ratio=share, separators="keep", policy="reference")
        index = select_alone(METHOD, tokens, budget).index
        assert bool(layout.separator[index].sum() == layout.num_separators)
        for view, kept in enumerate(np.sort(order, 1).tolist()):
            mine = (layout.table[view][:, None] == index).any(1).nonzero().flatten().tolist()
            assert mine == kept

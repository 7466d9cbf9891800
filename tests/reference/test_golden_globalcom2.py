"""GlobalCom2 in `reference` policy against recorded outputs of the authors' code."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from reference.golden import CLS, cases, image, load, ragged
from vidcompress.adapters.layouts import image_layout
from vidcompress.adapters.presets import TOKENS_2880
from vidcompress.core.budget import visual_budget
from vidcompress.core.scoring import allocate, commander_of_image
from vidcompress.core.tokens import VisualTokens
from vidcompress.methods.globalcom2 import GlobalCom2
from vidcompress.testing import select_alone

DTYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases("globalcom2"))
def test_geometry_scales_tokens_and_order_match(case: str, dtype: torch.dtype) -> None:
    data = load("globalcom2")
    tokens, names = image(case, dtype)
    layout = tokens.layout
    assert list(layout.sizes[1:]) == data[f"{case}_valid_count"].tolist()
    crops = len(layout.views) - 1
    for number, ratio in enumerate(data[f"{case}_R"].tolist()):
        budget = visual_budget(layout, 1, ratio=Fraction(str(ratio)), separators="keep", policy="reference")
        commander = commander_of_image(tokens.evidence[CLS], layout)
        rates, _ = allocate(commander, layout, budget.ratio, policy="reference")
        np.testing.assert_allclose(rates[1:].numpy(), data[f"{case}_scales"][number], rtol=0, atol=1e-10)

        index = select_alone(GlobalCom2(), tokens, budget).index.tolist()
        sent = [names[i] for i in index]
        thumb = [-2 - name for name in sent if name <= -2]
        assert thumb == ragged(data, f"{case}_thumb_kept", number).tolist()
        assert [name for name in sent if name > -2] == ragged(data, f"{case}_seq_fixed", number).tolist()
        assert sent[: len(thumb)] == [-2 - patch for patch in thumb], "the thumbnail precedes the crops"
        for crop in range(crops):
            valid = _valid(data, case, crop)
            kept = valid[ragged(data, f"{case}_crop_kept", number * crops + crop)]
            assert sorted(n - crop * 576 for n in sent if n >= 0 and n // 576 == crop) == kept.tolist()


@pytest.mark.parametrize("case", ["c00", "c01"])
def test_the_2880_convention_is_the_same_selection_without_newlines(case: str) -> None:
    """Of a picture that fills the canvas the authors unpad nothing, so all that the convention changes is newlines."""
    data, (tokens, names) = load("globalcom2"), image(case, torch.float64)
    inner = tokens.layout.token_index
    layout = image_layout((24, 24), TOKENS_2880.crops, newline=False)
    assert len(layout) == 2880
    bare = VisualTokens(tokens.features[inner], layout, {CLS: tokens.evidence[CLS][inner]})
    for number, ratio in enumerate(data[f"{case}_R"].tolist()):
        budget = visual_budget(layout, 1, ratio=Fraction(str(ratio)), separators="keep", policy="reference")
        sent = [names[inner[i]] for i in select_alone(GlobalCom2(), bare, budget).index.tolist()]
        thumb = [-2 - patch for patch in ragged(data, f"{case}_thumb_kept", number).tolist()]
        crops = [name for name in ragged(data, f"{case}_seq_fixed", number).tolist() if name != -1]
        assert sent == thumb + crops


def _valid(data: dict[str, np.ndarray], case: str, crop: int) -> np.ndarray:
    offsets = data[f"{case}_valid_offsets"]
    return data[f"{case}_valid_grid_index"][offsets[crop] : offsets[crop + 1]]


def test_float32_sums_would_not_do() -> None:
    """The golden counts need the allocation in float64: this documents why `allocate` insists on it."""
    data, wrong = load("globalcom2"), 0
    for case in cases("globalcom2"):
        tokens, _ = image(case, torch.float32)
        commander = commander_of_image(tokens.evidence[CLS], tokens.layout)
        for ratio in data[f"{case}_R"].tolist():
            rates = allocate(commander, tokens.layout, ratio, policy="reference")[0][1:]
            sizes = torch.tensor(tokens.layout.sizes[1:])
            wrong += int(((sizes * rates).long() != (sizes * rates.float()).long()).sum())
    assert wrong > 0

"""FasterVLM, PruMerge and VisionZip in `reference` policy against recorded outputs of the authors' code."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from reference.golden import cases, load, quantised, ratio_plan, views_layout
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.methods.fastervlm import FasterVLM
from vidcompress.methods.prumerge import PruMerge, outliers
from vidcompress.methods.prumerge_plus import PruMergePlus
from vidcompress.methods.visionzip import VisionZip
from vidcompress.ops.merging import cosines, nearest
from vidcompress.testing import select_alone

DTYPES = (torch.float32, torch.float64)
PATCHES = 576


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases("fastervlm"))
def test_fastervlm_masks_match(case: str, dtype: torch.dtype) -> None:
    data = load("fastervlm")
    attention = torch.from_numpy(data[f"{case}_cls_attn"]).to(dtype).mean(1)
    layout = views_layout(len(attention))
    evidence = {Evidence("cls_attention", "features"): attention.flatten()}
    tokens = VisualTokens(torch.zeros(len(layout), 1), layout, evidence)
    for number, kept in enumerate(data[f"{case}_T"].tolist()):
        index = select_alone(FasterVLM(), tokens, ratio_plan(layout, Fraction(kept, PATCHES))).index
        assert index.tolist() == np.flatnonzero(data[f"{case}_mask"][number]).tolist()


VARIANTS: list[tuple[str, Any, Fraction]] = [
    ("base_adaptive", PruMerge(count="iqr"), Fraction(1, 2)),
    ("base_eighth", PruMerge(), Fraction(1, 8)),
    ("plus_adaptive", PruMergePlus(count="iqr"), Fraction(1, 2)),
    ("plus_train_eighth", PruMergePlus(count="training"), Fraction(1, 2)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("variant", "method", "ratio"), VARIANTS, ids=[v[0] for v in VARIANTS])
@pytest.mark.parametrize("case", cases("prumerge"))
def test_prumerge_tokens_and_merged_features_match(
    case: str, variant: str, method: Any, ratio: Fraction, dtype: torch.dtype
) -> None:
    data = load("prumerge")
    hidden, keys = (quantised("prumerge", case, key, dtype) for key in ("hidden", "key"))
    query = torch.from_numpy(data[f"{case}_q_cls"]).to(dtype)
    attention = torch.softmax(keys @ query / keys.shape[1] ** 0.5, 0)[1:]
    np.testing.assert_allclose(attention.numpy(), data[f"{case}_cls_attn"], rtol=2e-5)
    layout = views_layout(1)
    evidence = {
        Evidence("cls_attention_whole", -1): attention,
        Evidence("keys", -1): keys[1:],
        Evidence("hidden", "features"): hidden[1:],
    }
    # With the identity for a projector the features sent are what the authors hand to theirs.
    tokens = VisualTokens(hidden[1:], layout, evidence, lambda x: x)
    budget = ratio_plan(layout, ratio)
    selection = select_alone(method, tokens, budget)
    kept = data[f"{case}_{variant}_kept"].tolist()
    assert selection.index[:-1].tolist() == kept
    if "adaptive" in variant:
        assert int(outliers(attention, layout)[0]) / PATCHES == data[f"{case}_{variant}_ratio"]
    expected = data[f"{case}_{variant}_output"]
    assert selection.features is not None
    np.testing.assert_allclose(selection.features.numpy(), expected, rtol=0, atol=1e-5)
    scores = method.attention(tokens)
    weights = method.weights(scores, layout)
    chosen = method.candidates(scores, method._counts(weights, layout, budget), layout, budget)
    column = chosen.column[0]
    assert column[len(kept) :].tolist() == data[f"{case}_{variant}_pruned"].tolist()
    assert int(selection.index[-1]) == data[f"{case}_{variant}_pruned"].max()
    ordered = keys[1:][column][None]
    slot = torch.arange(PATCHES)
    near = nearest(cosines(ordered[:, : len(kept)], ordered), (slot != slot[: len(kept), None])[None], 32)
    for row, neighbours in zip(near[0], data[f"{case}_{variant}_neighbours"], strict=True):
        assert sorted(column[row].tolist()) == sorted(neighbours.tolist())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", cases("visionzip"))
def test_visionzip_tokens_groups_and_contextual_features_match(case: str, dtype: torch.dtype) -> None:
    data = load("visionzip")
    attention = torch.from_numpy(data[f"{case}_cls_attn"]).to(dtype).mean(1)
    hidden, metric = (quantised("visionzip", case, key, dtype) for key in ("hidden", "metric"))
    views = len(attention)
    layout = views_layout(views)
    evidence = {
        Evidence("cls_attention", "features"): attention[:, 1:].flatten(),
        Evidence("mean_keys", "features"): metric[:, 1:].flatten(0, 1),
        Evidence("hidden", "features"): hidden[:, 1:].flatten(0, 1),
        Evidence("cls_hidden", "features"): hidden[:, 0],
    }
    tokens = VisualTokens(evidence[Evidence("hidden", "features")], layout, evidence, lambda x: x)
    method = VisionZip()
    for dominant, contextual in data[f"{case}_config"].tolist():
        budget = ratio_plan(layout, Fraction(dominant + contextual, PATCHES))
        counts = method.counts(tokens, budget)
        assert counts == ([dominant - 1] * views, [1] * views, [contextual] * views)
        selection = select_alone(method, tokens, budget)
        assert selection.features is not None
        rows = selection.features.view(views, dominant + contextual, -1)
        index = selection.index.view(views, -1)
        stem = f"{case}_d{dominant}x{contextual}"
        groups = method.groups(method.attention(tokens), layout, counts)
        assignment = method.assignment(tokens, groups, slice(None))
        for view in range(views):
            kept = sorted(data[f"{stem}_dominant"][view].tolist())
            assert kept[0] == 0, "the authors' first dominant token is CLS"
            assert torch.equal(rows[view, :dominant], hidden[view, kept])
            assert (index[view, 1:dominant] - view * PATCHES + 1).tolist() == kept[1:]
            targets = data[f"{stem}_target"][view].tolist()
            assert (index[view, dominant:] - view * PATCHES + 1).tolist() == targets
            source = data[f"{stem}_merge_src"][view] - 1
            assert torch.nonzero(groups.member[view]).flatten().tolist() == source.tolist()
            assert assignment[view, source].tolist() == data[f"{stem}_merge_assign"][view].tolist()
            np.testing.assert_allclose(
                rows[view, dominant:].numpy(), data[f"{stem}_contextual"][view], rtol=0, atol=1e-5
            )

"""The methods that follow the encoder's attention against a loop-style reference, on drawn inputs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import LAYOUTS, make_tokens
from reference import slow, slow_attention
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.selection import largest_remainder
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.methods.fastervlm import FasterVLM
from vidcompress.methods.hired import HiRED
from vidcompress.methods.prumerge import PruMerge, outliers
from vidcompress.methods.prumerge_plus import PruMergePlus
from vidcompress.methods.visionzip import VisionZip
from vidcompress.testing import select_alone

SMALL = {name: layout for name, layout in LAYOUTS.items() if len(layout) < 300}
HIDDEN, CLS_HIDDEN = Evidence("hidden", "features"), Evidence("cls_hidden", "features")


def drawn(data: st.DataObject, names: list[str]) -> VisualTokens:
    """Tokens of a drawn layout: ordinary ones, or with scores and keys of few distinct values, or all alike."""
    layout = SMALL[data.draw(st.sampled_from(names))]
    tokens = make_tokens(layout, seed=data.draw(st.integers(0, 10_000)), dtype=torch.float64, dim=3)
    kind = data.draw(st.sampled_from(["ordinary", "ties", "alike"]))
    if kind == "ordinary":
        return tokens
    values = 1 if kind == "alike" else 3
    evidence = {}
    for key, held in tokens.evidence.items():
        if "keys" in key.quantity:
            # Along the axes, cosines are 0 or 1 in any arithmetic.
            held = 2.0 * torch.eye(held.shape[1], dtype=held.dtype)[torch.arange(len(held)) * 7 // 5 % values]
        elif key.quantity not in ("hidden", "cls_hidden"):
            held = (held.abs() * 1e6).long() % values / 64 + 1 / 64
        evidence[key] = held
    return replace(tokens, evidence=evidence)


def a_plan(data: st.DataObject, layout: Layout, policy: str) -> VisualBudget:
    ratio = data.draw(st.sampled_from([Fraction(n, 40) for n in range(1, 41)]))
    if policy == "reference":
        return visual_budget(layout, 1, ratio=ratio, separators="keep", policy="reference")
    count = int(ratio * layout.num_tokens)
    return VisualBudget(len(layout), count, 0, float(ratio))


def columns(tokens: VisualTokens, quantity: Any, layer: Any) -> list[Any]:
    return tokens.evidence[Evidence(quantity, layer)].tolist()


def separators(layout: Layout, budget: VisualBudget) -> list[int]:
    return layout.separator_index.tolist() if budget.separators else []


def split(weights: list[Any], budget: VisualBudget, layout: Layout) -> list[int]:
    """The package's split, which has a test of its own: only so do exact ties of remainders fall alike."""
    caps = torch.tensor(layout.sizes)
    return largest_remainder(torch.tensor(weights, dtype=torch.float64), budget.tokens, caps).tolist()


policies = pytest.mark.parametrize("policy", ["exact", "reference"])
ALL, IMAGE_NAMES = sorted(SMALL), sorted(name for name in SMALL if name.startswith("image"))


@policies
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fastervlm(policy: str, data: st.DataObject) -> None:
    tokens = drawn(data, ALL)
    layout, budget = tokens.layout, a_plan(data, tokens.layout, policy)
    groups, scores = slow.cells_of(layout), columns(tokens, "cls_attention", "features")
    if policy == "exact":
        counts = slow_attention.in_proportion(budget.tokens, [len(group) for group in groups])
    else:
        ratio = Fraction(budget.ratio).limit_denominator(40)
        counts = [min(len(g), max(1, slow_attention.half_up(ratio * len(g)))) for g in groups]
    kept = [i for g, n in zip(groups, counts, strict=True) for i in slow_attention.best(g, scores, n)]
    wanted = sorted(kept + separators(layout, budget))
    index = select_alone(FasterVLM(), tokens, budget).index.tolist()
    assert index == wanted


@policies
@settings(max_examples=100, deadline=None)
@given(data=st.data(), alpha=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_hired(policy: str, data: st.DataObject, alpha: float) -> None:
    tokens = drawn(data, IMAGE_NAMES)
    layout, budget = tokens.layout, a_plan(data, tokens.layout, policy)
    groups, method = slow.cells_of(layout), HiRED(alpha=alpha)
    early, late = columns(tokens, "cls_attention", 0), columns(tokens, "cls_attention", "features")
    if policy == "exact":
        _, allotment = method.scores(VisualBatch([tokens]), [budget])
        weights = allotment.weights
        assert weights.tolist() == pytest.approx(
            slow_attention.hired_weights(early, layout, groups, alpha), abs=1e-12
        )
        counts = split(weights.tolist(), budget, layout)
    else:
        counts = slow_attention.hired_reference(early, groups, budget.ratio, alpha)
    kept = [i for g, n in zip(groups, counts, strict=True) for i in slow_attention.best(g, late, n)]
    wanted = sorted(kept + separators(layout, budget))
    index = select_alone(method, tokens, budget).index.tolist()
    assert index == wanted


@policies
@settings(max_examples=120, deadline=None)
@given(data=st.data(), share=st.sampled_from([0.0, 0.15625, 0.5, 1.0]), cls=st.booleans())
def test_visionzip(policy: str, data: st.DataObject, share: float, cls: bool) -> None:
    tokens = drawn(data, ALL)
    if not cls:  # as of an encoder without a CLS token
        tokens = replace(tokens, evidence={k: v for k, v in tokens.evidence.items() if k != CLS_HIDDEN})
    layout, budget = tokens.layout, a_plan(data, tokens.layout, policy)
    groups, scores = slow.cells_of(layout), columns(tokens, "cls_attention", "features")
    keys, hidden = columns(tokens, "mean_keys", "features"), columns(tokens, "hidden", "features")
    assert tokens.project is not None
    sizes = [len(group) for group in groups]
    if policy == "exact":
        counts = slow_attention.in_proportion(budget.tokens, sizes)
    else:
        ratio = Fraction(budget.ratio).limit_denominator(40)
        counts = [min(n, max(1, slow_attention.half_up(ratio * n))) for n in sizes]
    wanted: dict[int, torch.Tensor] = {i: tokens.features[i] for i in separators(layout, budget)}
    blocks: list[list[list[int]]] = []
    for view, (group, k) in enumerate(zip(groups, counts, strict=True)):
        dominant, merged, with_cls = slow_attention.visionzip(
            group, k, Fraction(share), cls, scores, keys, hidden
        )
        for i in dominant:
            wanted[i] = tokens.features[i]
        for i, vector in merged:
            made = (
                tokens.features[i]
                if vector is None
                else tokens.project(torch.tensor(vector, dtype=torch.float64)[None])[0]
            )
            wanted[i] = made
        first = []
        if with_cls:
            free = next(i for i in group if i not in wanted)
            first = [free]
            wanted[free] = tokens.project(tokens.evidence[CLS_HIDDEN][view][None])[0]
        blocks.append([first, dominant, [i for i, _ in merged]])
    selection = select_alone(VisionZip(contextual_share=share), tokens, budget)
    index = selection.index.tolist()
    assert index == (sorted(wanted) if policy == "exact" else appended(layout, blocks, budget))
    assert selection.features is not None
    expected = torch.stack([wanted[i] for i in index]) if index else selection.features
    torch.testing.assert_close(selection.features, expected, rtol=1e-9, atol=1e-9)


def appended(layout: Layout, blocks: list[list[list[int]]], budget: VisualBudget) -> list[int]:
    """The authors' order: blocks of thumbnail or frames; of crops dominant ones and newlines, CLS, contextual."""
    ends = separators(layout, budget)
    if layout.modality == "image":
        crops = blocks[1:]
        canvas = sorted([i for block in crops for i in block[1]] + ends)
        rest = [i for part in (0, 2) for block in crops for i in block[part]]
        return [i for part in blocks[0] for i in part] + canvas + rest
    frame = {i: max(0, layout.view[:i][~layout.separator[:i]].max().item()) for i in ends}
    return [
        i
        for number, block in enumerate(blocks)
        for part in (*block, [i for i in ends if frame[i] == number])
        for i in part
    ]


@pytest.mark.parametrize("count", ["budget", "iqr", "training"])
@pytest.mark.parametrize("plus", [False, True])
@policies
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_prumerge(policy: str, plus: bool, count: str, data: st.DataObject) -> None:
    if count == "training" and (not plus or policy == "exact"):
        return
    tokens = drawn(data, ALL)
    layout, budget = tokens.layout, a_plan(data, tokens.layout, policy)
    options: dict[str, Any] = {
        "count": count,
        "neighbours": data.draw(st.sampled_from([0, 1, 3, 32])),
        "extra_token": data.draw(st.booleans()),
    }
    method = PruMergePlus(**options) if plus else PruMerge(**options)
    groups, scores = slow.cells_of(layout), columns(tokens, "cls_attention_whole", -1)
    standing_out = [slow_attention.outliers([scores[i] for i in group]) for group in groups]
    assert outliers(tokens.evidence[Evidence("cls_attention_whole", -1)], layout).tolist() == standing_out
    sizes = [len(group) for group in groups]
    if policy == "exact":
        weights = standing_out if count == "iqr" else sizes
        counts = split(weights, budget, layout)
    elif count == "budget":
        counts = [min(n, max(1, int(n * budget.ratio))) for n in sizes]
    else:
        counts = [min(n, max(1, out)) for n, out in zip(sizes, standing_out, strict=True)]
    wanted = []
    for group, k in zip(groups, counts, strict=True):
        wanted += of_one_view(method, tokens, group, k, policy)
    wanted += [(i, tokens.features[i]) for i in separators(layout, budget)]
    if policy == "exact":
        wanted.sort(key=lambda pair: pair[0])
    selection = select_alone(method, tokens, budget)
    assert selection.index.tolist() == [i for i, _ in wanted]
    assert selection.features is not None
    expected = torch.stack([x for _, x in wanted]) if wanted else selection.features
    torch.testing.assert_close(selection.features, expected, rtol=1e-9, atol=1e-9)


def of_one_view(
    method: PruMerge, tokens: VisualTokens, group: list[int], k: int, policy: str
) -> list[tuple[int, torch.Tensor]]:
    """What a view of budget k sends, kept tokens first."""
    scores, keys = columns(tokens, "cls_attention_whole", -1), columns(tokens, "keys", -1)
    n = len(group)
    if n == 0 or k == 0:
        return []
    room = k - int(policy == "exact" and method.extra_token and 1 < k < n)
    kept = slow_attention.best(group, scores, room)
    if isinstance(method, PruMergePlus):
        if policy == "exact" or method.count == "budget":
            spaced = int(0.75 * room + 0.5)
            kept = slow_attention.best(group, scores, room - spaced)
            rest = [i for i in group if i not in kept]
            kept = kept + (slow_attention.spaced_among(rest, spaced) if spaced else [])
        elif method.count == "iqr":
            kept = slow_attention.plus_adaptive(group, scores, room)
        else:
            kept = slow_attention.best(group, scores, max(1, n // 8)) + group[4 : n - 1 : 8]
    pruned = [i for i in group if i not in kept]
    if not pruned:
        return [(i, tokens.features[i]) for i in kept]
    assert tokens.project is not None
    made, extra = slow_attention.prumerge(
        group, kept, scores, keys, tokens.evidence[HIDDEN].tolist(), method.neighbours
    )
    sent = list(zip(kept, made, strict=True))
    if method.extra_token and (policy == "reference" or k > 1):
        sent.append((pruned[-1], extra))
    return [(i, tokens.project(torch.tensor(x, dtype=torch.float64)[None])[0]) for i, x in sent]

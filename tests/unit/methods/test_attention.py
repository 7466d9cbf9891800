"""FasterVLM, HiRED, PruMerge, PruMerge+ and VisionZip: what they ask for, what stands in, what their options do."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch

from layouts import IMAGES, VIDEOS, make_tokens
from vidcompress import errors
from vidcompress.adapters.layouts import image_layout
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.method_lookup import get_method
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import UnsupportedInputError
from vidcompress.ops.merging import cosines, merge_groups, merge_neighbours, nearest
from vidcompress.testing import select_alone

NAMES = ("fastervlm", "hired", "prumerge", "prumerge_plus", "visionzip")
CLS, RECEIVED = Evidence("cls_attention", "features"), Evidence("attention_received", "features")
HIDDEN, CLS_HIDDEN = Evidence("hidden", "features"), Evidence("cls_hidden", "features")
WHOLE, KEYS = Evidence("cls_attention_whole", -1), Evidence("keys", -1)
MEAN_KEYS = Evidence("mean_keys", "features")


@pytest.mark.parametrize(
    ("name", "options", "has_cls", "wanted"),
    [
        ("fastervlm", {}, True, (CLS,)),
        ("fastervlm", {}, False, (RECEIVED,)),
        ("fastervlm", {"layer": -1}, True, (Evidence("cls_attention", -1),)),
        ("hired", {}, True, (CLS, Evidence("cls_attention", 0))),
        ("hired", {}, False, (RECEIVED, Evidence("attention_received", 0))),
        ("hired", {"budget_layer": "features"}, True, (CLS,)),
        ("visionzip", {}, True, (CLS, MEAN_KEYS, HIDDEN, CLS_HIDDEN)),
        ("visionzip", {}, False, (RECEIVED, MEAN_KEYS, HIDDEN)),
        ("prumerge", {}, True, (WHOLE, KEYS, HIDDEN)),
        ("prumerge", {"merge": False}, True, (WHOLE,)),
        ("prumerge_plus", {}, True, (WHOLE, KEYS, HIDDEN)),
        ("prumerge_plus", {}, False, (Evidence("attention_received", -1), KEYS, HIDDEN)),
    ],
)
def test_evidence_asked_for(name: str, options: dict[str, Any], has_cls: bool, wanted: Any) -> None:
    for modality in ("image", "video"):
        assert get_method(name, **options).needs(modality, has_cls) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_the_fallback_is_said_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_WARNED", set())
    method = get_method(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.needs("image", True)
    with pytest.warns(UserWarning, match=f"method '{name}' wants .* CLS token, which this encoder does not"):
        method.needs("image", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.needs("image", False)


@pytest.mark.parametrize("name", NAMES)
def test_attention_received_stands_in_where_there_is_no_cls(name: str) -> None:
    tokens = make_tokens(IMAGES["two by two"])
    received = {key: value for key, value in tokens.evidence.items() if "cls" not in key.quantity}
    budget = visual_budget(tokens.layout, 60)
    without = select_alone(get_method(name), replace(tokens, evidence=received), budget)
    # The same numbers under the name of the CLS token's attention rank alike.
    as_cls = {
        Evidence("cls_attention_whole" if name.startswith("prumerge") else "cls_attention", key.layer): value
        for key, value in received.items()
        if key.quantity == "attention_received"
    }
    named = select_alone(get_method(name), replace(tokens, evidence=received | as_cls), budget)
    assert torch.equal(without.index, named.index)
    assert without.index.tolist() != select_alone(get_method(name), tokens, budget).index.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_missing_evidence_is_named(name: str) -> None:
    tokens = make_tokens(IMAGES["two by two"])
    budget = visual_budget(tokens.layout, 20)
    for key in get_method(name).needs("image", True):
        if key == CLS_HIDDEN:
            continue  # without it no CLS token is sent
        some = {k: v for k, v in tokens.evidence.items() if k != key and k.quantity != "attention_received"}
        with pytest.raises(UnsupportedInputError, match=f"needs .*{key.quantity}.*but the tokens came with"):
            select_alone(get_method(name), replace(tokens, evidence=some), budget)


def test_hired_follows_the_marks() -> None:
    """All marks in one quadrant: its crop takes what the thumbnail leaves, in boxes as in stripes."""
    layout = image_layout((4, 4), (2, 2))
    tokens = make_tokens(layout)
    early = torch.zeros(len(layout))
    early[[2, 3, 6, 7]] = (
        1.0  # top right of the thumbnail: the second crop, but the upper two stripes of four
    )
    tokens.evidence[Evidence("cls_attention", 0)] = early
    method = get_method("hired", alpha=0.75)  # int(0.25 x 16) = 4 marks
    index = select_alone(method, tokens, VisualBudget(len(layout), 16, 0, 0.2)).index
    assert layout.view[index].bincount(minlength=5).tolist() == [12, 0, 4, 0, 0]
    budget = VisualBudget(len(layout), 16, 8, 0.2, "reference", keep_separators=True)
    index = select_alone(method, tokens, budget).index
    assert layout.view[index].bincount(minlength=6).tolist() == [12, 2, 2, 0, 0, 8]


@pytest.mark.parametrize("policy", ["exact", "reference"])
@pytest.mark.parametrize("name", ["visionzip", "prumerge", "prumerge_plus"])
def test_exact_sends_tokens_in_sequence_and_reference_in_the_authors_order(name: str, policy: Any) -> None:
    tokens = make_tokens(VIDEOS["newline per row"])
    budget = visual_budget(tokens.layout, 60, separators="keep", policy=policy)
    index = select_alone(get_method(name), tokens, budget).index
    assert (index[1:] > index[:-1]).all().item() == (policy == "exact")


def test_prumerge_sends_newlines_last_in_score_order() -> None:
    tokens = make_tokens(VIDEOS["newline per row"])
    budget = visual_budget(tokens.layout, 60, separators="keep", policy="reference")
    index = select_alone(get_method("prumerge"), tokens, budget).index
    ends = tokens.layout.separator[index].tolist()
    assert ends == sorted(ends) and sum(ends) == tokens.layout.num_separators
    views = tokens.layout.view[index].tolist()
    assert views == sorted(views)


def test_prumerge_without_merging_is_a_selection() -> None:
    tokens = make_tokens(IMAGES["landscape"])
    budget = visual_budget(tokens.layout, 40)
    plain = select_alone(get_method("prumerge", merge=False), tokens, budget)
    assert torch.equal(plain.gather(tokens), tokens.features[plain.index])
    ranked = select_alone(
        get_method("fastervlm", layer=-1),
        replace(tokens, evidence={Evidence("cls_attention", -1): tokens.evidence[WHOLE]}),
        budget,
    )
    assert torch.equal(plain.index, ranked.index)


def test_iqr_gives_more_to_views_that_stand_out_more() -> None:
    tokens = make_tokens(VIDEOS["no newline"])
    values = torch.full((5, 9), 0.1)
    values[0, :2], values[3, 4] = 1.0, 1.0
    tokens.evidence[WHOLE] = (values + torch.arange(9) / 1e3).flatten()
    index = select_alone(get_method("prumerge", count="iqr"), tokens, visual_budget(tokens.layout, 9)).index
    assert tokens.layout.view[index].bincount(minlength=5).tolist() == [6, 0, 0, 3, 0]
    index = select_alone(get_method("prumerge"), tokens, visual_budget(tokens.layout, 10)).index
    assert tokens.layout.view[index].bincount(minlength=5).tolist() == [2] * 5


def test_visionzip_counts_cls_and_contextual_tokens_in_the_budget() -> None:
    tokens = make_tokens(VIDEOS["no newline"])
    method = get_method("visionzip", contextual_share=0.5)
    counts = method.counts(tokens, visual_budget(tokens.layout, 20))
    assert counts == ([1] * 5, [1] * 5, [2] * 5)
    bare = VisualTokens(tokens.features, tokens.layout, tokens.evidence)
    assert method.counts(bare, visual_budget(tokens.layout, 20)) == ([2] * 5, [0] * 5, [2] * 5)
    assert method.counts(tokens, visual_budget(tokens.layout, 45)) == ([4] * 5, [0] * 5, [5] * 5)


@pytest.mark.parametrize("name", ["visionzip", "prumerge", "prumerge_plus"])
def test_one_broken_token_spoils_no_merged_one(name: str) -> None:
    tokens = make_tokens(VIDEOS["one frame"], seed=3)
    budget = visual_budget(tokens.layout, 9)
    tokens = VisualTokens(
        tokens.features, tokens.layout, tokens.evidence
    )  # no projector: features are merged
    whole = get_method(name)
    sent = set(select_alone(whole, tokens, budget).index.tolist())
    victim = next(i for i in range(25) if i not in sent)
    tokens.features[victim] = torch.nan
    selection = select_alone(whole, tokens, budget)
    assert bool(selection.gather(tokens).isfinite().all())


@pytest.mark.parametrize("name", ["visionzip", "prumerge", "prumerge_plus"])
def test_blocks_of_views_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = make_tokens(IMAGES["37 views"], dtype=torch.float64)
    budget = visual_budget(tokens.layout, 150)
    whole = select_alone(get_method(name), tokens, budget)
    monkeypatch.setattr("vidcompress.core.reductions.CPU_BLOCK", 1)
    parts = select_alone(get_method(name), tokens, budget)
    assert torch.equal(whole.index, parts.index)
    torch.testing.assert_close(whole.gather(tokens), parts.gather(tokens))


def test_nearest_takes_ties_in_order_and_only_what_is_allowed() -> None:
    values = torch.tensor([[[1.0, 0.5, 0.5, 0.5, 2.0]]])
    allowed = torch.tensor([[[True, True, True, True, False]]])
    assert nearest(values, allowed, 2).tolist() == [[[True, True, False, False, False]]]
    assert nearest(values, allowed, 5).tolist() == [[[True, True, True, True, False]]]


def test_cosines_of_zero_and_broken_vectors() -> None:
    x = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [torch.nan, 1.0]]])
    assert cosines(x[:, :1], x).flatten().tolist() == pytest.approx([1.0, 0.0, -2.0])


def test_merging_by_hand() -> None:
    x = torch.tensor([[[1.0], [10.0], [100.0], [1000.0]]])
    group, member = torch.tensor([[0, 0, 1, 0]]), torch.tensor([[False, True, False, True]])
    centre = torch.tensor([[0, 2]])
    merged, size = merge_groups(x, group, member, centre)
    assert (merged.flatten().tolist(), size.tolist()) == ([506.0, 100.0], [[2.0, 0.0]])
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 2.0]]])
    weight = torch.tensor([[0.5, 0.25, 2.0, 4.0]])
    kept, size = torch.tensor([2]), torch.tensor([4])
    extra = torch.tensor([True])
    made = merge_neighbours(x, keys, weight, kept, size, extra, most=2, neighbours=1)
    assert made.features.flatten().tolist() == [1 + 2 * 100, 10 + 4 * 1000, 2 * 100 + 4 * 1000]
    # The first pruned token went into a kept one and into the sum, the last counts for the sum alone.
    assert (made.mass.tolist(), made.heirless.tolist()) == ([[1.5, 1.0, 1.5]], [[False] * 4])
    made = merge_neighbours(x, keys, weight, kept, size, ~extra, most=2, neighbours=1)
    assert (made.mass.tolist(), made.heirless.tolist()) == ([[2.0, 2.0, 0.0]], [[False] * 4])
    made = merge_neighbours(x, keys, weight, kept, size, ~extra, most=2, neighbours=0)
    assert (made.mass.tolist(), made.heirless.tolist()) == ([[1.0, 1.0, 0.0]], [[False, False, True, True]])

"""Options of the methods: what they ask of the encoder, what they refuse, and that the cards tell the truth."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest
import torch

from layouts import IMAGES, VIDEOS, make_tokens
from vidcompress.adapters.layouts import video_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import visual_budget
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, UnsupportedInputError
from vidcompress.methods.card import parse_card, read_card
from vidcompress.methods.globalcom2 import GlobalCom2
from vidcompress.methods.vidcom2 import VidCom2
from vidcompress.testing import select_alone


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("globalcom2", {"tau": 0}, "tau must be a number above 0, got 0"),
        ("globalcom2", {"tau": float("inf")}, "tau must be a number above 0"),
        ("globalcom2", {"alpha": 1.5}, "alpha must be a number from 0 .* to 1 .*got 1.5"),
        ("globalcom2", {"allocation": "softmax"}, "allocation must be one of uniform, topk, .*got 'softmax'"),
        ("globalcom2", {"score": "both"}, "score must be one of local, global, holistic, got 'both'"),
        ("globalcom2", {"evidence": "keys"}, "evidence must be one of auto, .*got 'keys'"),
        ("globalcom2", {"layer": 1.0}, "layer must be an integer .*got 1.0"),
        ("vidcom2", {"tau": -1}, "tau must be a number above 0, got -1"),
        ("vidcom2", {"channel_share": 0}, "channel_share must be above 0 and at most 1, got 0"),
        ("vidcom2", {"widths": ()}, r"widths must be one or more numbers above 0, got \(\)"),
        ("vidcom2", {"widths": (1.0, 0.0)}, "widths must be one or more numbers above 0"),
        (
            "vidcom2",
            {"reconcile": "local"},
            "reconcile must be one of largest_remainder, global, got 'local'",
        ),
        ("fastervlm", {"layer": "last"}, "layer must be an integer .* or 'features' .*got 'last'"),
        ("fastervlm", {"layer": True}, "layer must be an integer .*got True"),
        ("hired", {"alpha": -0.1}, "alpha must be a number from 0 .* to 1 .*got -0.1"),
        ("hired", {"alpha": "x"}, "alpha must be a number, got 'x'"),
        ("hired", {"budget_layer": 0.5}, "budget_layer must be an integer .*got 0.5"),
        ("visionzip", {"contextual_share": 1.1}, "contextual_share must be a number from 0 to 1, got 1.1"),
        ("prumerge", {"count": "training"}, "count must be one of budget, iqr, got 'training'"),
        ("prumerge", {"neighbours": -1}, "neighbours must be an integer of at least 0, got -1"),
        ("prumerge", {"merge": None}, "merge must be true or false, got None"),
        ("prumerge_plus", {"count": "all"}, "count must be one of budget, iqr, training, got 'all'"),
        (
            "divprune",
            {"start": "first"},
            "start must be one of farthest_neighbour, farthest_pair, got 'first'",
        ),
        ("cdpruner", {"relevance": "yes"}, "relevance must be one of auto, .*got 'yes'"),
        ("cdpruner", {"kernel": "rbf"}, "kernel must be one of product, exponential, got 'rbf'"),
        ("cdpruner", {"theta": 1}, "theta must be at least 0 and below 1, got 1"),
        ("cdpruner", {"auxiliary": 3}, "auxiliary must be a folder, got 3"),
        ("dycoke", {"window": 0}, "window must be an integer of at least 1, got 0"),
        ("dycoke", {"window": 4.0}, "window must be an integer of at least 1, got 4.0"),
        ("fastvid", {"segments": 0}, "segments must be an integer of at least 1, got 0"),
        ("fastvid", {"stride": 1.5}, "stride must be an integer of at least 1, got 1.5"),
        ("fastvid", {"neighbours": True}, "neighbours must be an integer of at least 1, got True"),
        ("fastvid", {"context_share": 1.1}, "context_share must be a number from 0 to 1, got 1.1"),
        ("fastvid", {"beta": -0.1}, "beta must be a number from 0 to 1, got -0.1"),
        ("fastvid", {"tau": "high"}, "tau must be a number, got 'high'"),
        ("fastvid", {"auxiliary": 3}, "auxiliary must be a folder, got 3"),
        ("random", {"seed": 1.5}, "seed must be an integer from 0 to .*, got 1.5"),
        ("random", {"seed": True}, "seed must be an integer from 0 to .*, got True"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        get_method(name, **options)


LOGITS = (Evidence("cls_logits", -1),)


@pytest.mark.parametrize(
    "options, modality, has_cls, wanted",
    [
        ({}, "image", True, LOGITS),
        ({}, "image", False, ()),
        ({}, "video", True, ()),
        ({"layer": -2}, "image", True, (Evidence("cls_logits", -2),)),
        ({"evidence": "distance"}, "image", True, ()),
        ({"evidence": "cls_attention"}, "image", True, (Evidence("cls_attention", -1),)),
        ({"evidence": "attention_received"}, "video", False, (Evidence("attention_received", -1),)),
    ],
)
def test_globalcom2_names_its_evidence(
    options: dict[str, Any], modality: Any, has_cls: bool, wanted: Any
) -> None:
    assert GlobalCom2(**options).needs(modality, has_cls) == wanted


@pytest.mark.parametrize(
    "name, options, has_cls, wanted",
    [
        ("cdpruner", {}, True, (Evidence("question"),)),
        ("cdpruner", {"relevance": "none"}, True, ()),
        (
            "cdpruner",
            {"auxiliary": "a"},
            True,
            (Evidence("patch_embedding", -1, "a"), Evidence("text_embedding", -1, "a")),
        ),
        ("fastvid", {}, True, (Evidence("cls_attention", -1),)),
        ("fastvid", {}, False, (Evidence("attention_received", -1),)),
        (
            "fastvid",
            {"auxiliary": "a"},
            False,
            (Evidence("pooling_attention", -1, "a"), Evidence("pooled", -1, "a")),
        ),
    ],
)
def test_methods_name_their_evidence(name: str, options: dict[str, Any], has_cls: bool, wanted: Any) -> None:
    assert get_method(name, **options).needs("video", has_cls) == wanted


@pytest.mark.parametrize("name", ["cdpruner", "fastvid"])
def test_a_fallback_is_said_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidcompress.errors._WARNED", set())
    with pytest.warns(UserWarning, match=f"method '{name}' has no auxiliary="):
        get_method(name).needs("video", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_method(name).needs("video", False)
        get_method(name, auxiliary="a").needs("video", False)


def test_methods_ask_the_encoder_only_for_what_their_card_says() -> None:
    for name in available_methods():
        card = read_card(name)
        if card is None or METHODS.get(name).__module__.startswith("tests"):
            continue
        asked = [get_method(name).needs(modality, True) for modality in card.modalities]
        encoder = METHODS.get(name).where == "before" and card.needs not in ("nothing", "features")
        assert any(asked) == encoder, name


def test_missing_evidence_is_named() -> None:
    tokens = make_tokens(IMAGES["two by two"])
    tokens.evidence = {Evidence("cls_logits", -1): tokens.evidence[Evidence("cls_logits", -1)]}
    method = GlobalCom2(evidence="cls_attention")
    with pytest.raises(UnsupportedInputError, match="needs Evidence.*cls_attention.*evidence='distance'"):
        select_alone(method, tokens, visual_budget(tokens.layout, 20))


def test_evidence_decides() -> None:
    """CLS logits, attention and distances lead to different tokens; on videos the commander is always the clip."""
    tokens = make_tokens(IMAGES["two by two"])
    other = Evidence("cls_attention", -1)
    tokens = VisualTokens(tokens.features, tokens.layout, {**tokens.evidence, other: torch.rand(len(tokens))})
    budget = visual_budget(tokens.layout, 40)
    chosen = [
        select_alone(GlobalCom2(evidence=source), tokens, budget).index.tolist()
        for source in ("auto", "cls_attention", "distance")
    ]
    assert chosen[0] != chosen[1] != chosen[2] != chosen[0]
    clip = make_tokens(VIDEOS["one newline"])
    by_logits, _ = GlobalCom2(evidence="cls_logits").global_and_local(VisualBatch([clip]))
    by_distance, _ = GlobalCom2().global_and_local(VisualBatch([clip]))
    assert torch.equal(by_logits, by_distance)


def test_vidcom2_scores_do_not_see_separators() -> None:
    tokens = make_tokens(VIDEOS["newline per row"])
    before = VidCom2().measure(VisualBatch([tokens]))
    tokens.features[tokens.layout.separator] = -7e3
    after = VidCom2().measure(VisualBatch([tokens]))
    keep = ~tokens.layout.separator
    assert torch.equal(before.channels, after.channels)
    assert torch.equal(before.similarity[keep], after.similarity[keep])
    assert torch.equal(before.frame, after.frame)


def test_every_method_has_a_card_that_tells_its_defaults() -> None:
    assert {"globalcom2", "vidcom2", "none", "random", "uniform", "pool", "frames"} <= set(
        available_methods()
    )
    for name in available_methods():
        cls = METHODS.get(name)
        if not cls.__module__.startswith("vidcompress.methods."):
            continue
        card = read_card(name)
        assert card is not None, f"method {name} has no card"
        assert card.name == name
        assert set(card.modalities) == set(cls.modalities)
        fields = dataclasses.fields(cls)
        defaults = {
            field.name: field.default for field in fields if field.default is not None
        }  # TOML has no null
        stated = {
            key: tuple(value) if isinstance(value, list) else value for key, value in card.defaults.items()
        }
        assert stated == defaults
        assert card.effect.endswith(".")
        assert len(card.text) > 200


@pytest.mark.parametrize(
    "source, message",
    [
        ("no head", "must begin with a TOML head between two lines"),
        ("+++\nname = 1", "must begin with a TOML head"),
        ("+++\nname = \n+++\n", "has a head that is not TOML"),
        ("+++\nname = 'x'\n+++\ntext", "card 'x' lacks the key 'effect'"),
    ],
)
def test_malformed_cards_are_refused(source: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_card("x", source)


def test_methods_without_a_card() -> None:
    assert read_card("somebody_elses") is None


def test_fastvid_cuts_below_tau_and_rounds_its_peaks_down() -> None:
    """By hand: three frames of one kind and three of another; a cosine of tau itself is no cut."""
    layout = video_layout(6, (2, 2), "none", device="cpu")
    features = torch.zeros(24, 4)
    features[:12, 0], features[12:, 1] = 1.0, 1.0  # cosines of frame means: 1, 1, 0, 1, 1
    tokens = VisualTokens(features, layout)
    for tau, segments in ((1.0, [0, 0, 0, 1, 1, 1]), (0.5, [0, 0, 0, 1, 1, 1]), (0.0, [0] * 6)):
        method = get_method("fastvid", segments=1, tau=tau)
        assert method.segments_of(tokens).tolist() == segments
    # Of 14 tokens 0.4 are 5.6: five peaks, and nine salient tokens.
    salient, peaks, _, _ = get_method("fastvid", context_share=0.4)._exact(tokens, visual_budget(layout, 14))
    assert (len(salient), len(peaks)) == (9, 5)

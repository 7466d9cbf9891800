"""Options of the methods: what they ask of the encoder, what they refuse, and that the cards tell the truth."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from layouts import IMAGES, VIDEOS, make_tokens
from vidcompress.budget import make_plan
from vidcompress.errors import ArgumentError, UnsupportedInputError
from vidcompress.methods.card import parse_card, read_card
from vidcompress.methods.globalcom2 import GlobalCom2
from vidcompress.methods.vidcom2 import VidCom2
from vidcompress.registry import METHODS, available_methods, get_method
from vidcompress.views import Evidence, VisualTokens


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
        ("fastervlm", {"evidence": "keys"}, "evidence must be one of auto, cls_attention, .*got 'keys'"),
        ("fastervlm", {"layer": "last"}, "layer must be an integer .* or 'features' .*got 'last'"),
        ("fastervlm", {"layer": True}, "layer must be an integer .*got True"),
        ("hired", {"alpha": -0.1}, "alpha must be a number from 0 .* to 1 .*got -0.1"),
        ("hired", {"alpha": "x"}, "alpha must be a number, got 'x'"),
        ("hired", {"budget_layer": 0.5}, "budget_layer must be an integer .*got 0.5"),
        ("hired", {"evidence": "distance"}, "evidence must be one of .*got 'distance'"),
        ("visionzip", {"contextual_share": 1.1}, "contextual_share must be a number from 0 to 1, got 1.1"),
        ("visionzip", {"cls_token": 1}, "cls_token must be true or false, got 1"),
        ("visionzip", {"formula": "max"}, "formula must be one of sum, mean, got 'max'"),
        ("visionzip", {"space": "decoder"}, "space must be one of encoder, features, got 'decoder'"),
        ("visionzip", {"order": "score"}, "order must be one of auto, sequence, appended, got 'score'"),
        ("prumerge", {"count": "training"}, "count must be one of budget, iqr, got 'training'"),
        ("prumerge", {"neighbours": -1}, "neighbours must be an integer of at least 0, got -1"),
        ("prumerge", {"heads": "all"}, "heads must be one of whole, mean, got 'all'"),
        ("prumerge", {"merge": None}, "merge must be true or false, got None"),
        ("prumerge", {"evidence": "cls_logits"}, "evidence must be one of .*got 'cls_logits'"),
        ("prumerge_plus", {"count": "all"}, "count must be one of budget, iqr, training, got 'all'"),
        ("prumerge_plus", {"spatial_share": 2}, "spatial_share must be a number from 0 to 1, got 2"),
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


def test_methods_ask_the_encoder_only_for_what_their_card_says() -> None:
    for name in available_methods():
        card = read_card(name)
        if card is None or METHODS.get(name).__module__.startswith("tests"):
            continue
        asked = [get_method(name).needs(modality, True) for modality in card.modalities]
        assert any(asked) == (card.needs not in ("nothing", "features")), name


def test_missing_evidence_is_named() -> None:
    tokens = make_tokens(IMAGES["two by two"])
    tokens.evidence = {Evidence("cls_logits", -1): tokens.evidence[Evidence("cls_logits", -1)]}
    method = GlobalCom2(evidence="cls_attention")
    with pytest.raises(UnsupportedInputError, match="needs Evidence.*cls_attention.*evidence='distance'"):
        method.select(tokens, make_plan(tokens.layout, 20))


def test_evidence_decides() -> None:
    """CLS logits, attention and distances lead to different tokens; on videos the commander is always the clip."""
    tokens = make_tokens(IMAGES["two by two"])
    other = Evidence("cls_attention", -1)
    tokens = VisualTokens(tokens.features, tokens.layout, {**tokens.evidence, other: torch.rand(len(tokens))})
    plan = make_plan(tokens.layout, 40)
    chosen = [
        GlobalCom2(evidence=source).select(tokens, plan).index.tolist()
        for source in ("auto", "cls_attention", "distance")
    ]
    assert chosen[0] != chosen[1] != chosen[2] != chosen[0]
    clip = make_tokens(VIDEOS["one newline"])
    by_logits, _ = GlobalCom2(evidence="cls_logits").commander_and_local(clip)
    by_distance, _ = GlobalCom2().commander_and_local(clip)
    assert torch.equal(by_logits.tokens, by_distance.tokens)


def test_vidcom2_scores_do_not_see_separators() -> None:
    tokens = make_tokens(VIDEOS["newline per row"])
    before = VidCom2().measure(tokens)
    tokens.features[tokens.layout.separator] = -7e3
    after = VidCom2().measure(tokens)
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
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
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

"""Traits of a family: what is read from decoder layers, and what the session and the pruner do by each."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from tiny_models import Scene, batch, tiny_model
from vidcompress.adapters import Traits
from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.traits import read_traits
from vidcompress.errors import ArgumentError, UnsupportedModelError
from vidcompress.session.compress import compress_inputs

ROWS = [Scene((("image", (112, 80)),), before=3, seed=1)]


def with_traits(monkeypatch: pytest.MonkeyPatch, model: Any, **changes: Any) -> None:
    """Let the model's adapter have other traits."""
    cls, own = type(adapter_for(model)), adapter_for(model).traits
    monkeypatch.setattr(cls, "traits", property(lambda self: replace(own, **changes)))


@pytest.mark.parametrize("honours", [True, False])
def test_a_family_whose_generate_ignores_positions_gets_none(
    honours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("video", 4),))])
    with_traits(monkeypatch, model, honours_positions=honours)
    # EVS leaves gaps by itself; the caller did not ask for them.
    shorter = compress_inputs(model, inputs, "evs", retention_ratio=0.5)
    assert ("position_ids" in shorter) == honours
    assert shorter.report.positions == ("original" if honours else "contiguous")


def test_gaps_that_generate_would_ignore_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, ROWS)
    original = {"retention_ratio": 0.5, "positions": "original"}
    assert "position_ids" in compress_inputs(model, inputs, "uniform", **original)
    with_traits(monkeypatch, model, honours_positions=False)
    with pytest.raises(ArgumentError, match="'original' cannot go with Llava.*'contiguous', or leave it out"):
        compress_inputs(model, inputs, "uniform", **original)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hybrid": True}, "whose layers are not all attention"),
        (
            {"deep_levels": 2},
            "behind its first 2 layers and takes no visual_pos_masks and deepstack_visual_embeds",
        ),
        ({"qk_norm": True}, "head by head with a q_norm and a k_norm as in Qwen3"),
        ({}, ""),
    ],
)
def test_decoders_that_cannot_be_pruned_inside_are_refused(
    changes: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llava_onevision")
    shorter = compress_inputs(model, batch(model, ROWS), "fastv", retention_ratio=0.7)
    with_traits(monkeypatch, model, **changes)
    if not says:  # the control: its own traits
        with shorter.pruning():
            return
    with pytest.raises(UnsupportedModelError, match=says), shorter.pruning():
        pass


def layer(**attention: Any) -> nn.Module:
    """A decoder layer with an attention of these attributes; without any it has no attention."""
    made = nn.Module()
    if attention:
        made.self_attn = nn.Module()
        for name, value in attention.items():
            setattr(made.self_attn, name, value)
    return made


def test_layers_show_window_norms_and_other_kinds() -> None:
    plain = layer(head_dim=8)
    assert read_traits([plain, plain]) == Traits()
    assert read_traits([plain, layer(sliding_window=64), layer(sliding_window=32)]) == Traits(window=32)
    assert read_traits([layer(q_norm=nn.Identity())]) == Traits(qk_norm=True)
    assert read_traits([plain, layer()]) == Traits(hybrid=True)
    assert read_traits([SimpleNamespace(self_attn=SimpleNamespace(sliding_window=None))]) == Traits()
    of_config = SimpleNamespace(sliding_window=16)  # of Mistral's attentions
    assert read_traits([layer(config=of_config)]) == Traits(window=16)
    assert read_traits([layer(config=of_config, sliding_window=None)]) == Traits()
    assert (
        read_traits([layer(config=SimpleNamespace(sliding_window=16, use_sliding_window=False))]) == Traits()
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"axes": 0}, "axes=0: must be a whole number of at least 1"),
        ({"deep_levels": -1}, "deep_levels=-1: must be a whole number of at least 0"),
        ({"axes": 1.5}, "axes=1.5: must be a whole number"),
        ({"container": "dict"}, "container"),
    ],
)
def test_traits_that_mean_nothing_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        Traits(**changes)

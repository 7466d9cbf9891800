"""Invariant 7: what the device is asked for does not grow with the number of views."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from cases import CASES, SCENES
from device_questions import CountSyncs
from tiny_models import ANYRES_MAX, Scene, batch, tiny_model
from vidcompress.session import compress as session
from vidcompress.session.compress import compress_inputs


def syncs(method: str, family: str, modality: str, what: Any) -> Counter[str]:
    model = tiny_model(family)
    inputs = batch(model, [Scene(((modality, what),))])
    compress_inputs(model, inputs, method, retention_ratio=0.5)  # layouts are made once per geometry
    with CountSyncs() as counter:
        compress_inputs(model, inputs, method, retention_ratio=0.5, max_views=64)
    return counter.seen


@pytest.mark.parametrize(
    ("method", "family", "modality"), [c for c in CASES if c[1] in ANYRES_MAX or c[2] == "video"]
)
def test_5_and_37_views_ask_alike(method: str, family: str, modality: str) -> None:
    few, many = ((112, 112), (336, 336)) if modality == "image" else (5, 37)
    model = tiny_model(family)
    if modality == "image":
        from vidcompress.adapters.base import adapter_for

        assert [len(adapter_for(model).image_layout(s, False, "cpu").views) for s in (few, many)] == [5, 37]
    assert syncs(method, family, modality, few) == syncs(method, family, modality, many)


@pytest.mark.parametrize(("method", "family", "modality"), CASES)
def test_encode_select_and_splice_ask_for_nothing(
    method: str, family: str, modality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows, padding and all: only reading the prompt, once on the host, asks."""
    model = tiny_model(family)
    scene = SCENES[family, modality]
    inputs = batch(model, [scene, Scene(scene.visuals, before=9, seed=1)])
    compress_inputs(model, inputs, method, retention_ratio=0.5)  # layouts are made once per geometry
    seen: dict[str, Counter[str]] = {}

    def watched(name: str) -> Any:
        original = getattr(session, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            with CountSyncs() as counter:
                made = original(*args, **kwargs)
            seen[name] = counter.seen
            return made

        return run

    steps = ("encode_visuals", "select_tokens", "late_features", "row_features", "pad_token_id", "splice")
    for name in (*steps, "parse_prompt"):
        monkeypatch.setattr(session, name, watched(name))
    compress_inputs(model, inputs, method, retention_ratio=0.5, positions="original")
    assert {name: dict(seen[name]) for name in steps} == {name: {} for name in steps}
    assert seen["parse_prompt"], "which does ask, so that the counting counts"


@pytest.mark.parametrize("method", ["uniform", "globalcom2", "pool", "census"])
def test_masses_ask_for_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("image", (112, 80)), ("video", 5)), seed=1), Scene((), before=5)])
    compress_inputs(model, inputs, method, retention_ratio=0.4, mass="on")  # layouts are made once
    seen: dict[str, Any] = {}
    steps = ("select_tokens", "visual_masses", "plan_masses")
    for name in (*steps, "parse_prompt"):
        original = getattr(session, name)

        def run(*args: Any, name: str = name, original: Any = original, **kwargs: Any) -> Any:
            with CountSyncs() as counter:
                made = original(*args, **kwargs)
            seen[name] = counter.seen
            return made

        monkeypatch.setattr(session, name, run)
    compress_inputs(model, inputs, method, retention_ratio=0.4, mass="on")
    assert {name: dict(seen[name]) for name in steps} == {name: {} for name in steps}
    assert seen["parse_prompt"], "which does ask, so that the counting counts"


def test_the_counter_counts() -> None:
    with CountSyncs() as counter:
        mask = torch.tensor([True, False])
        mask.nonzero()
        torch.arange(2)[mask]
        mask[0].item()
        torch.arange(2).masked_select(mask)
    assert sum(counter.seen.values()) == 4

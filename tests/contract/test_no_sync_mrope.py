"""Invariant 7 for families with axes, several runs and companions: what we add asks the device for nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from device_questions import CountSyncs
from mrope_family import FAMILIES, MropeAdapter, mrope_inputs, mrope_model
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods
from vidcompress.llm_pruning import hooks
from vidcompress.llm_pruning.companions import Companions
from vidcompress.session import compress as session
from vidcompress.session.compress import compress_inputs

PICTURE, CLIP = ("image", (1, 8, 12)), ("video", (3, 8, 4))
SCENES: dict[str, list[list[Any]]] = {
    "image": [[5, 6, PICTURE, 7, 8]],
    "clip": [[5, CLIP, 7, 8, 9]],
    "mixed": [[5, PICTURE, 6, CLIP, 7, 8], [4, 4, CLIP, 9], [3, 2, 5]],
}
INSIDE = [name for name in available_methods() if METHODS.get(name).where == "inside"]


pytestmark = pytest.mark.usefixtures("mrope_adapter")


def watch(monkeypatch: pytest.MonkeyPatch, where: Any, *names: str) -> dict[str, Counter[str]]:
    """Count what functions ask for, by name; names that were never called are missing."""
    seen: dict[str, Counter[str]] = {}

    def watched(name: str) -> Any:
        original = getattr(where, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            with CountSyncs() as counter:
                out = original(*args, **kwargs)
            seen.setdefault(name, Counter()).update(counter.seen)
            return out

        return run

    for name in names:
        monkeypatch.setattr(where, name, watched(name))
    return seen


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("method", ["uniform", "random", "globalcom2", "divprune", "fastv"])
@pytest.mark.parametrize("family", FAMILIES)
def test_select_and_splice_ask_for_nothing(
    family: str, method: str, scene: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions are the stock model's, whose own function reads the grids; they are cut without a question."""
    model = mrope_model(family)
    inputs = mrope_inputs(model, SCENES[scene])
    compress_inputs(model, inputs, method, retention_ratio=0.6)  # layouts are made once per geometry
    steps = ("select_tokens", "late_features", "row_features", "pad_token_id", "splice", "plan_pruning")
    seen = watch(monkeypatch, session, *steps, "parse_prompt", "full_positions")
    compress_inputs(model, inputs, method, retention_ratio=0.6)
    steps = tuple(step for step in steps if step != "plan_pruning" or method == "fastv")
    assert {name: dict(seen[name]) for name in steps} == {name: {} for name in steps}
    assert seen["parse_prompt"] and seen["full_positions"], "which do ask, so that the counting counts"


@pytest.mark.parametrize("method", ["uniform", "globalcom2"])
@pytest.mark.parametrize("family", FAMILIES)
def test_long_and_short_clips_ask_alike(family: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the stock model's own functions: positions read every grid, and window attention every window."""
    model = mrope_model(family)

    def uncounted(original: Any) -> Any:
        def run(*args: Any) -> Any:
            with _disable_current_modes():
                return original(*args)

        return run

    for name in ("positions", "_encode"):
        monkeypatch.setattr(MropeAdapter, name, uncounted(getattr(MropeAdapter, name)))

    def syncs(frames: int) -> Counter[str]:
        inputs = mrope_inputs(model, [[5, ("video", (frames, 8, 4)), 7, 8]])
        compress_inputs(model, inputs, method, retention_ratio=0.5)
        with CountSyncs() as counter:
            compress_inputs(model, inputs, method, retention_ratio=0.5, max_views=64)
        return counter.seen

    few, many = syncs(3), syncs(17)
    assert few and few == many


@pytest.mark.parametrize(
    "method", [name for name in INSIDE if name != "sparsevlm"]
)  # which clusters row by row
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pruned_prefill_asks_for_nothing_of_its_own(
    family: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mrope_model(family)
    compressed = compress_inputs(model, mrope_inputs(model, SCENES["mixed"]), method, retention_ratio=0.6)
    of_hooks = watch(monkeypatch, hooks, "start", "next_sequence", "layer_mask")
    of_companions = watch(monkeypatch, Companions, "__init__", "add")
    with torch.no_grad(), compressed.pruning(), CountSyncs() as counter:
        model(**compressed)
    called = {"start", "next_sequence", "layer_mask"} | (
        {"__init__", "add"} if family.endswith("qwen3_vl") else set()
    )
    assert {name: dict(seen) for name, seen in (of_hooks | of_companions).items()} == {
        name: {} for name in called
    }
    assert counter.seen or family.endswith("qwen2_5_vl"), "the stock model asks for companions by a bool mask"

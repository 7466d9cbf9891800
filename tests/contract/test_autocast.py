"""Autocast and accelerate's mixed precision: every method runs, and chooses by float32 scores all the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import vidcompress
from cases import CASES, SCENES
from tiny_models import Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.config import CompressionConfig
from vidcompress.core.method import METHODS, ScoredMethod
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.timing import Timings
from vidcompress.llm_pruning import prefill as segment
from vidcompress.session import compress as session_module
from vidcompress.session.compress import compress_inputs

DTYPES = (torch.bfloat16, torch.float16)
INSIDE = [name for name in available_methods() if METHODS.get(name).where == "inside"]
COMPOSED = ["globalcom2+fastv", "uniform+pdrop", "globalcom2+sparsevlm", "fastervlm+sparsevlm2"]
EVERY = [*available_methods(), *COMPOSED]
SCENE = Scene((("image", (112, 80)),), before=3, after=6, seed=1)
GREEDY = {"max_new_tokens": 3, "do_sample": False}


def raw_of(model: Any, method: str) -> dict[str, Any]:
    parts = [METHODS.get(name) for name in method.split("+")]
    video = any("image" not in part.modalities for part in parts)
    return batch(model, [Scene((("video", 5),), after=6) if video else SCENE])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", EVERY)
def test_every_method_runs_under_autocast(method: str, dtype: torch.dtype) -> None:
    """Around the block, in it, and around plain inputs; counts are those without autocast."""
    model = tiny_model("llava_onevision")
    raw = raw_of(model, method)
    expected = compress_inputs(model, raw, method, retention_ratio=0.9)
    with torch.autocast("cpu", dtype):
        with vidcompress.compress(model, method, retention_ratio=0.9) as session:
            around = model.generate(**raw, **GREEDY)
        plain = compress_inputs(model, raw, method, retention_ratio=0.9)
        with plain.pruning():
            made = model.generate(**plain, **GREEDY)
    with vidcompress.compress(model, method, retention_ratio=0.9), torch.autocast("cpu", dtype):
        within = model.generate(**raw, **GREEDY)
    new = around[:, raw["input_ids"].shape[1] :]
    assert torch.equal(new, within[:, raw["input_ids"].shape[1] :])
    assert torch.equal(new, made[:, plain["input_ids"].shape[1] :])
    assert session.report.kept == plain.report.kept == expected.report.kept
    with torch.no_grad(), torch.autocast("cpu", dtype), plain.pruning():
        half = model(**plain).logits
    with torch.no_grad(), expected.pruning():
        whole = model(**expected).logits
    assert half.isfinite().all() and half.shape == whole.shape
    assert not torch.equal(half.float(), whole), "autocast was on"


@pytest.fixture(params=["bf16", "fp16"])
def accelerated(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A model whose forward accelerate made mixed precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    model: Any = copy.deepcopy(tiny_model("llava_onevision"))
    if request.param == "bf16":
        prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare(model)
    else:  # which accelerate refuses on a CPU: what it would do to the model
        prepared, forward = model, model.forward
        model.forward = torch.autocast("cpu", torch.float16)(forward)
    assert "forward" in vars(prepared)
    yield prepared
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("method", EVERY)
def test_every_method_runs_on_a_mixed_precision_model(accelerated: Any, method: str) -> None:
    raw = raw_of(accelerated, method)
    plain = compress_inputs(accelerated, raw, method, retention_ratio=0.9)
    with plain.pruning():
        made = accelerated.generate(**plain, **GREEDY)[:, plain["input_ids"].shape[1] :]
    with vidcompress.compress(accelerated, method, retention_ratio=0.9) as session:
        out = accelerated.generate(**raw, **GREEDY)
        with torch.no_grad():
            logits = accelerated(**raw).logits
            positional = accelerated(
                raw["input_ids"], **{k: v for k, v in raw.items() if k != "input_ids"}
            ).logits
    assert torch.equal(out[:, raw["input_ids"].shape[1] :], made) and session.report.kept == plain.report.kept
    assert logits.isfinite().all() and torch.equal(logits, positional)


def selections(name: Any, family: str, modality: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """What the session selects of the same tokens without autocast and within."""
    model = tiny_model(family)
    adapter = adapter_for(model)
    images, videos = adapter.visuals(batch(model, [SCENES[family, modality]]))
    settings = CompressionConfig(name, retention_ratio=0.3)
    visuals = [
        replace(visual, question=torch.tensor([5, 6, 7, 8]), pixels=visual.pixels + 0.01 * seed)
        for visual in (images or videos)
        for seed in range(3)
    ]
    found = []
    for autocast in (nullcontext(), torch.autocast("cpu", dtype)):
        chosen = {}
        with torch.no_grad():
            plans = {}
            for number, visual in enumerate(visuals):
                key = (modality, number)
                budget = settings.budget.split([visual.layout.full_length])[0]
                plans[key] = visual_budget(visual.layout, budget, ratio=settings.budget.ratio)
            of_key = {key: visuals[key[1]] for key in plans}
            tokens, _ = session_module.encode_visuals(adapter, of_key, plans, settings, Timings())
            with autocast:
                chosen = session_module.select_tokens(tokens, plans, settings.method, of_key)
        found.append(torch.cat([chosen[key].source(tokens[key].layout) for key in chosen]))
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "family", "modality"),
    [case for case in CASES if METHODS.get(case[0]).uses_budget and case[1] != "llava_video"],
)
def test_the_same_tokens_are_selected_from_alike(
    name: str, family: str, modality: str, dtype: torch.dtype
) -> None:
    """The same float32 features and evidence, in and out of autocast."""
    plain, within = selections(name, family, modality, dtype)
    assert torch.equal(plain, within)


@dataclass(frozen=True)
class Product(ScoredMethod):
    """A third-party method that does not handle autocast: a product of features."""

    name = "product"
    summary = "likeness to all others"
    modalities = frozenset({"image", "video"})

    def scores(
        self, batch: VisualBatch, budgets: Sequence[VisualBudget]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        each = [one.features.float() + 30 for one in batch.visuals]  # whose differences half precision loses
        scores = [(features @ features.T).sum(1) for features in each]
        return torch.cat(scores), batch.layout.sizes_tensor[:-1].double()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_of_somebodys_own_is_float32_too(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without the region it would be of half precision, and other tokens would be selected."""
    for family in ("llava_next", "llava_onevision"):
        plain, within = selections(Product(), family, "image", dtype)
        assert torch.equal(plain, within)
    monkeypatch.setattr(VisualBatch, "full_precision", lambda batch: nullcontext())
    plain, within = selections(Product(), "llava_onevision", "image", dtype)
    assert not torch.equal(plain, within)


@pytest.mark.parametrize("method", INSIDE)
def test_scores_inside_are_float32(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a method inside is shown, and what it makes of it, is float32 under autocast; not without the region."""
    model = tiny_model("llava_onevision")
    raw = batch(model, [SCENE])
    chosen = get_method(method)
    seen: list[tuple[bool, torch.dtype]] = []
    score = type(chosen).score

    def watched(self: Any, between: Any) -> torch.Tensor:
        made = score(self, between)
        seen.append((torch.is_autocast_enabled("cpu"), between.attention.dtype))
        return made

    monkeypatch.setattr(type(chosen), "score", watched)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with vidcompress.compress(model, chosen, retention_ratio=0.9):
            model(**raw)
        assert seen and set(seen) == {(False, torch.float32)}
        seen.clear()
        monkeypatch.setattr(segment, "full_precision", lambda values: nullcontext())
        # sparsevlm's mask, of the lowest float32, does not go into half precision at all
        with suppress(RuntimeError), vidcompress.compress(model, chosen, retention_ratio=0.9):
            model(**raw)
        assert set(seen) != {(False, torch.float32)}

"""bfloat16 and float16 on the CPU: counts exact, numbers finite, answers there, scores in float32 all the same."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

import vidcompress
from cases import CASES, SCENES
from tiny_models import FAMILIES, Scene, batch, sent_rows, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.budget import visual_budget
from vidcompress.core.method import METHODS, Method
from vidcompress.core.method_lookup import get_method
from vidcompress.session.compress import compress_inputs
from vidcompress.testing import select_alone

DTYPES = (torch.bfloat16, torch.float16)
ROWS = [Scene((("image", (112, 80)),), before=3, seed=1), Scene((("image", (40, 100)),), before=11, seed=3)]


@cache
def in_dtype(family: str, dtype: torch.dtype) -> Any:
    """A model as `from_pretrained(dtype=...)` makes it: weights in that dtype, buffers of the rotations in float32."""
    model = copy.deepcopy(tiny_model(family))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def half(inputs: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_plain_and_block_answer_alike(family: str, dtype: torch.dtype) -> None:
    model = in_dtype(family, dtype)
    scenes = [*ROWS, SCENES[family, "video"]] if (family, "video") in SCENES else ROWS
    raw = half(batch(model, scenes), dtype)
    length = raw["input_ids"].shape[1]
    plain = compress_inputs(model, raw, retention_ratio=0.3)
    rows = sent_rows(plain)
    assert {row.dtype for row in rows} == {dtype} and all(row.isfinite().all() for row in rows)
    assert [visual.kept for visual in plain.report.visuals] == [v.budget for v in plain.report.visuals]
    with torch.no_grad():
        assert model(**compress_inputs(model, raw, retention_ratio=0.3)).logits.isfinite().all()
    expected = model.generate(**plain, max_new_tokens=4, do_sample=False)
    with vidcompress.compress(model, retention_ratio=0.3) as session:
        out = model.generate(**raw, max_new_tokens=4, do_sample=False)
    assert torch.equal(out[:, length:], expected[:, plain["input_ids"].shape[1] :])
    assert session.report.kept == plain.report.kept


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("family", "modality"), list(SCENES))
def test_full_retention_is_the_stock_model_to_the_bit(family: str, modality: str, dtype: torch.dtype) -> None:
    model = in_dtype(family, dtype)
    raw = half(batch(model, [SCENES[family, modality]]), dtype)
    full = compress_inputs(model, raw, retention_ratio=1.0)
    with torch.no_grad():
        assert torch.equal(model(**full).logits, model(**raw).logits)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "family", "modality"), [c for c in CASES if METHODS.get(c[0]).uses_budget])
def test_scores_are_float32_whatever_the_dtype(
    name: str,
    family: str,
    modality: str,
    dtype: torch.dtype,
) -> None:
    """The same half-precision features, once as they are and once upcast, are selected from alike."""
    model = in_dtype(family, dtype)
    adapter = adapter_for(model)
    method: Method = get_method(name)
    images, videos = adapter.visuals(half(batch(model, [SCENES[family, modality]]), dtype))
    (visual,) = images or videos
    budget = visual_budget(visual.layout, visual.layout.full_length // 4)
    wanted = method.needs(modality, adapter.has_cls)
    with torch.no_grad():
        frames = [method.frames(visual.layout, budget)]
        (tokens,) = adapter.encode([visual], wanted, frames)
        assert tokens.features.dtype == dtype
        assert {value.dtype for value in tokens.evidence.values()} <= {torch.float32}
        upcast = replace(tokens, features=tokens.features.float())
        if tokens.project is not None:
            upcast = replace(upcast, project=lambda x: tokens.project(x.to(dtype)).float())
        kept, again = (select_alone(method, t, budget).source(t.layout) for t in (tokens, upcast))
    assert torch.equal(kept, again)

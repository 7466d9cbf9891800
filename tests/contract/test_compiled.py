"""A static cache and torch.compile, with methods before the language model: ordinary inputs, so both just work."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tiny_models import Scene, batch, tiny_model
from vidcompress import compress
from vidcompress.session import compress_inputs

ROWS = [Scene((("image", (112, 80)),), seed=1), Scene((("image", (40, 100)),), before=11, seed=3)]
OPTIONS = {"max_new_tokens": 6, "do_sample": False}


@pytest.mark.parametrize("method", ["globalcom2", "fastervlm"])
@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
def test_a_static_cache_gives_the_same_answer(family: str, method: str) -> None:
    model = tiny_model(family)
    inputs = batch(model, ROWS)
    short = compress_inputs(model, inputs, method, retention_ratio=0.3)
    expected = model.generate(**short, **OPTIONS)
    static = {**OPTIONS, "cache_implementation": "static"}
    try:
        assert torch.equal(model.generate(**short, **static), expected)
        with compress(model, method, retention_ratio=0.3):
            whole = model.generate(**inputs, **static)
    finally:
        vars(model).pop("_cache", None)  # where some versions keep it; the model is shared between tests
    assert torch.equal(whole[:, inputs["input_ids"].shape[1] :], expected[:, short["input_ids"].shape[1] :])


@pytest.mark.skipif(
    not torch._dynamo.is_dynamo_supported(), reason="torch.compile does not run on this Python"
)
def test_a_compiled_decoder_gives_the_same_logits() -> None:
    """Traced and run without inductor, which would need a compiler and minutes; the graph is the same."""
    model: Any = copy.deepcopy(tiny_model("llava_onevision"))
    short = compress_inputs(model, batch(model, ROWS), "globalcom2", retention_ratio=0.3)
    with torch.no_grad():
        expected = model(**short).logits
        model.model.language_model.forward = torch.compile(
            model.model.language_model.forward, backend="aot_eager"
        )
        found = model(**short).logits
    assert torch.allclose(found, expected, atol=1e-5)

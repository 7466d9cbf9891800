"""A static cache and torch.compile, with methods before the language model: ordinary inputs, so both just work.

Compiled here means traced and run without inductor, which would take a C++ compiler and minutes; the graphs are the
same. `scripts/check_compiled.py` runs the real thing.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from PIL import Image
from torch._dynamo.utils import counters

from tiny_models import Scene, batch, tiny_model
from vidcompress import ArgumentError, UnsupportedModelError, VisualQA, compiled, compress
from vidcompress.session import compress_inputs

ROWS = [Scene((("image", (112, 80)),), seed=1), Scene((("image", (40, 100)),), before=11, seed=3)]
OPTIONS = {"max_new_tokens": 6, "do_sample": False}
STATIC = {**OPTIONS, "cache_implementation": "static"}
compiles = pytest.mark.skipif(
    not torch._dynamo.is_dynamo_supported(), reason="torch.compile does not run on this Python"
)


@pytest.mark.parametrize("method", ["globalcom2", "fastervlm"])
@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
def test_a_static_cache_gives_the_same_answer(family: str, method: str) -> None:
    model = tiny_model(family)
    inputs = batch(model, ROWS)
    short = compress_inputs(model, inputs, method, retention_ratio=0.3)
    expected = model.generate(**short, **OPTIONS)
    try:
        assert torch.equal(model.generate(**short, **STATIC), expected)
        with compress(model, method, retention_ratio=0.3):
            whole = model.generate(**inputs, **STATIC)
    finally:
        vars(model).pop("_cache", None)  # where some versions keep it; the model is shared between tests
    assert torch.equal(whole[:, inputs["input_ids"].shape[1] :], expected[:, short["input_ids"].shape[1] :])


def traced(decoder: torch.nn.Module) -> None:
    """As `compile_decoder` does, without inductor."""
    decoder.compile(dynamic=True, backend="aot_eager")


@compiles
def test_a_compiled_language_model_gives_the_same_answers_and_two_graphs() -> None:
    """In plain inputs and in the block, for prompts of four lengths: one graph of prefill and one of decoding."""
    model: Any = copy.deepcopy(tiny_model("llava_onevision"))
    del model.model.language_model.layers[1:]
    model.config.text_config.num_hidden_layers = 1
    inputs = batch(model, ROWS)
    ratios = (0.3, 0.2, 0.5, 0.1)
    shorts = [compress_inputs(model, inputs, "globalcom2", retention_ratio=ratio) for ratio in ratios]
    with torch.no_grad():
        logits = [model(**short, use_cache=False).logits for short in shorts]
    answers = [model.generate(**short, **OPTIONS) for short in shorts]
    before = {name for name in vars(model.model.language_model) if not name.startswith("_")}
    traced(model.model.language_model)
    assert {name for name in vars(model.model.language_model) if not name.startswith("_")} == before
    torch._dynamo.reset()
    counters.clear()
    for short, expected in zip(shorts, answers, strict=True):
        assert torch.equal(model.generate(**short, **STATIC, disable_compile=True), expected)
    assert counters["stats"]["unique_graphs"] == 2, "none anew for another length, or for the fifth token"
    assert not counters["graph_break"]
    with torch.no_grad():
        found = model(**shorts[0], use_cache=False).logits
        with compress(model, "globalcom2", retention_ratio=ratios[2]):
            blocked = model(**inputs, use_cache=False).logits
    assert torch.allclose(found, logits[0], atol=1e-5)
    assert torch.allclose(blocked, logits[2], atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 3, "and one without a cache"

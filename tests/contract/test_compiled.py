"""A static cache and torch.compile, with methods before the language model: ordinary inputs, so both just work.

Compiled here means traced and run without inductor, which would take a C++ compiler and minutes; the graphs are the
same. `scripts/check_compiled.py` runs the real thing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch._dynamo.eval_frame import is_dynamo_supported
from torch._dynamo.utils import counters

from tiny_models import Scene, batch, tiny_model
from vidcompress import ArgumentError, UnsupportedModelError, VisualQA, compress
from vidcompress.core.wrappers import is_compiled
from vidcompress.loading.compile import compile_decoder
from vidcompress.session.compress import compress_inputs

ROWS = [Scene((("image", (112, 80)),), seed=1), Scene((("image", (40, 100)),), before=11, seed=3)]
OPTIONS = {"max_new_tokens": 6, "do_sample": False}
STATIC = {**OPTIONS, "cache_implementation": "static"}
compiles = pytest.mark.skipif(not is_dynamo_supported(), reason="torch.compile does not run on this Python")


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


@pytest.fixture
def without_inductor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is compiled here is traced, and then run as it is; with "aot_eager" as inductor would get it."""
    whole, backend = torch.nn.Module.compile, getattr(request, "param", "aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: whole(self, backend=backend, **how))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@compiles
@pytest.mark.usefixtures("without_inductor")
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
    compile_decoder(model.model.language_model)
    assert "forward" not in vars(model.model.language_model)
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


@compiles
@pytest.mark.parametrize("without_inductor", ["eager"], indirect=True)
@pytest.mark.usefixtures("without_inductor")
def test_visual_qa_compiles_and_refuses_methods_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidcompress.loading.compile.cpp_compiler", lambda: "g++")
    ordinary = VisualQA.from_pretrained("tiny-next", device="cpu")
    qa = VisualQA.from_pretrained("tiny-next", device="cpu", compile=True)
    decoder = qa.model.model.language_model
    assert is_compiled(qa.model, decoder) and not is_compiled(
        ordinary.model, ordinary.model.model.language_model
    )
    for size in ((120, 90), (60, 140)):
        picture = Image.effect_noise(size, 60).convert("RGB")
        expected, found = (
            one.ask("what digit is shown?", image=picture, max_new_tokens=3) for one in (ordinary, qa)
        )
        assert (found.text, found.report.kept) == (expected.text, expected.report.kept)
    assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"]
    for method in ("fastv", "globalcom2+pdrop"):
        with pytest.raises(UnsupportedModelError, match=r"the language model is compiled \(torch.compile\)"):
            qa.using(method=method, retention_ratio=0.9).ask("what digit is shown?", image=picture)


def compiled_by_hand(model: Any, how: str) -> None:
    if how == "forward":
        decoder = model.model.language_model
        decoder.forward = torch.compile(decoder.forward, backend="eager")
    else:
        {"whole": model, "core": model.model, "layer": model.model.language_model.layers[1]}[how].compile()


@pytest.mark.parametrize("how", ["forward", "whole", "core", "layer"])
def test_compiled_in_any_way_no_method_prunes_inside(how: str) -> None:
    """Compiled code would go on without the hooks it was compiled without."""
    model: Any = copy.deepcopy(tiny_model("llava_next"))
    compiled_by_hand(model, how)
    with pytest.raises(UnsupportedModelError, match="which compiled code does not see; use a method before"):
        with compress(model, "fastv", retention_ratio=0.9):
            pass


def test_a_missing_compiler_is_said_before_weights_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    with pytest.raises(
        ArgumentError, match=r"compile=True needs a C\+\+ compiler on the CPU, and there is none"
    ):
        VisualQA.from_pretrained("/no/such/model", device="cpu", compile=True)
    with pytest.raises(ArgumentError, match="device='toaster' is not a device"):
        VisualQA.from_pretrained("/no/such/model", device="toaster", compile=True)
    monkeypatch.setattr("vidcompress.loading.compile.find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ArgumentError, match="compile=True needs the package triton on an accelerator"):
        VisualQA.from_pretrained("/no/such/model", device="cuda", compile=True)
    monkeypatch.setattr("torch._dynamo.eval_frame.is_dynamo_supported", lambda: False)
    with pytest.raises(ArgumentError, match="torch.compile does not run on this Python; leave it out"):
        VisualQA.from_pretrained("/no/such/model", device="cpu", compile=True)

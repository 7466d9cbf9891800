"""4-bit and 8-bit decoders by bitsandbytes, where it is installed, and what is said where it is not."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from torch import nn
from transformers import BitsAndBytesConfig

import vidcompress
from hub_layouts import REPOSITORIES, save_repository
from vidcompress import VisualQA
from vidcompress.errors import ArgumentError
from vidcompress.loading import quantization
from vidcompress.loading.load import load_model
from vidcompress.session.compress import compress_inputs

NAMES = [
    name
    for name in REPOSITORIES
    if name not in ("llava-hf/llava-v1.6-vicuna-7b-hf", "lmms-lab/llava-onevision-qwen2-7b-ov")
]
"""One of each family, and of each decoder and layout."""
FRAMES = np.arange(3 * 60 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 60, 80, 3)
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    cache = tmp_path_factory.mktemp("hub")
    for name in NAMES:
        save_repository(name, cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        yield cache


def check_parts(model: Any, kind: str) -> None:
    """Every linear layer of the decoder is quantised, and nothing else is."""
    import bitsandbytes

    wanted = {"4bit": bitsandbytes.nn.Linear4bit, "8bit": bitsandbytes.nn.Linear8bitLt}[kind]
    linear = {name: type(module) for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    decoder = {name for name in linear if name.startswith("model.language_model.")}
    assert len(decoder) == 2 * 7
    assert {linear[name] for name in decoder} == {wanted}
    assert {linear[name] for name in linear.keys() - decoder} == {nn.Linear}


def held(model: Any) -> dict[str, torch.Tensor]:
    """Copies of all weights as they lie in memory; `state_dict` would make bitsandbytes unpack its own."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def inputs_of(qa: VisualQA, name: str) -> Any:
    media = {"videos": [FRAMES]} if REPOSITORIES[name].clips else {"images": [FRAMES[0]]}
    token = "<video>" if REPOSITORIES[name].clips else "<image>"
    return qa.processor(text=f"{token} What?", **media)


@needs_bitsandbytes
@pytest.mark.parametrize("kind", quantization.QUANTIZATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_only_the_decoder_is_quantised_and_it_answers(name: str, kind: str, hub: Path) -> None:
    qa = VisualQA.from_pretrained(name, device="cpu", quantization=kind)
    check_parts(qa.model, kind)
    inputs = inputs_of(qa, name)
    with torch.no_grad():
        expected = qa.model(**inputs).logits
        weights = held(qa.model)  # after the first use, at which bitsandbytes packs them for the CPU
        full = compress_inputs(qa.model, inputs, retention_ratio=1.0)
        assert torch.equal(qa.model(**full).logits, expected)
    placeholders = (qa.model.config.image_token_id, getattr(qa.model.config, "video_token_id", None))
    suppressed = [token for token in placeholders if token is not None]
    media = {"video": FRAMES} if REPOSITORIES[name].clips else {"image": FRAMES[0]}
    answer = qa.ask("What?", **media, max_new_tokens=3, suppress_tokens=suppressed)
    assert answer.report.kept == answer.report.budget and answer.new_tokens >= 1
    with vidcompress.compress(qa.model, retention_ratio=0.25) as session:
        qa.model.generate(**inputs, max_new_tokens=2, do_sample=False, suppress_tokens=suppressed)
    assert session.report.kept == answer.report.kept
    after = held(qa.model)
    assert after.keys() == weights.keys()
    assert all(
        torch.equal(after[key], value) and after[key].dtype == value.dtype for key, value in weights.items()
    )
    check_parts(qa.model, kind)


@needs_bitsandbytes
@pytest.mark.parametrize("kind", quantization.QUANTIZATIONS)
def test_a_checkpoint_saved_quantised_loads_strictly(kind: str, hub: Path, tmp_path: Path) -> None:
    model = load_model(NAMES[0], device="cpu", quantization=kind)
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path, device="cpu")
    check_parts(again, kind)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)


@needs_bitsandbytes
def test_a_config_of_the_callers_own_is_passed_on(hub: Path) -> None:
    config = BitsAndBytesConfig(
        load_in_8bit=True, llm_int8_skip_modules=["model.language_model.layers.0", "lm_head"]
    )
    model = load_model(NAMES[1], device_map={"": "cpu"}, quantization_config=config)
    assert type(model.model.language_model.layers[0].mlp.up_proj) is nn.Linear
    assert type(model.model.language_model.layers[1].mlp.up_proj) is not nn.Linear
    assert type(model.model.multi_modal_projector.linear_1) is not nn.Linear


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "2bit"}, "quantization='2bit': must be one of 4bit, 8bit, or None"),
        ({"quantization": 4}, "quantization=4: must be one of 4bit, 8bit"),
        ({"quantization": "4bit", "quantization_config": {"load_in_4bit": True}}, "exclude each other"),
        (
            {"quantization_config": "4bit"},
            "quantization_config is of type str; pass a config of transformers",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        VisualQA.from_pretrained("owner/nothing", **arguments)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(
        ArgumentError, match=r"quantization='8bit' needs the package bitsandbytes.*pip install"
    ):
        VisualQA.from_pretrained("owner/nothing", quantization="8bit")


@pytest.mark.parametrize(("dtype", "compute"), [("auto", torch.bfloat16), (torch.float16, torch.float16)])
def test_what_is_asked_of_bitsandbytes(
    dtype: Any, compute: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: object())
    monkeypatch.setattr(BitsAndBytesConfig, "post_init", lambda self: None)  # asks for the package's version
    make = quantization.make_quantization_config
    four = make("4bit", None, full_precision=("lm_head",), dtype=dtype)
    assert (four.load_in_4bit, four.bnb_4bit_quant_type, four.bnb_4bit_compute_dtype) == (
        True,
        "nf4",
        compute,
    )
    eight = make("8bit", None, full_precision=("lm_head",), dtype=dtype)
    assert (eight.load_in_8bit, eight.llm_int8_skip_modules) == (True, ["lm_head"])
    assert make(None, None, full_precision=(), dtype=dtype) is None

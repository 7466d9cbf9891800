"""Wrappers around a model: torch.compile, PEFT, accelerate, DistributedDataParallel and FSDP."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from accelerate import Accelerator
from packaging.version import Version
from peft import LoraConfig, PeftMixedModel, PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers.integrations.peft import MIN_PEFT_VERSION

import vidcompress
from tiny_models import Scene, batch, tiny_model
from vidcompress import testing
from vidcompress.adapters.base import adapter_for
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import CompressionStateError, UnsupportedModelError
from vidcompress.tools.cost import estimate

pytestmark = pytest.mark.transformers

ROWS = [Scene((("image", (112, 80)),), before=3, seed=1), Scene((("image", (40, 100)),), before=11, seed=3)]
GREEDY = {"max_new_tokens": 4, "do_sample": False}
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"]}


def lora(model: Any, **settings: Any) -> Any:
    """The model with adapters that change what it says."""
    outer = get_peft_model(model, LoraConfig(**LORA, **settings)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in outer.named_parameters():
            if "lora_B" in name:  # zeros, until they are trained
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return outer


def mixed(model: Any) -> Any:
    outer = PeftMixedModel(model, LoraConfig(**LORA), "default").eval()
    with torch.no_grad():
        for name, parameter in outer.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    return outer


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "compile": lambda model: torch.compile(model, backend="eager"),
    "peft": lora,
    "peft, a language model": lambda model: lora(model, task_type="CAUSAL_LM"),
    "peft, mixed": mixed,
    "peft, tuner": lambda model: lora(model).base_model,
    "peft, compiled": lambda model: torch.compile(lora(model), backend="eager"),
    "data parallel": lambda model: nn.DataParallel(model),
    "accelerate": lambda model: Accelerator(cpu=True).prepare(model),
}


@pytest.fixture(autouse=True)
def _no_compiled_code() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def wrapped(how: str, family: str = "llava_next") -> tuple[Any, Any]:
    """A wrapper around a model of its own, and the model; called once, for transformers and PEFT add to it then."""
    model: Any = copy.deepcopy(tiny_model(family))
    outer = WRAPPERS[how](model)
    getattr(outer, "generate", model.generate)(**batch(model, ROWS), max_new_tokens=1)
    return outer, model


def footprint(outer: Any) -> dict[str, Any]:
    """Every attribute and hook that something could leave on a wrapper or on what is in it."""
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks_with_kwargs",
    )
    return {
        name: (sorted(vars(module)), [list(vars(module).get(hook, ())) for hook in hooks])
        for name, module in outer.named_modules()
    }


@pytest.mark.parametrize("how", WRAPPERS)
def test_a_wrapper_is_compressed_as_the_model_in_it(how: str) -> None:
    """In the block, plain, by the wrapper and by the model; and afterwards both are what they were."""
    outer, model = wrapped(how)
    raw = batch(model, ROWS)
    length = raw["input_ids"].shape[1]
    callers = [one for one in (outer, model) if hasattr(one, "generate")]
    with torch.no_grad():
        stock = model(**raw).logits
        short = vidcompress.compress_inputs(model, raw, retention_ratio=0.3)
        logits = model(**short).logits
    expected = model.generate(**short, **GREEDY)[:, short["input_ids"].shape[1] :]
    before = [one.generate(**raw, **GREEDY) for one in callers]
    assert logits.shape != stock.shape and adapter_for(outer).model is unwrap(outer) is model
    mark = footprint(outer)
    for entered in (outer, model):
        for one in callers:
            with vidcompress.compress(entered, retention_ratio=0.3) as session:
                out = one.generate(**raw, **GREEDY)
            assert torch.equal(out[:, :length], raw["input_ids"]) and torch.equal(out[:, length:], expected)
            assert session.report.kept == short.report.kept < short.report.total
            assert footprint(outer) == mark
    with torch.no_grad(), vidcompress.compress(outer, retention_ratio=0.3):
        assert torch.allclose(model(**raw).logits, logits, atol=1e-5)
        if "compile" not in how:  # which takes seconds, and has a test of its own
            assert torch.allclose(outer(**raw).logits, logits, atol=1e-5)
        for second in (outer, model):
            with pytest.raises(CompressionStateError, match="inside a compress block already"):
                with vidcompress.compress(second, retention_ratio=0.5):
                    pass
    with pytest.raises(ZeroDivisionError), vidcompress.compress(outer, retention_ratio=0.3):
        raise ZeroDivisionError
    assert footprint(outer) == mark
    for one, answer in zip(callers, before, strict=True):
        assert torch.equal(one.generate(**raw, **GREEDY), answer)
    with torch.no_grad():
        assert torch.equal(model(**raw).logits, stock)
    made = vidcompress.compress_inputs(outer, raw, retention_ratio=0.3)
    for key in ("input_ids", "attention_mask"):
        assert torch.equal(made[key], short[key])


@pytest.mark.parametrize("how", ["peft", "peft, a language model"])
@pytest.mark.parametrize("method", ["globalcom2", "fastv", "sparsevlm", "globalcom2+pdrop"])
def test_adapters_count_and_can_be_switched_off(how: str, method: str) -> None:
    """The answer is that of the model with its adapters, and that of the base model where they are disabled."""
    outer, model = wrapped(how)
    raw = batch(model, ROWS)
    base = tiny_model("llava_next")
    found = {}
    with torch.no_grad():
        with vidcompress.compress(base, method, retention_ratio=0.9):
            found["base"] = base(**raw).logits
        with vidcompress.compress(outer, method, retention_ratio=0.9):
            found["adapted"] = outer(**raw).logits
            with outer.disable_adapter():
                found["disabled"] = outer(**raw).logits
        merged = outer.merge_and_unload()
        with vidcompress.compress(merged, method, retention_ratio=0.9):
            found["merged"] = merged(**raw).logits
    assert torch.allclose(found["disabled"], found["base"], atol=1e-4)
    assert torch.allclose(found["merged"], found["adapted"], atol=1e-3)
    assert not torch.allclose(found["adapted"], found["base"], atol=0.1)


@pytest.mark.parametrize("method", ["globalcom2", "fastv", "sparsevlm"])
def test_a_compiled_forward_is_compressed_and_forgotten(method: str) -> None:
    """Compiled before the block, so that what is compiled knows nothing of its hooks; and used after it."""
    model: Any = copy.deepcopy(tiny_model("llava_next"))
    raw = batch(model, ROWS)
    outer = torch.compile(model, backend="eager")
    with torch.no_grad():
        stock = model(**raw).logits
        assert torch.allclose(outer(**raw).logits, stock, atol=1e-5)
        with vidcompress.compress(model, method, retention_ratio=0.9) as session:
            expected = model(**raw).logits
        kept = session.report.kept
        with vidcompress.compress(outer, method, retention_ratio=0.9) as session:
            found = outer(**raw).logits
        assert torch.allclose(found, expected, atol=1e-5) and session.report.kept == kept
        assert expected.shape != stock.shape
        assert torch.allclose(outer(**raw).logits, stock, atol=1e-5)


@pytest.mark.parametrize("how", WRAPPERS)
def test_every_way_in_takes_a_wrapper(how: str) -> None:
    """VisualQA with ask, chat and compare, load_processor, the cost and the checks of the contract."""
    plain = vidcompress.VisualQA.from_pretrained("tiny-onevision", retention_ratio=0.5, device="cpu")
    picture = torch.randint(0, 255, (60, 80, 3), dtype=torch.uint8)
    model = copy.deepcopy(plain.model)
    outer = WRAPPERS[how](model)
    processor = vidcompress.load_processor(outer)
    assert processor.geometry == plain.processor.geometry
    qa, right = (vidcompress.VisualQA(one, processor, retention_ratio=0.5) for one in (outer, model))
    asked = {"question": "what digit is shown?", "image": picture, "max_new_tokens": 2}
    answer = qa.ask(**asked)
    assert (answer.text, answer.report.kept) == (right.ask(**asked).text, right.ask(**asked).report.kept)
    assert qa.chat(image=picture).ask("what digit is shown?", max_new_tokens=2).text == answer.text
    (first, *_) = qa.compare(**asked, methods=["uniform"], controls=False, repeats=2).rows
    assert first.text == right.using(method="none", retention_ratio=1.0).ask(**asked).text
    assert estimate(outer, size=(60, 80)) == estimate(model, size=(60, 80))
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what digit is shown?"}]}]
    )
    inputs = dict(processor(text=prompt, images=[picture]))
    testing.check_block(outer, inputs)
    testing.check_counts(outer, inputs, "uniform", ratios=("0.25",))
    testing.check_rows(outer, inputs, "uniform")


def test_prompt_learning_and_foreign_wrappers_are_refused_by_name() -> None:
    for config, name in (
        (PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), "PROMPT_TUNING"),
        (PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), "PREFIX_TUNING"),
    ):
        model: Any = copy.deepcopy(tiny_model("llava_next"))
        outer = get_peft_model(model, config)
        said = f"with {name}, which puts virtual tokens before the prompt"
        with pytest.raises(UnsupportedModelError, match=said):
            vidcompress.VisualQA(outer, None)
        with pytest.raises(UnsupportedModelError, match=said):
            vidcompress.compress_inputs(outer, {}, retention_ratio=0.5)
    model = copy.deepcopy(tiny_model("llava_next"))
    with pytest.raises(UnsupportedModelError, match="activated LORA .*counts tokens of the uncompressed"):
        vidcompress.VisualQA(lora(model, task_type="CAUSAL_LM", alora_invocation_tokens=[5, 6]), None)

    class Foreign(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.inner, self.config = model, model.config

    with pytest.raises(
        UnsupportedModelError, match="Foreign, which has the config of a transformers model and"
    ):
        vidcompress.VisualQA(Foreign(model), None)
    parallel = nn.DataParallel(model)
    parallel.device_ids = [0, 1]
    with pytest.raises(UnsupportedModelError, match="DataParallel over 2 devices.*pass its .module"):
        vidcompress.VisualQA(parallel, None)
    assert unwrap("tiny-onevision") == "tiny-onevision" and unwrap(None) is None


@pytest.mark.skipif(
    Version(peft.__version__) < Version(MIN_PEFT_VERSION),
    reason=f"this transformers loads adapters with peft {MIN_PEFT_VERSION} or newer; there is {peft.__version__}",
)
def test_adapters_that_transformers_itself_loaded_are_no_wrapper() -> None:
    model: Any = copy.deepcopy(tiny_model("llava_next"))
    model.add_adapter(LoraConfig(**LORA, init_lora_weights=False))
    raw, base = batch(model, ROWS), tiny_model("llava_next")
    assert unwrap(model) is model and not isinstance(model, PeftModel)
    short = {one: vidcompress.compress_inputs(one, raw, retention_ratio=0.3) for one in (model, base)}
    with torch.no_grad(), vidcompress.compress(model, retention_ratio=0.3):
        logits = model(**raw).logits
        assert torch.equal(logits, model(**short[model]).logits)
        assert not torch.allclose(logits, base(**short[base]).logits, atol=0.1)


@pytest.mark.parametrize("way", ["ddp", "fsdp1", "fully_shard"])
def test_two_processes_share_a_model(way: str, tmp_path: Path) -> None:
    """DistributedDataParallel is opened; FSDP, of which each process holds a part, is refused by name."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join(map(str, (root, root / "tests")))
    done = subprocess.run(
        [sys.executable, str(root / "tests" / "sharded_ranks.py"), way, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((path, os.environ.get("PYTHONPATH", "")))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        seen = json.loads((tmp_path / f"{rank}.json").read_text())
        if way == "ddp":
            kept, again, total = seen["kept"]
            assert kept == again < total
            assert seen["logits"] and seen["after"] and seen["qa"] and not seen["stock"]
        else:
            call = {"fsdp1": "FullyShardedDataParallel", "fully_shard": "fully_shard"}[way]
            assert len(seen["errors"]) == 3
            for error in seen["errors"]:
                assert error.startswith(f"UnsupportedModelError: model is sharded by {call} (FSDP)"), error

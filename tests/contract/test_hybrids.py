"""Qwen3.5 and its MoE: three of four layers keep a state, so that dropped tokens are left out and cannot be masked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import processor_cases as cases
from qwen_folder import save_folder
from qwen_models import HYBRIDS, IMAGE, SCENES, VIDEO, one_row, qwen_inputs, qwen_model
from vidcompress import ArgumentError, UnsupportedModelError, VisualQA, compress, compress_inputs, testing
from vidcompress.adapters.base import adapter_for
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods
from vidcompress.llm_pruning.cache_names import cache_name, returned_cache
from vidcompress.media import load_processor
from vidcompress.session.generation_options import CHUNKED_PREFILL_SINCE, transformers_version

pytestmark = pytest.mark.transformers

INSIDE = [name for name in available_methods() if METHODS.get(name).where == "inside"]
STEPS: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "suppress_tokens": [IMAGE, VIDEO]}
MORE: dict[str, Any] = {"output_logits": True, "return_dict_in_generate": True}


def logits(model: Any, inputs: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**inputs).logits
    return out


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("family", HYBRIDS)
def test_the_contract_is_kept_by_every_method(family: str, scene: str) -> None:
    """Everything kept: the stock model; part kept: the language model alone on what is left; the entrance."""
    model = qwen_model(family)
    methods = None if scene == "image" else ["globalcom2", "visionzip", "random", "pool"]
    testing.check_adapter(model, qwen_inputs(model, SCENES[scene]), methods)


@pytest.mark.parametrize("family", HYBRIDS)
def test_a_mask_does_not_take_a_token_out_of_a_state(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the judge of the other families would be wrong here, and the adapter says that it is."""
    model = qwen_model(family)
    traits = adapter_for(model).traits
    assert traits.hybrid and traits.axes == 4 and not traits.deep_levels
    testing.check_masked(model, qwen_inputs(model, SCENES["image"]), "uniform", positions="original")
    monkeypatch.setattr("vidcompress.testing.models.masking_tells", lambda *given: True)
    with pytest.raises(testing.ContractError, match="dropped tokens masked: logits: differs"):
        testing.check_masked(model, qwen_inputs(model, SCENES["image"]), "uniform", positions="original")


@pytest.mark.parametrize("family", HYBRIDS)
def test_a_wrong_model_is_known_by_the_judge_of_embeddings(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["mixed"])
    testing.check_gathered(model, inputs, "uniform")
    cls = type(adapter_for(model))
    encode, positions = cls.encode, cls.positions

    def columns(self: Any, *given: Any) -> Any:
        return positions(self, *given)[:1].expand(4, -1, -1)

    def moved(self: Any, *given: Any) -> Any:
        return positions(self, *given).roll(1, -1)

    for wrong in (columns, moved):
        with monkeypatch.context() as patch:
            patch.setattr(cls, "positions", wrong)
            with pytest.raises(testing.ContractError, match="surviving embeddings alone: logits: differs"):
                testing.check_gathered(model, inputs, "uniform")

    def backwards(self: Any, *given: Any, **settings: Any) -> Any:
        made = encode(self, *given, **settings)
        return [replace(tokens, features=tokens.features.flip(0)) for tokens in made]

    monkeypatch.setattr(cls, "encode", backwards)
    with pytest.raises(testing.ContractError, match="inputs_embeds is neither"):
        testing.check_entrance(model, inputs)


def test_companions_are_not_in_embeddings() -> None:
    model = qwen_model("qwen3_vl")
    with pytest.raises(
        UnsupportedModelError, match="check_gathered cannot go with Qwen3VL.*use check_masked"
    ):
        testing.check_gathered(model, qwen_inputs(model, SCENES["image"]), "uniform")


@pytest.mark.parametrize("family", HYBRIDS)
def test_everything_kept_is_the_stock_model_to_the_bit(family: str) -> None:
    model = qwen_model(family)
    for scene in SCENES.values():
        inputs = qwen_inputs(model, scene)
        stock = logits(model, inputs)
        for most in (1, 100, 16384):
            whole = compress_inputs(model, inputs, "globalcom2", retention_ratio=1.0, max_patches=most)
            assert torch.equal(logits(model, whole), stock), most


@pytest.mark.parametrize("family", HYBRIDS)
def test_decoding_beams_sequences_and_caches(family: str) -> None:
    """Steps on the cache, states included, are those of a recompute; a row among others answers as alone."""
    model = qwen_model(family)
    rows = SCENES["mixed"][:2]
    short = compress_inputs(model, qwen_inputs(model, rows), "globalcom2", retention_ratio=0.5)
    alone = [
        compress_inputs(model, one_row(model, rows, number), "globalcom2", retention_ratio=0.5)
        for number in range(2)
    ]
    greedy = model.generate(**short, **STEPS)
    assert torch.equal(greedy, model.generate(**short, **STEPS, use_cache=False))
    if transformers_version() >= CHUNKED_PREFILL_SINCE:  # a block refuses it before
        assert torch.equal(greedy, model.generate(**short, **STEPS, prefill_chunk_size=7))
    assert torch.equal(greedy, model.generate(**short, **STEPS, cache_implementation="static"))
    for options in ({"num_beams": 2}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}):
        together = model.generate(**short, **STEPS, **options)[:, -5:]
        apiece = [model.generate(**one, **STEPS, **options)[:, -5:] for one in alone]
        assert torch.equal(together, torch.cat(apiece)), options


@pytest.mark.parametrize("family", HYBRIDS)
def test_a_second_turn_on_the_cache_is_that_of_a_recompute(family: str) -> None:
    """Also after another input ran on the same model."""
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["mixed"][:2])
    with compress(model, "globalcom2", retention_ratio=0.5):
        first = model.generate(**inputs, **STEPS, return_dict_in_generate=True)
        model.generate(**qwen_inputs(model, SCENES["clip"], seed=3), **STEPS)
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        more = turn.shape[1] - inputs["input_ids"].shape[1]
        later = {**inputs, "input_ids": turn}
        for key, fill in (("attention_mask", 1), ("mm_token_type_ids", 0)):
            later[key] = torch.cat((inputs[key], torch.full((2, more), fill)), 1)
        anew = model.generate(**later, **STEPS, **MORE)
        again = model.generate(**later, **STEPS, **MORE, **{cache_name(): returned_cache(first)})
    assert torch.equal(again.sequences, anew.sequences)
    assert apart(torch.stack(again.logits), torch.stack(anew.logits)) < 1e-4


def test_tensors_of_a_next_token_predictor_do_not_hinder_loading(tmp_path: Path) -> None:
    """Published checkpoints have a head `mtp` that the class ignores; any other tensor is refused."""
    folder = save_folder(tmp_path, "qwen3_5")
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "mtp.norm.weight": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    qa = VisualQA.from_pretrained(folder, retention_ratio=0.5, device="cpu")
    assert qa.ask("what is it?", image=Image.new("RGB", (90, 60)), max_new_tokens=2).report.kept > 0
    save_file({**tensors, "extra.weight": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArgumentError, match="1 unexpected .extra.weight"):
        VisualQA.from_pretrained(folder, device="cpu")


def test_the_processor_is_that_of_qwen3_vl(tmp_path: Path) -> None:
    """As in transformers, whose own is one class for both; its numbers are recorded for Qwen3-VL."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    for family in HYBRIDS:
        assert PROCESSOR_MAPPING_NAMES[family] == PROCESSOR_MAPPING_NAMES["qwen3_vl"]
    picture, clip = Image.fromarray(cases.picture(1, 120, 170)), cases.clip(5)
    made = []
    for family in ("qwen3_vl", "qwen3_5"):
        processor = load_processor(save_folder(tmp_path / family, family))
        text = "<|image_pad|> and <|video_pad|>?"
        made.append(processor(text, images=picture, videos=clip))
    assert made[0].keys() == made[1].keys()
    assert all(torch.equal(value, made[1][key]) for key, value in made[0].items())


@pytest.mark.parametrize("method", INSIDE)
@pytest.mark.parametrize("family", HYBRIDS)
def test_methods_inside_the_language_model_are_refused_by_name(family: str, method: str) -> None:
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["image"])
    says = r"Qwen3_5.*ForConditionalGeneration has a decoder whose layers are not all attention.* before the lang"
    with pytest.raises(UnsupportedModelError, match=says), compress(model, method, retention_ratio=0.5):
        model(**inputs)


@pytest.mark.parametrize("family", HYBRIDS)
def test_masses_weigh_the_layers_with_attention_and_say_so(family: str) -> None:
    """The reference adds the logarithms to the mask of those layers by hand; without them the logits are others."""
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["image"])
    plain = compress_inputs(model, inputs, "divprune", retention_ratio=0.3)
    short = compress_inputs(model, inputs, "divprune", retention_ratio=0.3, mass="on")
    assert any("masses count in the layers with attention only" in note for note in short.report.notes)
    with short.pruning():
        weighed = logits(model, short)
    width, mass = short["input_ids"].shape[1], short.report.visuals[0].mass
    bias = torch.zeros(width)
    bias[short["input_ids"][0] == IMAGE] = mass.log()
    causal = torch.full((width, width), torch.finfo(torch.float32).min).triu(1)

    def add(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "attention_mask": (causal + bias)[None, None]}

    handles = [
        layer.self_attn.register_forward_pre_hook(add, with_kwargs=True)
        for layer in model.model.language_model.layers
        if hasattr(layer, "self_attn")
    ]
    try:
        assert len(handles) == 1 and apart(logits(model, plain), weighed) < 1e-5
    finally:
        for handle in handles:
            handle.remove()
    assert apart(logits(model, plain), weighed) > 1e-3

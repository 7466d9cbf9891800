"""The internals of transformers that this package leans on; drift turns red here first."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import find_packed_sequence_indices
from transformers.modeling_outputs import BaseModelOutputWithPooling

from qwen_models import FAMILIES as QWENS
from qwen_models import qwen_model
from tiny_models import CROPPED, FAMILIES, IMAGE, tiny_model
from vidcompress.errors import UnsupportedInputError
from vidcompress.llm_pruning.cache_names import (
    CACHE_NAMES,
    cache_name,
    given_cache,
    returned_cache,
    with_cache_name,
)

pytestmark = pytest.mark.transformers

DECODER_LAYER_KEYWORDS = ("attention_mask", "position_ids", "position_embeddings")


@pytest.mark.parametrize("family", FAMILIES)
def test_models_take_encoder_outputs(family: str) -> None:
    assert "mm_encoder_outputs" in inspect.signature(tiny_model(family).forward).parameters


@pytest.mark.parametrize("family", (*CROPPED, "llava"))
def test_one_list_entry_per_row_is_expanded_in_row_order(family: str) -> None:
    """Beams repeat each row's entry next to itself, and a text-only row has none."""
    model = tiny_model(family)
    ids = torch.tensor([[IMAGE, IMAGE, 5], [6, 7, 8], [IMAGE, 7, 8]])
    one, two = torch.ones(2, 32), torch.full((1, 32), 2.0)
    out = model._expand_multimodal_outputs(
        ids, {"image": BaseModelOutputWithPooling(pooler_output=[one, two])}, expand_size=2
    )
    assert [e[0, 0].item() for e in out["image"].pooler_output] == [1, 1, 2, 2]


def test_generate_consumes_the_list_it_is_given() -> None:
    """Why every unpacking hands out a fresh one; if this passes without that, the copy can go."""
    model = tiny_model("llava_next")
    ids = torch.tensor([[5, IMAGE, IMAGE, 5]])
    output = BaseModelOutputWithPooling(pooler_output=[torch.ones(2, 32)])
    model.generate(input_ids=ids, mm_encoder_outputs={"image": output}, num_beams=2, max_new_tokens=1)
    assert len(output.pooler_output) == 2


def test_gaps_in_positions_mean_packing_without_a_mask() -> None:
    assert find_packed_sequence_indices(torch.tensor([[0, 1, 5, 6]])).tolist() == [[0, 0, 1, 1]]


def test_generate_drops_a_mask_of_ones_only_with_a_cache_to_tell_the_length() -> None:
    """Original positions in generate equal a forward with an explicit mask."""
    model = tiny_model("llava_next")
    ids, positions = torch.tensor([[5, 9, 8, 7, 6]]), torch.tensor([[0, 1, 5, 6, 9]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1]
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        max_new_tokens=1,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert torch.allclose(out.logits[0], expected, atol=1e-5)


def test_a_default_max_length_counts_new_tokens() -> None:
    """The block shortens explicit limits only, because transformers adds the prompt to a default one."""
    assert "has_default_max_length" in inspect.getsource(GenerationMixin._prepare_generated_length)


@pytest.mark.parametrize("family", FAMILIES)
def test_decoder_layers_get_the_keywords_that_pruning_reads(family: str) -> None:
    """Methods inside the language model read these from the hooks on decoder layers, and nothing else."""
    model, calls = tiny_model(family), []
    hooks = [
        layer.register_forward_pre_hook(
            lambda module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
        )
        for layer in model.model.language_model.layers
    ]
    with torch.no_grad():
        out = model(input_ids=torch.tensor([[5, 9, 8]]), use_cache=True)
    for hook in hooks:
        hook.remove()
    assert len(calls) == len(hooks)
    wanted = {*DECODER_LAYER_KEYWORDS, cache_name()}
    for args, kwargs in calls:
        missing = wanted - set(kwargs)
        assert not missing, (
            f"a decoder layer of {family} is no longer called with the keywords {sorted(missing)}, which "
            f"llm_pruning/ reads; it is called with {sorted(kwargs)}"
        )
        assert (args[0] if args else kwargs["hidden_states"]).shape == (1, 3, 32)
        assert given_cache(kwargs) is returned_cache(out)


def attention_calls(model: Any, **inputs: Any) -> list[tuple[int, Any, Any, Any]]:
    """Number of the layer, module, arguments and keywords of every call of an attention."""
    calls: list[tuple[int, Any, Any, Any]] = []
    handles = [
        layer.self_attn.register_forward_pre_hook(
            lambda module, args, kwargs, number=number: calls.append((number, module, args, kwargs)),
            with_kwargs=True,
        )
        for number, layer in enumerate(model.model.language_model.layers)
    ]
    try:
        model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


@pytest.mark.parametrize("model", [*FAMILIES, *QWENS])
def test_attentions_have_the_names_that_masses_read(model: str) -> None:
    """Masses are hooks on these attentions, add to this mask, and read the columns off this cache."""
    vlm = qwen_model(model) if model in QWENS else tiny_model(model)
    ids, mask = torch.tensor([[0, 9, 8], [5, 9, 8]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    with torch.no_grad():
        calls = attention_calls(vlm, input_ids=ids, attention_mask=mask, use_cache=True)
    assert len(calls) == vlm.config.get_text_config().num_hidden_layers
    for number, module, args, kwargs in calls:
        missing = {"attention_mask", "position_embeddings", cache_name()} - set(kwargs)
        assert not missing, (
            f"an attention of {model} is no longer called with the keywords {sorted(missing)}, which "
            f"llm_pruning/mass.py reads; it is called with {sorted(kwargs)}"
        )
        assert module.layer_idx == number
        assert (args[0] if args else kwargs["hidden_states"]).shape[:2] == (2, 3)
        assert kwargs["attention_mask"].shape == (2, 1, 3, 3) and isinstance(
            kwargs["position_embeddings"], tuple
        )
    text = vlm.config.get_text_config()
    assert getattr(text, "attn_logit_softcapping", None) is None and text._attn_implementation == "sdpa"
    assert text.num_attention_heads == 4


def test_caches_say_which_columns_a_layer_will_see_without_asking_the_device() -> None:
    model = tiny_model("llava_next")
    text = model.config.get_text_config()
    for cache, width, compiles in (
        (DynamicCache(), 5, False),
        (StaticCache(text, max_cache_len=16), 16, True),
    ):
        assert cache.get_mask_sizes(3, 1) == (16 if compiles else 3, 0)
        model.model.language_model(torch.tensor([[3, 4, 5]]), **{cache_name(): cache})
        sizes = cache.get_mask_sizes(2, 1)
        assert sizes == (width, 0) and all(type(size) is int for size in sizes)
        assert bool(getattr(cache, "is_compileable", False)) == compiles and cache.get_seq_length(1) == 3


def test_flex_attention_takes_a_bias_by_this_name() -> None:
    flex = pytest.importorskip("transformers.integrations.flex_attention")
    source = inspect.getsource(flex.flex_attention_forward)
    assert "position_bias" in source, "llm_pruning/mass.py hands flex attention its biases as position_bias"


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_run_again_with_the_rotary_embeddings_of_their_forward(reentrant: bool) -> None:
    """By which masses find the plan of a forward in its backward."""
    model = copy.deepcopy(tiny_model("llava_next")).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    decoder = model.model.language_model
    assert any(getattr(part, "gradient_checkpointing", False) for part in (decoder, *decoder.layers))
    seen: list[Any] = []
    for layer in decoder.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append((module.layer_idx, kwargs["position_embeddings"][0])),
            with_kwargs=True,
        )
    loss = model(input_ids=torch.tensor([[5, 9, 8]]), use_cache=False).logits.sum()
    first = len(seen)
    loss.backward()
    assert sorted(layer for layer, _ in seen[first:]) == [layer for layer, _ in seen[:first]] == [0, 1, 2]
    assert all(rotary is seen[0][1] for _, rotary in seen)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_name_of_the_cache_serves_forward_generate_and_outputs(family: str) -> None:
    model = tiny_model(family)
    known = inspect.signature(model.forward).parameters
    assert [name for name in CACHE_NAMES if name in known] == [cache_name()]
    out = model.generate(torch.tensor([[5, 9, 8]]), max_new_tokens=1, return_dict_in_generate=True)
    assert cache_name() in out.keys() and returned_cache(out) is out[cache_name()]


def test_a_cache_is_read_under_every_name_and_passed_on_under_one() -> None:
    for name in CACHE_NAMES:
        assert given_cache({name: 3, "use_cache": True}) == 3
        assert with_cache_name({name: 3, "use_cache": True}) == {cache_name(): 3, "use_cache": True}
        assert given_cache({**dict.fromkeys(CACHE_NAMES), name: 3}) == 3
        assert returned_cache({name: 3}) == 3
    assert given_cache({"use_cache": True}) is None and with_cache_name({"cache": None}) == {}
    assert returned_cache((1, 2)) is None
    for read in (given_cache, with_cache_name):
        with pytest.raises(UnsupportedInputError, match="cache and past_key_values are two names"):
            read({"cache": 3, "past_key_values": 3})

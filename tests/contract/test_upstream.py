"""The internals of transformers that this package leans on; drift turns red here first."""

from __future__ import annotations

import inspect

import pytest
import torch
from transformers.generation import GenerationMixin
from transformers.masking_utils import find_packed_sequence_indices
from transformers.modeling_outputs import BaseModelOutputWithPooling

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

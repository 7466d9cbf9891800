"""The internals of transformers that this package leans on; drift turns red here first."""

from __future__ import annotations

import inspect

import pytest
import torch
from transformers.generation import GenerationMixin
from transformers.masking_utils import find_packed_sequence_indices
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tiny_models import FAMILIES, IMAGE, tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_models_take_encoder_outputs(family: str) -> None:
    assert "mm_encoder_outputs" in inspect.signature(tiny_model(family).forward).parameters


@pytest.mark.parametrize("family", FAMILIES)
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

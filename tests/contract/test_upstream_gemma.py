"""The internals of Gemma 3, Gemma 4 and Mistral 3 that their adapters lean on; drift turns red here first."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gemma_models import gemma3, gemma3_inputs, gemma4, gemma4_inputs
from pixtral_models import mistral3, mistral3_inputs
from vidcompress.testing.entrance import at_entrance

pytestmark = pytest.mark.transformers

MODELS: dict[str, Callable[[], Any]] = {"gemma3": gemma3, "gemma4": gemma4, "mistral3": mistral3}
PARTS = {
    "gemma3": (
        "vision_tower.post_layernorm",
        "multi_modal_projector.avg_pool",
        "multi_modal_projector.patches_per_image",
        "multi_modal_projector.mm_soft_emb_norm",
        "multi_modal_projector.mm_input_projection_weight",
    ),
    "gemma4": (
        "vision_tower.encoder.layers.0.self_attn.q_norm",
        "vision_tower.encoder.layers.0.self_attn.k_norm",
        "vision_tower.encoder.layers.0.self_attn.scaling",
        "language_model.layers.0.self_attn.is_kv_shared_layer",
        "language_model.layers.0.self_attn.store_full_length_kv",
        "language_model.layers.0.self_attn.layer_type",
        "embed_vision.embedding_projection",
    ),
    "mistral3": (
        "vision_tower.patch_size",
        "vision_tower.transformer.layers.0.attention.q_proj",
        "vision_tower.transformer.layers.0.attention.k_proj",
        "vision_tower.transformer.layers.0.attention.scaling",
        "multi_modal_projector.norm",
        "multi_modal_projector.patch_merger.merging_layer",
        "multi_modal_projector.linear_1",
        "multi_modal_projector.act",
        "multi_modal_projector.linear_2",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_parts_have_the_names_that_adapters_read(name: str) -> None:
    core = MODELS[name]().model
    assert "mm_encoder_outputs" in inspect.signature(type(core).forward).parameters
    for path in PARTS[name]:
        part: Any = core
        for step in path.split("."):
            part = part[int(step)] if step.isdigit() else getattr(part, step)
        assert part is not None, path


@pytest.mark.parametrize("name", ["gemma3", "gemma4"])
def test_rotary_embeddings_go_by_kind_of_layer(name: str) -> None:
    """By which pruning inside the language model tells that it cannot follow."""
    rotary = MODELS[name]().model.language_model.rotary_emb
    assert "layer_type" in inspect.signature(type(rotary).forward).parameters
    plain = mistral3().model.language_model.rotary_emb
    assert "layer_type" not in inspect.signature(type(plain).forward).parameters


@pytest.mark.parametrize("name", ["gemma3", "gemma4"])
def test_masks_by_kind_of_layer_let_a_picture_see_itself_both_ways(name: str) -> None:
    """They are made of token types, in front of the language model; without types they are causal."""
    model = MODELS[name]()
    inputs = gemma3_inputs([[5, (0,), 6]]) if name == "gemma3" else gemma4_inputs([[5, (2, 2), 6]])
    key = "token_type_ids" if name == "gemma3" else "mm_token_type_ids"
    visual = inputs[key][0].nonzero().flatten()
    first, last = int(visual[0]), int(visual[-1])
    bare = {name: value for name, value in inputs.items() if name != key}
    masks = at_entrance(model, model.model.language_model, inputs)["attention_mask"]
    plain = at_entrance(model, model.model.language_model, bare).get("attention_mask")
    near = masks["sliding_attention"]
    assert bool(seen(near)[first, last]) and not bool(seen(near)[first, last + 1])
    full = masks["full_attention"]  # causal in Gemma 4, also where a window is not reached
    assert (name == "gemma3") == (full is not None and bool(seen(full)[first, last]))
    causal = plain.get("sliding_attention") if isinstance(plain, dict) else plain
    assert causal is None or causal.ndim == 2 or not bool(seen(causal)[first, last])


def seen(mask: torch.Tensor) -> torch.Tensor:
    """(query, column) bool, what the first row sees."""
    return mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0


def test_pixtral_pictures_are_encoded_by_themselves() -> None:
    model, inputs = mistral3(), mistral3_inputs([[5, (3, 4), (2, 2)]])
    with torch.no_grad():
        both = model.model.get_image_features(inputs["pixel_values"], inputs["image_sizes"]).pooler_output
        inputs["pixel_values"][1] += 3
        other = model.model.get_image_features(inputs["pixel_values"], inputs["image_sizes"]).pooler_output
    assert torch.equal(both[0], other[0]) and not torch.allclose(both[1], other[1], atol=1e-3)

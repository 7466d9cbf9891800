"""LLaVA-1.5: one view per picture, on CLIP with a CLS token or SigLIP without."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

from tiny_models import Scene, batch, tiny_model
from vidcompress import UnsupportedInputError, UnsupportedModelError, compress, compress_inputs, testing
from vidcompress.adapters.base import adapter_for
from vidcompress.core.tokens import Evidence

pytestmark = pytest.mark.transformers

ROWS = [
    Scene((("image", (50, 90)),), before=3, seed=1),
    Scene((("image", (90, 50)), ("image", (56, 56))), before=7, between=0, seed=2),
    Scene((), seed=3),
]


def siglip() -> Any:
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**size, image_size=56, patch_size=14, vision_use_head=False),
        text_config=LlamaConfig(**size, vocab_size=100, pad_token_id=0, eos_token_id=1),
        image_token_index=90,
        vision_feature_select_strategy="full",
        vision_feature_layer=[-1, -2],
    )
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    return model


MODELS = {"clip": lambda: tiny_model("llava"), "siglip": siglip}


@pytest.mark.parametrize("tower", MODELS)
def test_it_keeps_the_contract(tower: str) -> None:
    model = MODELS[tower]()
    testing.check_adapter(model, batch(model, ROWS))


@pytest.mark.parametrize("max_views", [1, 2, 16])
@pytest.mark.parametrize("tower", MODELS)
def test_everything_kept_is_the_stock_model_to_the_bit(tower: str, max_views: int) -> None:
    model = MODELS[tower]()
    inputs = batch(model, ROWS)
    with torch.no_grad():
        stock = model(**inputs).logits
        same = model(**compress_inputs(model, inputs, "none", max_views=max_views)).logits
        fewer = model(**compress_inputs(model, inputs, retention_ratio=0.9)).logits
    assert torch.equal(same, stock)
    assert (fewer[:, -1] - stock[:, -1]).abs().max() > 1e-3  # the control


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("tower", MODELS)
def test_evidence_equals_the_maps(tower: str, attention: str) -> None:
    model = copy.deepcopy(MODELS[tower]())
    model.set_attn_implementation(attention)
    adapter = adapter_for(model)
    images, _ = adapter.visuals(batch(model, ROWS))
    wanted = [Evidence("attention_received", -2)]
    wanted += [Evidence("cls_attention", -2)] if adapter.has_cls else []
    with torch.no_grad():
        tokens = adapter.encode(images, wanted)
        model.set_attn_implementation("eager")
        pixels = torch.cat([image.pixels for image in images])
        maps = model.model.vision_tower(pixels, output_attentions=True).attentions[-2].mean(1)
    first = int(adapter.has_cls)
    for one, own in zip(tokens, maps, strict=True):
        assert torch.allclose(one.evidence[wanted[0]], own.mean(0)[first:], atol=1e-6)
        if adapter.has_cls:
            assert torch.allclose(one.evidence[wanted[1]], own[0, 1:], atol=1e-6)
    assert not torch.allclose(
        tokens[0].evidence[wanted[0]], maps[1].mean(0)[first:], atol=1e-4
    )  # the control


@pytest.mark.parametrize("tower", MODELS)
def test_the_projector_makes_the_features_of_what_it_reads(tower: str) -> None:
    adapter = adapter_for(MODELS[tower]())
    key = Evidence("hidden", "features")
    (image, *_), _ = adapter.visuals(batch(adapter.model, ROWS))
    with torch.no_grad():
        (tokens,) = adapter.encode([image], [key])
        assert tokens.project is not None
        assert torch.allclose(tokens.project(tokens.evidence[key]), tokens.features, atol=1e-5)
        assert not torch.allclose(tokens.project(tokens.evidence[key].flip(0)), tokens.features, atol=1e-3)


def test_beams_and_a_block_answer_as_plain_inputs() -> None:
    model = tiny_model("llava")
    inputs = batch(model, ROWS)
    options = {"max_new_tokens": 5, "do_sample": False, "num_beams": 2}
    shorter = compress_inputs(model, inputs, retention_ratio=0.4)
    plain = model.generate(**shorter, **options)[:, shorter["input_ids"].shape[1] :]
    with compress(model, retention_ratio=0.4):
        block = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    assert torch.equal(plain, block)


@pytest.mark.parametrize(
    ("encoder", "strategy"),
    [("clip_vision_model", "full"), ("pixtral", "full"), ("siglip_vision_model", "default")],
)
def test_towers_that_are_not_served_are_named(encoder: str, strategy: str) -> None:
    class Stranger:
        class config:
            model_type = "llava"
            vision_feature_select_strategy = strategy

            class vision_config:
                model_type = encoder

    with pytest.raises(UnsupportedModelError, match=f"vision tower '{encoder}' with .*'{strategy}'"):
        compress_inputs(Stranger(), {}, retention_ratio=0.5)


def test_inputs_that_are_not_served_are_named() -> None:
    model = tiny_model("llava")
    inputs = batch(model, ROWS[:1])
    with pytest.raises(UnsupportedInputError, match=r"must be \(image, channel.*got \(1, 1, 3, 56, 56\)"):
        compress_inputs(model, inputs | {"pixel_values": inputs["pixel_values"][None]}, retention_ratio=0.5)
    with pytest.raises(UnsupportedInputError, match="image_sizes=.*leave it out"):
        compress_inputs(model, inputs | {"image_sizes": torch.tensor([[5, 5]])}, retention_ratio=0.5)

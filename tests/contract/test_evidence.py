"""Evidence that is more than one number per position, and what the projector reads, against the stock encoder."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tiny_models import ANYRES_MAX, CROPPED, FAMILIES, VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import UnsupportedModelError
from vidcompress.session.compress import compress_inputs

HIDDEN, CLS_HIDDEN = Evidence("hidden", "features"), Evidence("cls_hidden", "features")


def encoded(family: str, scene: Scene, wanted: list[Evidence]) -> tuple[Any, Any, VisualTokens]:
    """The model, the visual and what the adapter makes of it."""
    model = tiny_model(family)
    adapter = adapter_for(model)
    images, videos = adapter.visuals(batch(model, [scene]))
    visual = (images + videos)[0]
    with torch.no_grad():
        (tokens,) = adapter.encode([visual], wanted, max_views=2)
    return model, visual, tokens


@pytest.mark.parametrize("layer", [-1, -2, 0, "features"])
@pytest.mark.parametrize("family", (*CROPPED, "llava"))
def test_keys_and_the_unsplit_attention_are_those_of_the_projections(family: str, layer: Any) -> None:
    model = tiny_model(family)
    adapter = adapter_for(model)
    wanted = [Evidence("keys", layer), Evidence("mean_keys", layer)]
    wanted += [Evidence("cls_attention_whole", layer)] if adapter.has_cls else []
    _, visual, tokens = encoded(family, Scene((("image", (112, 112)),)), wanted)
    # hidden_states[i] is what layer i reads; the projector reads the output of one layer.
    number = {"features": model.config.vision_feature_layer % 5 - 1}.get(layer, layer) % 4
    with torch.no_grad():
        states = model.model.vision_tower(visual.pixels, output_hidden_states=True).hidden_states[number]
        block = adapter.vision_layers()[number]
        normed = block.layer_norm1(states)
        query, key = block.self_attn.q_proj(normed), block.self_attn.k_proj(normed)
    first, thumbnail = int(adapter.has_cls), torch.arange(16)
    assert torch.allclose(tokens.evidence[wanted[0]][thumbnail], key[0, first:], atol=1e-5)
    heads = key[0, first:].view(16, 4, 8).mean(1)
    assert torch.allclose(tokens.evidence[wanted[1]][thumbnail], heads, atol=1e-5)
    if adapter.has_cls:
        row = torch.softmax(query[0, 0] @ key[0].T / 32**0.5, 0)[1:]
        assert torch.allclose(tokens.evidence[wanted[2]][thumbnail], row, atol=1e-6)


@pytest.mark.parametrize("size", [(112, 112), (112, 80), (56, 168), (8, 300)])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_projector_makes_the_features_of_what_it_reads(family: str, size: tuple[int, int]) -> None:
    _, _, tokens = encoded(family, Scene((("image", size),)), [HIDDEN])
    assert tokens.project is not None
    keep = tokens.layout.token_index
    with torch.no_grad():
        made = tokens.project(tokens.evidence[HIDDEN][keep])
    assert torch.allclose(made, tokens.features[keep], atol=1e-5)


@pytest.mark.parametrize("family", ANYRES_MAX)
def test_what_is_resized_after_the_projector_has_none(family: str) -> None:
    for visual in (("image", (336, 336)), ("video", 3)):
        _, _, tokens = encoded(family, Scene((visual,)), [HIDDEN])
        assert tokens.project is None
        assert tokens.evidence[HIDDEN].shape == (len(tokens), 32)
    _, _, several = encoded(family, Scene((("image", (112, 80)), ("image", (56, 56)))), [HIDDEN])
    assert several.project is not None, "an image of one view is not resized"


@pytest.mark.parametrize("mode", ["average", "max", "conv"])
def test_frames_that_are_pooled_before_the_projector_have_one(mode: str) -> None:
    model = tiny_model("llava_next_video", spatial_pool_mode=mode)
    adapter = adapter_for(model)
    _, videos = adapter.visuals(batch(model, [Scene((("video", 3),))]))
    with torch.no_grad():
        (tokens,) = adapter.encode(videos, [HIDDEN, CLS_HIDDEN], max_views=2)
        assert tokens.project is not None
        made = tokens.project(tokens.evidence[HIDDEN])
    assert torch.allclose(made, tokens.features, atol=1e-5)
    assert tokens.evidence[CLS_HIDDEN].shape == (3, 32)


@pytest.mark.parametrize("family", ["llava_next", "llava_next_video"])
def test_cls_is_that_of_each_view(family: str) -> None:
    model, visual, tokens = encoded(family, Scene((("image", (112, 80)),)), [CLS_HIDDEN, HIDDEN])
    with torch.no_grad():
        states = model.model.vision_tower(visual.pixels, output_hidden_states=True).hidden_states[-2]
    assert torch.allclose(tokens.evidence[CLS_HIDDEN], states[:, 0], atol=1e-5)


def test_what_cannot_be_had_is_named() -> None:
    scene = Scene((("image", (112, 112)),))
    with pytest.raises(
        UnsupportedModelError, match="'cls_hidden'.* needs a CLS token and SiglipVisionModel has none"
    ):
        encoded("llava_onevision", scene, [CLS_HIDDEN])
    with pytest.raises(UnsupportedModelError, match="'hidden', -1.* use layer 'features'"):
        encoded("llava_onevision", scene, [Evidence("hidden", -1)])


@pytest.mark.parametrize("method", ["fastervlm", "hired", "prumerge", "visionzip"])
def test_a_bfloat16_model_and_its_own_projector(method: str) -> None:
    model = copy.deepcopy(tiny_model("llava_next")).to(torch.bfloat16)
    inputs = batch(model, [Scene((("image", (112, 80)),))])
    inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
    compressed = compress_inputs(model, inputs, method, retention_ratio=0.4)
    (sent,) = compressed["mm_encoder_outputs"]["image"].pooler_output
    assert sent.dtype == torch.bfloat16
    assert bool(sent.isfinite().all())


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_the_layer_of_the_features_is_the_models(family: str) -> None:
    keys = [Evidence("keys", "features"), Evidence("keys", -1)]
    _, _, tokens = encoded(family, Scene((("video", 2),)), keys)
    same = torch.equal(*(tokens.evidence[key] for key in keys))
    assert same == (family in (*ANYRES_MAX, "internvl")), "CLIP's features come from the last layer but one"


def test_of_several_feature_layers_it_is_the_last() -> None:
    model = copy.deepcopy(tiny_model("llava_next"))
    model.config.vision_feature_layer = [-4, -2]
    model.model.multi_modal_projector.linear_1 = torch.nn.Linear(64, 32)
    adapter = adapter_for(model)
    images, _ = adapter.visuals(batch(model, [Scene((("image", (112, 80)),))]))
    keys = [Evidence("keys", "features"), Evidence("keys", -2)]
    with torch.no_grad():
        (tokens,) = adapter.encode(images, [*keys, HIDDEN])
        assert tokens.project is not None
        index = tokens.layout.token_index
        made = tokens.project(tokens.evidence[HIDDEN][index])
    assert tokens.evidence[HIDDEN].shape == (len(tokens), 64)
    assert torch.allclose(made, tokens.features[index], atol=1e-5)
    assert torch.equal(tokens.evidence[keys[0]], tokens.evidence[keys[1]])

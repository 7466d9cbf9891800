"""Weights from elsewhere: SigLIP's pooling head for FastVID, CLIP's text tower for CDPruner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
)

from tiny_models import PATCH, SIDE, Scene, batch, tiny_model
from vidcompress.adapters import auxiliary
from vidcompress.adapters.base import adapter_for
from vidcompress.core.tokens import Evidence
from vidcompress.errors import ArgumentError, UnsupportedInputError, UnsupportedModelError
from vidcompress.methods.cdpruner import CDPruner
from vidcompress.methods.fastvid import FastVID
from vidcompress.session.compress import compress_inputs

WIDTH = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
WORDS = ["<s>", "</s>", *(f"w{i}" for i in range(2, 100))]
"""The word of id i, in both tokenizers; ids 90 and 91 are the placeholders."""


def words_tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<s>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<s>")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> tuple[SiglipModel, str]:
    torch.manual_seed(1)
    vision = SiglipVisionConfig(**WIDTH, image_size=SIDE, patch_size=PATCH)
    text = SiglipTextConfig(**WIDTH, vocab_size=100)
    model = SiglipModel(SiglipConfig(vision_config=vision.to_dict(), text_config=text.to_dict())).eval()
    folder = tmp_path_factory.mktemp("siglip")
    model.save_pretrained(folder)
    return model, str(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[CLIPModel, str]:
    torch.manual_seed(2)
    vision = CLIPVisionConfig(**WIDTH, image_size=SIDE, patch_size=PATCH, projection_dim=20)
    text = CLIPTextConfig(
        **WIDTH, vocab_size=100, max_position_embeddings=9, projection_dim=20, eos_token_id=1, bos_token_id=0
    )
    config = CLIPConfig(vision_config=vision.to_dict(), text_config=text.to_dict(), projection_dim=20)
    model = CLIPModel(config).eval()
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    return model, str(folder)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A LLaVA-NeXT that was, as far as it knows, loaded from a folder with a tokenizer."""
    words_tokenizer().save_pretrained(tmp_path)
    model = tiny_model("llava_next")
    monkeypatch.setattr(model.config, "_name_or_path", str(tmp_path))
    return model


def test_the_pooling_head_is_siglips_own(siglip: tuple[SiglipModel, str]) -> None:
    model, folder = siglip
    pixels = torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        out = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        made = auxiliary.pooling_head(folder)(out.hidden_states[-1])
    torch.testing.assert_close(made["pooled"], out.pooler_output)
    assert made["pooling_attention"].shape == (3, 16)
    torch.testing.assert_close(made["pooling_attention"].sum(1), torch.ones(3))


@pytest.mark.parametrize("family", ["llava_onevision", "llava_video"])
def test_saliency_lands_on_the_tokens(family: str, siglip: tuple[SiglipModel, str]) -> None:
    model, folder = tiny_model(family), siglip[1]
    adapter = adapter_for(model)
    inputs = batch(model, [Scene((("video", 5),))])
    _, (visual,) = adapter.visuals(inputs)
    method = FastVID(auxiliary=folder)
    wanted = method.needs("video", False)
    with torch.no_grad():
        (tokens,) = adapter.encode([visual], wanted, max_views=2)
        tower = model.model.vision_tower
        states = tower(visual.pixels, output_hidden_states=True).hidden_states[
            model.config.vision_feature_layer
        ]
        made = auxiliary.pooling_head(folder)(states)
    layout = tokens.layout
    pooled = model.model.apply_pooling(made["pooling_attention"][..., None]).flatten()
    torch.testing.assert_close(tokens.evidence[wanted[0]][layout.token_index], pooled)
    torch.testing.assert_close(tokens.evidence[wanted[1]], made["pooled"])
    report = compress_inputs(model, inputs, method, retention_ratio=0.5).report
    assert report.kept == report.visuals[0].budget


def test_patches_and_text_meet_in_clips_space(clip: tuple[CLIPModel, str], named: Any) -> None:
    model, folder = clip
    text = "w5 w6 w7"
    ids = torch.tensor([[0, 5, 6, 7, 1]])
    with torch.no_grad():
        wanted = model.text_projection(model.text_model(input_ids=ids).pooler_output)
        made = auxiliary.text_tower(folder)(text)
        torch.testing.assert_close(made, wanted)
        long = auxiliary.text_tower(folder)(" ".join(f"w{i}" for i in range(10, 27)))
        parts = [[0, *range(10, 17), 1], [0, *range(17, 24), 1], [0, *range(24, 27), 1]]
        for row, part in zip(long, parts, strict=True):
            whole = model.text_model(input_ids=torch.tensor([part])).pooler_output
            torch.testing.assert_close(row, model.text_projection(whole)[0])
        assert auxiliary.text_tower(folder)("").shape == (1, 20)

        adapter = adapter_for(named)
        (visual,), _ = adapter.visuals(batch(named, [Scene((("image", (112, 80)),))]))
        visual = replace(visual, question=torch.tensor([5, 6, 7, 1]))
        evidence = CDPruner(auxiliary=folder).needs("image", True)
        (tokens,) = adapter.encode([visual], evidence)
        torch.testing.assert_close(tokens.evidence[evidence[1]], wanted)
        tower = named.model.vision_tower
        states = tower(visual.pixels, output_hidden_states=True).hidden_states[
            named.config.vision_feature_layer
        ]
        patches = model.visual_projection(model.vision_model.post_layernorm(states[:, 1:]))
    thumb = tokens.layout.table[0]
    torch.testing.assert_close(tokens.evidence[evidence[0]][thumb], patches[0])


def test_cdpruner_runs_with_clip_and_follows_the_question(clip: tuple[CLIPModel, str], named: Any) -> None:
    inputs = batch(named, [Scene((("image", (112, 112)),), after=6), Scene((("image", (56, 56)),), seed=4)])
    other = {**inputs, "input_ids": inputs["input_ids"].clone()}
    other["input_ids"][0, -6:] = torch.tensor([80, 2, 81, 3, 82, 4])
    reports = [
        compress_inputs(named, x, "cdpruner", auxiliary=clip[1], retention_ratio=0.2).report
        for x in (inputs, other)
    ]
    assert [v.kept for v in reports[0].visuals] == [v.budget for v in reports[0].visuals]
    kept = [[v.kept_positions.tolist() for v in report.visuals] for report in reports]
    assert kept[0][0] != kept[1][0]
    assert kept[0][1] == kept[1][1], "the other row's question is its own"


def test_a_folder_is_read_once(siglip: tuple[SiglipModel, str]) -> None:
    assert auxiliary.pooling_head(siglip[1]) is auxiliary.pooling_head(siglip[1])


def test_what_does_not_fit_is_refused(
    siglip: tuple[SiglipModel, str], clip: tuple[CLIPModel, str], tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="auxiliary='nowhere' is not a folder"):
        auxiliary.pooling_head("nowhere")
    with pytest.raises(ArgumentError, match="auxiliary='nowhere' is not a folder"):
        auxiliary.text_tower("nowhere")
    with pytest.raises(ArgumentError, match="auxiliary=.* has no config.json"):
        auxiliary.pooling_head(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ArgumentError, match="lacks 13 tensors, or has them in other shapes"):
        auxiliary.pooling_head(str(tmp_path))
    with pytest.raises(ArgumentError, match="its text tower does not load"):
        auxiliary.text_tower(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ArgumentError, match="auxiliary=.* does not load"):
        auxiliary.pooling_head(str(tmp_path))
    for name, change in (("less", None), ("wider", torch.zeros(1, 1, 40))):
        folder = tmp_path / name
        siglip[0].save_pretrained(folder)
        tensors = load_file(folder / "model.safetensors")
        key = "vision_model.head.probe"
        assert key in tensors
        tensors = {k: v for k, v in tensors.items() if k != key} | ({} if change is None else {key: change})
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(ArgumentError, match="lacks 1 tensors, or has them in other shapes: .*probe"):
            auxiliary.pooling_head(str(folder))
    folder = tmp_path / "text"
    clip[0].save_pretrained(folder)
    words_tokenizer().save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArgumentError, match="lacks tensors of the text tower.*text_projection"):
        auxiliary.text_tower(str(folder))


def test_weights_of_another_encoder_are_refused(
    siglip: tuple[SiglipModel, str], clip: tuple[CLIPModel, str], tmp_path: Path
) -> None:
    clip_model = tiny_model("llava_next_video")
    inputs = batch(clip_model, [Scene((("video", 3),))])
    with pytest.raises(UnsupportedModelError, match="goes with SigLIP encoders, .* one with a CLS token"):
        compress_inputs(clip_model, inputs, "fastvid", auxiliary=siglip[1], retention_ratio=0.5)
    siglip_model = tiny_model("llava_onevision")
    inputs = batch(siglip_model, [Scene((("video", 3),))])
    with pytest.raises(UnsupportedModelError, match="goes with CLIP encoders, .* one without a CLS token"):
        compress_inputs(siglip_model, inputs, "cdpruner", auxiliary=clip[1], retention_ratio=0.5)
    wide = SiglipVisionConfig(**{**WIDTH, "hidden_size": 40}, image_size=SIDE, patch_size=PATCH)
    text = SiglipTextConfig(**WIDTH, vocab_size=100)
    SiglipModel(SiglipConfig(vision_config=wide.to_dict(), text_config=text.to_dict())).save_pretrained(
        tmp_path
    )
    with pytest.raises(UnsupportedModelError, match="an encoder of 40 channels, and this model's has 32"):
        compress_inputs(siglip_model, inputs, "fastvid", auxiliary=str(tmp_path), retention_ratio=0.5)


def test_without_a_tokenizer_the_question_cannot_be_read(clip: tuple[CLIPModel, str]) -> None:
    model = tiny_model("llava_next")
    inputs = batch(model, [Scene((("image", (56, 56)),))])
    with pytest.raises(UnsupportedInputError, match="auxiliary= needs the question as text.*built in memory"):
        compress_inputs(model, inputs, "cdpruner", auxiliary=clip[1], retention_ratio=0.5)


def test_evidence_of_the_wrong_shape_is_refused() -> None:
    from layouts import VIDEOS
    from vidcompress.core.tokens import VisualTokens

    layout = VIDEOS["no newline"]
    features = torch.zeros(len(layout), 4)
    for item, value, message in (
        (Evidence("pooled", auxiliary="a"), torch.zeros(4, 7), r"\(V = 5, C\)"),
        (Evidence("question"), torch.zeros(4), r"\(T, D\)"),
        (Evidence("patch_embedding", auxiliary="a"), torch.zeros(3, 7), r"\(N = 45, E\)"),
        (Evidence("cls_logits"), torch.zeros(45, 1), r"\(N = 45\)"),
    ):
        with pytest.raises(ValueError, match=f"must have shape {message}"):
            VisualTokens(features, layout, {item: value})

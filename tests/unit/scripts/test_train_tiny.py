"""The training of the embedded models, on a micro setting."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from tiny import prepare, stages, trainer
from tiny.architecture import MODELS
from tiny.attention import plain_products
from tiny.encoder import normalise
from tiny.export import export, provenance
from tiny.material import make_piece
from tiny.sequences import HEADS, talk, turn_ids
from tiny.talking import encode, project
from tiny.views import labelled_views
from tiny.words import load_tokenizer
from vidcompress.tools.evaluation import shapes

CLASSES = {
    "tiny-onevision": (LlavaOnevisionForConditionalGeneration, LlavaOnevisionImageProcessorPil),
    "tiny-next": (LlavaNextForConditionalGeneration, LlavaNextImageProcessorPil),
}
LOOK = stages.Stage(
    "look", "views", rounds=1, pictures=8, passes=1, batch=8, lr=1e-3, encoder_lr=1e-3, warmup=1
)
TALK = stages.Stage(
    "talk",
    "talk",
    rounds=2,
    pictures=4,
    passes=1,
    batch=4,
    lr=1e-3,
    encoder_lr=1e-4,
    warmup=1,
    mix=(("image", 1.0),),
)


@pytest.fixture(autouse=True)
def small_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny.talking.MEASURED", 6)
    monkeypatch.setattr("tiny.lessons.MEASURED_VIEWS", 6)


def parameters(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("name", MODELS)
def test_an_interrupted_run_ends_where_an_unbroken_one_does(name: str, tmp_path: Path) -> None:
    frozen = replace(TALK, name="frozen", encoder_lr=0.0, rounds=1, batch=2, mix=(("thumb", 1.0),))
    curriculum = (LOOK, frozen, TALK)
    whole = trainer.train(name, tmp_path / "whole", curriculum, seed=3)
    for _ in range(3):
        trainer.train(name, tmp_path / "broken", curriculum, seed=3, stop_after=1)
    broken = trainer.train(name, tmp_path / "broken", curriculum, seed=3)
    assert torch.equal(parameters(whole.model), parameters(broken.model))
    assert whole.step == broken.step == sum(stage.steps for stage in curriculum)
    assert (tmp_path / "broken" / "log.txt").read_text().count("\n") == 4
    with pytest.raises(ValueError, match="was begun with 3"):
        trainer.train(name, tmp_path / "broken", curriculum, seed=4)


@pytest.mark.parametrize("name", CLASSES)
def test_the_export_loads_and_agrees_with_training(name: str, tmp_path: Path) -> None:
    state = trainer.fresh_state(name, seed=1)
    model = state.model.eval()
    export(model, name, tmp_path / "out", provenance(state, name, 1, (LOOK,)))
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) < 12_000_000
    assert json.loads((tmp_path / "out" / "TRAINING.json").read_text())["seed"] == 1
    loaded = CLASSES[name][0].from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert torch.equal(parameters(model), parameters(loaded)) and tokenizer.padding_side == "left"
    content = [{"type": "text", "text": "Where is the red ring?"}, {"type": "image"}]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    piece = make_piece("image", 5, name, worn=False)
    with torch.no_grad():
        visuals = project(model, [piece], encode(model, name, [piece]))
        questions = [("how many rings are there?", "2", 1.0), ("where is the red ring?", "top left", 1.0)]
        logits, targets, _, owners = talk(model, name, visuals, [questions])
        ids = tokenizer(prompt.replace("<image>", "<image>" * len(visuals[0])), return_tensors="pt")[
            "input_ids"
        ]
        expected, first = turn_ids(name, *questions[1][:2])
        head = tokenizer.convert_tokens_to_ids(HEADS[name])
        assert ids[0].tolist() == head + [loaded.config.image_token_id] * len(visuals[0]) + expected[:first]
        ids = torch.cat([ids, torch.tensor([expected[first:]])], dim=1)
        stock = loaded(
            input_ids=ids,
            pixel_values=normalise(piece.views, name)[None],
            image_sizes=torch.tensor([piece.size]),
        ).logits[0, -4:-1]
    torch.testing.assert_close(logits[owners == 1], stock, atol=1e-5, rtol=0)
    assert targets[owners == 1].tolist() == expected[first:]


def test_frames_of_a_clip_agree_with_the_models_own_features() -> None:
    model = trainer.fresh_state("tiny-onevision", seed=1).model.eval()
    piece = make_piece("short", 5, "tiny-onevision", worn=False)
    with torch.no_grad():
        (visual,) = project(model, [piece], encode(model, "tiny-onevision", [piece]))
        own = model.get_video_features(normalise(piece.views, "tiny-onevision")[None]).pooler_output[0]
    torch.testing.assert_close(visual, own, atol=1e-5, rtol=0)


def test_a_decoder_can_be_adopted(tmp_path: Path) -> None:
    donor = trainer.fresh_state("tiny-onevision", seed=1)
    export(donor.model, "tiny-onevision", tmp_path, {})
    state = trainer.fresh_state("tiny-next", seed=2)
    trainer.adopt_decoder(state, tmp_path)
    ids = torch.tensor([[1, 20, 30]])
    theirs = donor.model.eval()(input_ids=ids).logits
    torch.testing.assert_close(state.model.eval()(input_ids=ids).logits, theirs)
    with pytest.raises(ValueError, match="holds no exported model"):
        trainer.adopt_decoder(state, tmp_path / "nowhere")


@pytest.mark.parametrize("name", CLASSES)
def test_views_equal_those_of_the_exported_processor(name: str, tmp_path: Path) -> None:
    state = trainer.fresh_state(name, seed=1)
    export(state.model, name, tmp_path, {})
    processor = CLASSES[name][1].from_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    for height, width in ((224, 224), (150, 201), (97, 330), (400, 300)):
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        theirs = processor([Image.fromarray(picture)], return_tensors="pt")["pixel_values"][0]
        ours = normalise(prepare.any_resolution(picture, name), name)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_plain_products_are_an_attention() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 9, 4, requires_grad=True) for heads in (6, 2, 2))
    mask = torch.zeros(2, 1, 9, 9).masked_fill(torch.ones(9, 9).triu(1).bool(), -1e4)
    for one in (mask, None):
        ours = plain_products(torch.nn.Identity(), query, key, value, one)[0]
        theirs = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=one, enable_gqa=True
        )
        torch.testing.assert_close(ours, theirs.transpose(1, 2))
        upstream = torch.randn_like(ours)
        for a, b in zip(
            torch.autograd.grad(ours, [query, key, value], upstream),
            torch.autograd.grad(theirs, [query, key, value], upstream.transpose(1, 2)),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


def test_labels_say_what_the_views_show() -> None:
    views = labelled_views(5, 40)
    assert views.pixels.shape == (40, 112, 112, 3)
    assert ((views.color > 0) >= (views.shape > 0)).all()
    row, patch = np.nonzero(views.shape > 0)
    assert len(row) > 100
    assert (views.tags[row, views.color[row, patch] - 1] == 1).all()
    assert (views.tags[row, 8 + views.shape[row, patch] - 1] == 1).all()


def test_every_word_is_known() -> None:
    for name in MODELS:
        tokenizer = load_tokenizer(name)
        known = tokenizer.get_vocab()
        assert all(word in known for word in shapes.words())
        assert tokenizer.decode(tokenizer("Top LEFT")["input_ids"]) == "top left"

"""The training of the model of native resolution, held against the stock model and the stock processor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from tiny import native, prepare, stages, trainer
from tiny.export import export, provenance
from tiny.material import Piece, make_piece
from tiny.sequences import talk, turn_ids
from tiny.talking import encode, project, timestamps
from tiny.views import crowded_views, labelled_views
from tiny.words import load_tokenizer

NAME = "tiny-qwen"


@pytest.fixture(scope="module")
def model() -> Any:
    made = trainer.fresh_state(NAME, seed=1).model.eval()
    made.set_attn_implementation("sdpa")  # the attention of training takes whole masks only
    with torch.no_grad():
        for weight in made.parameters():  # larger than they come, so that a mistake shows
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    return made


def pixels_of(piece: Piece) -> tuple[torch.Tensor, list[int]]:
    frames = piece.views
    if piece.layout == "video":
        frames = frames.reshape(-1, 2, *frames.shape[1:])
    values = torch.as_tensor(native.patches(frames))
    return values.flatten(0, 1), [len(values), frames.shape[-3] // 14, frames.shape[-2] // 14]


def stock_inputs(piece: Piece, question: str, answer: str) -> tuple[dict[str, Any], int]:
    """Inputs of the stock model, written as its processor writes them, and where the answer begins."""
    pixels, grid = pixels_of(piece)
    clip = piece.layout == "video"
    pad, per_frame = "<|video_pad|>" if clip else "<|image_pad|>", grid[1] * grid[2] // 4
    runs = [f"<|vision_start|>{pad * per_frame}<|vision_end|>"] * grid[0]
    body = "".join(time + run for time, run in zip(timestamps(piece), runs, strict=True)) if clip else runs[0]
    body = f"<|vision_start|>{body}<|vision_end|>" if clip else body
    tokenizer = load_tokenizer(NAME)
    head = tokenizer(f"<|im_start|>user {body}")["input_ids"]
    turn, first = turn_ids(NAME, question, answer)
    ids = torch.tensor([[*head, *turn]])
    kind = (ids == tokenizer.convert_tokens_to_ids(pad)).long() * (2 if clip else 1)
    keys = ("pixel_values_videos", "video_grid_thw") if clip else ("pixel_values", "image_grid_thw")
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": kind,
        keys[0]: pixels,
        keys[1]: torch.tensor([grid]),
    }, len(head) + first


@pytest.mark.parametrize("material", ["image", "thumb", "frame", "short", "clip"])
def test_training_sees_what_the_stock_model_computes(material: str, model: Any) -> None:
    piece = make_piece(material, 1_000_003, NAME, worn=False)
    turns = [("how many rings are there?", "2", 1.0), ("where is the red ring?", "top left", 1.0)]
    with torch.no_grad():
        states = encode(model, NAME, [piece])
        logits, targets, _, owners = talk(model, NAME, project(model, [piece], states), [turns])
        for number, (question, answer, _weight) in enumerate(turns):
            inputs, first = stock_inputs(piece, question, answer)
            stock = model(**inputs).logits[0, first - 1 : -1]
            ours = logits[owners == number]
            torch.testing.assert_close(ours, stock, atol=2e-5, rtol=0)
            assert targets[owners == number].tolist() == inputs["input_ids"][0, first:].tolist()
            (prompt,) = project(model, [piece], states)
            assert isinstance(prompt, native.Prompt)
            for wrong in ("deep", "positions"):
                changed = native.Prompt(**{**vars(prompt), wrong: _blank(getattr(prompt, wrong))})
                other, *_ = talk(model, NAME, [changed], [[turns[number]]])
                assert (other - stock).abs().max() > 1e-3, wrong


def _blank(value: Any) -> Any:
    if isinstance(value, list):
        return [torch.zeros_like(level) for level in value]
    return torch.arange(value.shape[-1]).expand(3, -1)


def test_stacks_give_the_features_of_the_packed_encoder(model: Any) -> None:
    pieces = [
        make_piece(material, 1_000_000 + i, NAME) for i, material in enumerate(("image", "clip", "image"))
    ]
    with torch.no_grad():
        for piece, states in zip(pieces, encode(model, NAME, pieces), strict=True):
            features, *levels = native.merge(model, list(states.unbind(1)))
            pixels, grid = pixels_of(piece)
            out = model.model.visual(pixels, grid_thw=torch.tensor([grid]))
            torch.testing.assert_close(features.flatten(0, 1), out.pooler_output, atol=1e-5, rtol=0)
            for ours, theirs in zip(levels, out.deepstack_features, strict=True):
                torch.testing.assert_close(ours.flatten(0, 1), theirs, atol=1e-5, rtol=0)


def test_the_export_loads_and_prepares_images_as_training_does(tmp_path: Path) -> None:
    state = trainer.fresh_state(NAME, seed=1)
    stage = stages.CURRICULA[NAME][0]
    export(state.model, NAME, tmp_path, provenance(state, NAME, 1, (stage,)))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 12_000_000
    loaded = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path)
    ours, theirs = state.model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.padding_side == "left"
    assert tokenizer.image_token == "<|image_pad|>" and tokenizer.vision_end_token == "<|vision_end|>"
    processor = Qwen2VLImageProcessorPil.from_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    for height, width in ((224, 224), (150, 201), (97, 330), (60, 40), (900, 700)):
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        batch = processor([Image.fromarray(picture)], return_tensors="pt")
        mine = prepare.native(picture)
        assert [1, mine.shape[1] // 14, mine.shape[2] // 14] == batch["image_grid_thw"][0].tolist()
        torch.testing.assert_close(
            torch.as_tensor(native.patches(mine))[0], batch["pixel_values"], atol=1e-6, rtol=0
        )


def test_a_template_writes_the_prompt_of_training() -> None:
    content = [{"type": "text", "text": "Where is the red ring?"}, {"type": "video"}, {"type": "image"}]
    written = load_tokenizer(NAME).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    assert written == (
        "<|im_start|>user <|vision_start|><|video_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|> "
        "Where is the red ring?<|im_end|><|im_start|>assistant"
    )


def test_times_are_read_digit_by_digit() -> None:
    tokenizer = load_tokenizer(NAME)
    ids = tokenizer("<12.2 seconds><|vision_start|>")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [*"<12.2", "seconds", ">", "<|vision_start|>"]
    assert tokenizer.unk_token_id not in ids


def test_times_are_means_of_the_frames_of_a_patch() -> None:
    piece = make_piece("short", 1_000_007, NAME, worn=False)
    frames = piece.scene.frames  # type: ignore[union-attr]
    assert len(timestamps(piece)) == (frames + 1) // 2
    assert timestamps(piece)[0] == ("<0.2 seconds>" if frames > 1 else "<0.0 seconds>")


def test_pairs_label_what_either_frame_shows() -> None:
    views = labelled_views(5, 60, pairs=True)
    assert views.pixels.shape == (60, 2, 112, 112, 3)
    same = (views.pixels[:, 0] == views.pixels[:, 1]).all(axis=(1, 2, 3))
    assert 0.3 < same.mean() < 0.9
    row, patch = np.nonzero(views.shape > 0)
    assert len(row) > 150 and (views.tags[row, views.color[row, patch] - 1] == 1).all()
    one = crowded_views(5, pairs=True)[0]
    assert one["pixels"].shape == (2, 112, 112, 3)


def test_a_run_ends_when_its_hours_are_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny.lessons.MEASURED_VIEWS", 6)
    stage = stages.Stage("look", "views", rounds=3, pictures=8, passes=1, batch=8, lr=1e-3, encoder_lr=1e-3)
    first = trainer.train(NAME, tmp_path, (stage,), seed=0, hours=1e-9)
    assert len(first.history) == 1 and first.cpu_seconds > 0
    again = trainer.train(NAME, tmp_path, (stage,), seed=0, hours=first.cpu_seconds)
    assert len(again.history) == 3 and again.cpu_seconds > first.cpu_seconds

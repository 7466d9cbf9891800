"""Checkpoints saved in the layout of the LLaVA-NeXT repository: flat config, its tensor names, a bare tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_models import ONE_PINPOINTS, SIDE, VIDEO, Scene, batch, tiny_model
from vidcompress import VisualQA
from vidcompress.adapters.llava_video.original_checkpoints import translate_config
from vidcompress.errors import ArgumentError
from vidcompress.loading.load import load_model
from vidcompress.media import MediaError, VideoFrames, load_processor
from vidcompress.session.compress import compress_inputs

NAMES = {
    "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
    "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
    "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
    "model.language_model.": "model.",
}
# What the published config.json of llava-onevision-qwen2-7b-ov says where a small model need not differ.
FLAT = {
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "llava",
    "image_aspect_ratio": "anyres_max_9",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "image_grid_pinpoints": ONE_PINPOINTS,
    "rope_theta": 1000000.0,
    "tokenizer_model_max_length": 32768,
    "torch_dtype": "float32",
    "use_mm_proj": True,
    "tie_word_embeddings": False,
}
KINDS = {
    "llava_onevision": {"mm_newline_position": "one_token", "mm_spatial_pool_mode": "bilinear"},
    "llava_video": {"mm_newline_position": "grid", "mm_spatial_pool_mode": "average"},
}


def flat_config(family: str) -> dict[str, Any]:
    config = tiny_model(family).config
    text, vision = config.text_config.to_dict(), config.vision_config.to_dict()
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    kept += ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act")
    return FLAT | KINDS[family] | {key: text[key] for key in kept} | {"vision_config": vision}


def save_original(family: str, folder: Path, **changes: Any) -> None:
    """Config, weights and a tokenizer of 90 words, to which the placeholders are still to be added."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    (folder / "config.json").write_text(json.dumps(flat_config(family) | changes))
    tensors = {}
    for name, value in tiny_model(family).state_dict().items():
        for ours, theirs in NAMES.items():
            if name.startswith(ours):
                name = theirs + name.removeprefix(ours)
                break
        tensors[name] = value.clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    words = {f"w{i}": i for i in range(88)} | {"<|im_start|>": 88, "<|im_end|>": 89}
    core = Tokenizer(models.WordLevel(words, unk_token="w1"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="w0", unk_token="w1").save_pretrained(folder)


@pytest.mark.parametrize("model_type", ["llava", "llava_qwen"])
@pytest.mark.parametrize("family", KINDS)
def test_it_is_the_same_model(family: str, model_type: str, tmp_path: Path) -> None:
    save_original(family, tmp_path, model_type=model_type, torch_dtype="bfloat16")
    stock = tiny_model(family)
    assert load_model(tmp_path, device="cpu", dtype="auto").dtype == torch.bfloat16
    model = load_model(tmp_path, device="cpu")
    assert type(model) is type(stock)
    assert model.config.text_config.rope_parameters["rope_theta"] == 1000000.0
    ours, theirs = model.state_dict(), stock.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    inputs = batch(stock, [Scene((("image", (112, 80)), ("video", 3)))])
    with torch.no_grad():
        full = compress_inputs(model, inputs, retention_ratio=1.0)
        assert torch.equal(model(**full).logits, model(**inputs).logits)
    model.save_pretrained(tmp_path / "converted")
    again = load_model(tmp_path / "converted", device="cpu")
    assert all(torch.equal(value, theirs[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize("family", KINDS)
def test_the_processor_adds_the_placeholders_and_their_lines(family: str, tmp_path: Path) -> None:
    save_original(family, tmp_path)
    for source in (tmp_path, load_model(tmp_path, device="cpu")):
        processor = load_processor(source)
        assert (processor.image_token, processor.video_token) == ("<image>", "<video>")
        assert processor.tokenizer.convert_tokens_to_ids(["<image>", "<video>"]) == [90, 91]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "w5 ?"}]}]
        )
        assert prompt == (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<video>\nw5 ?<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        frames = torch.zeros(3, SIDE, SIDE, 3, dtype=torch.uint8)
        inputs = processor(text="<video> w5", videos=frames)
        assert int((inputs["input_ids"] == VIDEO).sum()) == {"llava_onevision": 13, "llava_video": 18}[family]


def test_a_question_about_a_clip_is_answered(tmp_path: Path) -> None:
    save_original("llava_video", tmp_path)
    clip = VideoFrames(torch.zeros(3, 8, 8, 3).byte(), (0.0, 1.0, 2.0), 3.0, 1.0, 3, "memory", "clip")
    qa = VisualQA.from_pretrained(tmp_path, device="cpu")
    answer = qa.ask("w5 w6", video=clip, max_new_tokens=3, suppress_tokens=[90, 91])
    assert answer.report.total == 18 and answer.report.kept == 5
    assert answer.new_tokens >= 1


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshaped"])
def test_a_tensor_too_few_or_too_many_is_refused(change: str, tmp_path: Path) -> None:
    save_original("llava_video", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.mm_projector.2.bias"
    if change == "missing":
        del tensors[name]
    elif change == "unexpected":
        name = "model.mm_projector.4.bias"
        tensors[name] = torch.zeros(2)
    else:
        tensors[name] = torch.zeros(3)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    place = {
        "missing": r"tensors 1 missing \(model.multi_modal_projector.linear_2.bias\);",
        "unexpected": r"tensors 1 unexpected \(model.mm_projector.4.bias\);",
        "misshaped": r"1 of another shape \(model.multi_modal_projector.linear_2.bias \(3,\) instead of \(32,\)\)",
    }
    with pytest.raises(ArgumentError, match=f"does not load: .*{place[change]}"):
        load_model(tmp_path, device="cpu")


def test_an_encoders_unused_head_may_be_there(tmp_path: Path) -> None:
    save_original("llava_video", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.vision_tower.vision_tower.vision_model.head.probe"] = torch.zeros(1, 1, 32)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_model(tmp_path, device="cpu").config.model_type == "llava_video"


REFUSED = [
    (
        {"mm_newline_position": "frame"},
        "mm_newline_position='frame' in config.json: only 'grid', 'one_token'",
    ),
    ({"mm_projector_type": "linear"}, "mm_projector_type='linear'"),
    ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type='flat'"),
    ({"mm_spatial_pool_stride": 4}, "mm_spatial_pool_stride=4"),
    ({"mm_newline_position": "one_token"}, "mm_spatial_pool_mode='average'"),
    ({"vision_config": None, "mm_vision_tower": "x/clip"}, "mm_vision_tower='x/clip'"),
    ({"image_aspect_ratio": "pad"}, "image_aspect_ratio='pad'"),
    ({"image_grid_pinpoints": "wide"}, "image_grid_pinpoints='wide'"),
    ({"vocab_size": 91}, "vocab_size=91 in config.json leaves no room"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_the_classes_cannot_do_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_original("llava_video", tmp_path, **change)
    with pytest.raises(ArgumentError, match=message):
        load_model(tmp_path, device="cpu")
    with pytest.raises(MediaError, match=message):
        load_processor(tmp_path)


def test_the_published_encoder_and_pinpoints_in_words() -> None:
    raw = {key: value for key, value in flat_config("llava_video").items() if key != "vision_config"}
    config = translate_config(raw | {"image_grid_pinpoints": "(1x1),...,(6x6)"}, (90, 91))
    vision = config.vision_config
    assert (vision.image_size, vision.patch_size, vision.num_hidden_layers, vision.hidden_size) == (
        384,
        14,
        26,
        1152,
    )
    assert config.image_grid_pinpoints == [[384 * i, 384 * j] for i in range(1, 7) for j in range(1, 7)]
    assert (config.vision_feature_layer, config.vision_feature_select_strategy) == (-1, "full")

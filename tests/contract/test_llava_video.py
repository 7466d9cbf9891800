"""LLaVA-Video: the model class itself, and what is special to its adapter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from tiny_models import IMAGE, PATCH, VIDEO, Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.llava_video.model import (
    LlavaVideoConfig,
    LlavaVideoForConditionalGeneration,
    LlavaVideoModel,
)
from vidcompress.loading.load import load_model
from vidcompress.session.compress import compress_inputs

ODD = 70  # 5 x 5 patches: 2 x 2 tokens here, 3 x 3 in LLaVA-OneVision
CLIP = [Scene((("video", 5),), seed=4)]


def odd_clips(count: int = 2, frames: int = 5) -> torch.Tensor:
    return torch.randn(count, frames, 3, ODD, ODD, generator=torch.Generator().manual_seed(1))


def odd_inputs() -> dict[str, torch.Tensor]:
    ids = torch.tensor([[5, 6, *[VIDEO] * (5 * 2 * 3), 7, 8]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": odd_clips(1),
    }


def test_frames_are_averaged_and_every_row_ends_with_a_newline() -> None:
    """Against the definition, written out token by token."""
    model = tiny_model("llava_video", side=ODD)
    clips = odd_clips()
    with torch.no_grad():
        features = model.get_video_features(clips).pooler_output
        hidden = model.model.vision_tower(clips.flatten(0, 1), output_hidden_states=True).hidden_states[-1]
        patches = model.model.multi_modal_projector(hidden).view(2, 5, 5, 5, -1)
    expected = []
    for clip in patches:
        tokens = []
        for frame in clip:
            for row in range(2):
                for col in range(2):
                    tokens.append(frame[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].mean((0, 1)))
                tokens.append(model.model.image_newline.detach())
        expected.append(torch.stack(tokens))
    assert features.shape == (2, 5 * 2 * 3, 32)
    assert torch.allclose(features, torch.stack(expected), atol=1e-6)
    newline = (features[0] == model.model.image_newline).all(-1)
    assert newline.nonzero().flatten().tolist() == list(range(2, 30, 3))


def test_published_sizes() -> None:
    """27 x 27 patches become 13 x 13 tokens and 13 newlines: 11,648 positions for 64 frames."""
    model = LlavaVideoModel.__new__(LlavaVideoModel)
    torch.nn.Module.__init__(model)
    model.config = LlavaVideoConfig(text_config={"model_type": "qwen2"})
    assert model.apply_pooling(torch.zeros(2, 729, 3)).shape == (2, 169, 3)

    class Whole:
        config = model.config

    adapter = adapter_for(Whole())
    (clip,) = adapter.clips({"pixel_values_videos": torch.zeros(1, 64, 3, 1, 1)})
    assert len(clip.layout) == 11648 and clip.layout.num_separators == 832


@pytest.mark.parametrize("max_views", [1, 3, 64])
def test_odd_grids_equal_the_models_own_features_to_the_bit(max_views: int) -> None:
    model = tiny_model("llava_video", side=ODD)
    adapter = adapter_for(model)
    _, clips = adapter.visuals({"pixel_values_videos": odd_clips()})
    with torch.no_grad():
        stock = model.get_video_features(odd_clips()).pooler_output
        mine = adapter.encode(clips, max_views=max_views)
    assert torch.equal(torch.stack([t.features for t in mine]), stock)
    assert mine[0].layout.separator_index.tolist() == list(range(2, 30, 3))
    assert mine[0].layout.line[mine[0].layout.separator_index].tolist() == list(range(10))


def test_features_come_as_a_tuple_too() -> None:
    model = tiny_model("llava_video", side=ODD)
    with torch.no_grad():
        outputs = model.get_video_features(odd_clips(), return_dict=False)
        expected = model.get_video_features(odd_clips())
    assert isinstance(outputs, tuple) and torch.equal(outputs[-1], expected.pooler_output)


def test_images_are_those_of_onevision() -> None:
    model, stock = tiny_model("llava_video"), tiny_model("llava_onevision")
    inputs = batch(
        model, [Scene((("image", (112, 80)),)), Scene((("image", (56, 56)), ("image", (40, 100))))]
    )
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, stock(**inputs).logits)


def test_on_the_onevision_class_the_same_weights_are_another_model() -> None:
    model, stock = tiny_model("llava_video", side=ODD), tiny_model("llava_onevision", side=ODD)
    ours, theirs = model.state_dict(), stock.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    with torch.no_grad():
        assert model.get_video_features(odd_clips()).pooler_output.shape == (2, 30, 32)
        assert stock.get_video_features(odd_clips()).pooler_output.shape == (2, 46, 32)
        last = model(**odd_inputs()).logits[0, -1]
        ids = torch.tensor([[5, 6, *[VIDEO] * 46, 7, 8]])
        other = stock(input_ids=ids, pixel_values_videos=odd_clips(1)).logits[0, -1]
    assert (last - other).abs().max() > 0.1


@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_vidcom2_sends_the_newlines_of_a_frame_after_its_tokens(ratio: float) -> None:
    """The authors' order on this layout: newlines are never dropped, and follow each frame's kept tokens."""
    model = tiny_model("llava_video")
    inputs = batch(model, CLIP)
    sent = compress_inputs(model, inputs, "vidcom2", retention_ratio=ratio, policy="reference")
    positions = sent.report.visuals[0].kept_positions.tolist()
    order = []
    for frame in range(5):
        mine = [p for p in positions if p // 6 == frame]
        tokens = [p for p in mine if p % 3 != 2]
        assert tokens and tokens == sorted(tokens)
        order += [*tokens, 6 * frame + 2, 6 * frame + 5]
    assert positions == order
    with torch.no_grad():
        features = model.get_video_features(inputs["pixel_values_videos"]).pooler_output[0]
    assert torch.equal(sent["mm_encoder_outputs"]["image"].pooler_output[0], features[positions])


def test_save_and_load_through_every_door(tmp_path: Path) -> None:
    model = tiny_model("llava_video", side=ODD)
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is LlavaVideoConfig and config.model_type == "llava_video"
    inputs = odd_inputs()
    with torch.no_grad():
        expected = model(**inputs).logits
        for load in (
            LlavaVideoForConditionalGeneration.from_pretrained,
            AutoModelForImageTextToText.from_pretrained,
            load_model,
        ):
            again = load(tmp_path)
            assert type(again) is LlavaVideoForConditionalGeneration and type(again.model) is LlavaVideoModel
            assert torch.equal(again.eval()(**inputs).logits, expected)
        body = AutoModel.from_pretrained(tmp_path)
        assert type(body) is LlavaVideoModel
        assert torch.equal(body.eval()(**inputs).last_hidden_state, model.model(**inputs).last_hidden_state)
        full = compress_inputs(again, inputs, retention_ratio=1.0)
        assert torch.equal(again(**full).logits, expected)


def test_a_process_that_only_asks_vidcompress_to_load_can(tmp_path: Path) -> None:
    """Nothing has imported the adapters there."""
    tiny_model("llava_video").save_pretrained(tmp_path)
    code = (
        "import sys; from vidcompress.loading.load import load_model; "
        "print(type(load_model(sys.argv[1])).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "LlavaVideoForConditionalGeneration", done.stderr


def test_checkpoints_in_the_older_naming_load_whole(tmp_path: Path) -> None:
    """As converted before transformers put everything under `model`; it reads these for OneVision, and so do we."""
    model = tiny_model("llava_video", side=ODD)
    older = {}
    for name, value in model.state_dict().items():
        name = name.replace("lm_head.", "language_model.lm_head.")
        name = name.replace("model.language_model.", "language_model.model.")
        name = name.replace("vision_tower.", "vision_tower.vision_model.")
        older[name.removeprefix("model.")] = value.clone()
    model.config.save_pretrained(tmp_path)
    save_file(older, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again, report = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


def test_generation_at_full_retention_is_the_models_own() -> None:
    model = tiny_model("llava_video", side=ODD)
    inputs = odd_inputs()
    expected = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    full = compress_inputs(model, inputs, retention_ratio=1.0)
    out = model.generate(**full, max_new_tokens=6, do_sample=False)
    assert torch.equal(out[:, full["input_ids"].shape[1] :], expected[:, inputs["input_ids"].shape[1] :])
    assert int((full["input_ids"] == IMAGE).sum()) == 5 * (ODD // PATCH // 2) * (ODD // PATCH // 2 + 1)

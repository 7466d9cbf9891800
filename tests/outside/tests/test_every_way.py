"""The installed package through every way in; it is found by its entry points, nothing here imports it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig, VipLlavaConfig, VipLlavaForConditionalGeneration

import vidcompress
from vidcompress.cli import main

WORDS = ["<pad>", "<unk>", "<s>", "</s>", "<image>", "what", "is", "this", "a", "blue", "square", "?"]
SIDE = 56
RECIPE = {
    "image_processor_type": "CLIPImageProcessor",
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "size": {"shortest_edge": SIDE},
}
TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% elif c['type'] == 'image' %}<image>\n{% endif %}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VipLLaVA checkpoint in the layout of the converted ones, small and with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("vipllava")
    torch.manual_seed(0)
    size = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4)
    config = VipLlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=SIDE, patch_size=14),
        text_config=LlamaConfig(
            **size, vocab_size=len(WORDS), bos_token_id=2, eos_token_id=3, pad_token_id=0
        ),
        image_token_index=WORDS.index("<image>"),
        vision_feature_layer=[-2, 1],
    )
    model = VipLlavaForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5.0 if weight.ndim > 1 else 1.0)
    model.generation_config.suppress_tokens = [0, 1, 2, 3, 4]
    model.save_pretrained(folder)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(RECIPE))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that is wider than high, so that its sides are cut off."""
    path = tmp_path_factory.mktemp("media") / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (10, 15, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(pixels).save(path)
    return path


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0), *capsys.readouterr()


def test_it_is_found_by_its_entry_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert "edges" in vidcompress.available_methods()
    methods = json.loads(command(capsys, "methods", "--json")[1])
    edges = next(entry for entry in methods["methods"] if entry["name"] == "edges")
    assert edges["package"] == "acme-compress 1.0"
    assert edges["summary"] == "Tokens unlike their left neighbour, where something begins or ends."
    assert edges["options"] == {"order": 2.0}
    assert edges["card_problem"] is None
    assert methods["broken"] == []
    models = json.loads(command(capsys, "models", "--json")[1])
    assert {
        "model_type": "vipllava",
        "adapter": "VipLlavaAdapter",
        "modalities": ["image"],
        "package": "acme-compress 1.0",
    } in models["families"]
    assert models["broken"] == []
    assert "acme-compress 1.0" in command(capsys, "models")[1]
    assert "acme_compress" in sys.modules


def test_its_card_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "distance of its feature" in command(capsys, "methods", "edges")[1]
    card = json.loads(command(capsys, "methods", "edges", "--json")[1])["card"]
    assert card["name"] == "edges"
    assert card["defaults"] == {"order": 2.0}


def test_its_options_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        vidcompress.ArgumentError, match="no option 'ordr'; known: order; did you mean 'order'"
    ):
        vidcompress.get_method("edges", ordr=1.0)
    with pytest.raises(vidcompress.ArgumentError, match="order must be a number, got 'x'"):
        vidcompress.get_method("edges", order="x")
    ask = ("ask", "--question", "what?", "--method", "edges", "--option", "ordr=1")
    assert "did you mean 'order'" in command(capsys, *ask)[2]


def test_pixels_and_prompt_are_those_of_transformers(checkpoint: Path, picture: Path) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessor, LlavaProcessor

    stock = LlavaProcessor(
        CLIPImageProcessor(**{key: value for key, value in RECIPE.items() if key != "image_processor_type"}),
        AutoTokenizer.from_pretrained(checkpoint),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    ours = vidcompress.load_processor(checkpoint)
    prompt = "<image> what is this ?"
    mine = ours(text=[prompt, prompt], images=[picture, picture])
    theirs = stock(text=[prompt, prompt], images=[Image.open(picture)] * 2, return_tensors="pt")
    assert set(mine) == {"input_ids", "attention_mask", "pixel_values"}
    assert torch.equal(mine["input_ids"], theirs["input_ids"])
    assert mine["pixel_values"].shape == theirs["pixel_values"].shape == (2, 3, SIDE, SIDE)
    # Pillow and torch round their resized pixels differently by up to two of 255 levels.
    assert (mine["pixel_values"] - theirs["pixel_values"]).abs().max() < 2.5 / 255 / 0.26


def test_padding_to_a_square_is_read_from_the_file(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(RECIPE | {"do_pad": True}))
    pixels = vidcompress.load_processor(tmp_path)(text="<image>", images=[picture])["pixel_values"]
    cut = vidcompress.load_processor(checkpoint)(text="<image>", images=[picture])["pixel_values"]
    assert pixels.shape == cut.shape
    band = pixels[0, :, : SIDE // 8]  # 40 of 120 rows are padding
    assert torch.allclose(band, band[:, :1, :1].expand_as(band), atol=1e-6)
    assert not torch.allclose(cut[0, :, : SIDE // 8], band, atol=0.1)


@pytest.mark.parametrize("method", ["edges", "globalcom2", "pool"])
def test_every_way_in_gives_the_same_answer(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, picture: Path, method: str
) -> None:
    qa = vidcompress.VisualQA.from_pretrained(checkpoint, method=method, max_tokens=7, device="cpu")
    asked = qa.ask("what is this ?", image=picture, max_new_tokens=6)
    assert asked.text
    assert asked.report.total == 16
    assert asked.report.kept == (7 if method != "pool" else 6)
    assert asked.media[0].size == (80, 80), "of 120 x 80 pixels the sides are cut off"
    assert asked.overlay().size[0] > 100
    batch = qa.ask_batch([{"question": "what is this ?", "image": picture}] * 3, max_new_tokens=6)
    assert [answer.text for answer in batch] == [asked.text] * 3

    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this ?"}]}
    inputs = qa.processor(text=qa.processor.apply_chat_template([message]), images=[picture])
    shorter = vidcompress.compress_inputs(qa.model, inputs, method, max_tokens=7)
    out = qa.model.generate(**shorter, max_new_tokens=6, do_sample=False)
    plain = qa.processor.batch_decode(out[:, shorter["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    with vidcompress.compress(qa.model, method, max_tokens=7):
        out = qa.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    block = qa.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    words = ["ask", "--model", str(checkpoint), "--image", str(picture), "--question", "what is this ?"]
    words += ["--method", method, "--max-tokens", "7", "--max-new-tokens", "6", "--device", "cpu", "--json"]
    code, printed, _ = command(capsys, *words)
    assert code == 0
    assert [plain.strip(), block.strip(), json.loads(printed)["answer"]] == [asked.text] * 3


def test_the_method_runs_on_models_of_vidcompress() -> None:
    qa = vidcompress.VisualQA.from_pretrained(method="edges", retention_ratio=0.25, device="cpu")
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    report = qa.ask("which shape appears first?", video=frames).report
    assert report.kept == report.visuals[0].budget < report.total


def test_a_clip_is_refused(checkpoint: Path) -> None:
    qa = vidcompress.VisualQA.from_pretrained(checkpoint, device="cpu")
    with pytest.raises(vidcompress.VidcompressError, match="videos: 1 given, but this model takes none"):
        qa.ask("what is this ?", video=np.zeros((2, SIDE, SIDE, 3), dtype=np.uint8))


@pytest.mark.parametrize("encoder", ["siglip_vision_model", "pixtral"])
def test_towers_that_are_not_served_are_named(encoder: str) -> None:
    class Stranger:
        class config:
            model_type = "vipllava"

            class vision_config:
                model_type = encoder

    with pytest.raises(vidcompress.UnsupportedModelError, match=f"vision tower '{encoder}'"):
        vidcompress.compress_inputs(Stranger(), {}, retention_ratio=0.5)

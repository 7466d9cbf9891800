"""A checkpoint of a class without an adapter and without a processor here: loaded, asked, examined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlavaProcessor, VipLlavaConfig, VipLlavaForConditionalGeneration
from typer.testing import CliRunner

import vidcompress
from classes.shrink import shrink
from vidcompress.cli import app
from vidcompress.errors import MediaError, UnsupportedModelError
from vidcompress.media import load_image

ROOT = Path(__file__).parents[2]
QUESTION = "what shape is the red object?"
SCENE = ROOT / "examples" / "scene.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pil = pytest.importorskip(
        "transformers.models.clip.image_processing_pil_clip",
        reason="before 5.20 PIL processors have other names",
    )
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "tiny-next")
    config = shrink(VipLlavaConfig(), {"vision_feature_layers": [-2, -1]})
    config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    for name in ("pad", "bos", "eos"):
        setattr(config.text_config, f"{name}_token_id", getattr(tokenizer, f"{name}_token_id"))
    config.text_config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = VipLlavaForConditionalGeneration(config)
    side = config.vision_config.image_size
    images = pil.CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    place = tmp_path_factory.mktemp("vip")
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place


def answer(qa: vidcompress.VisualQA, **changes: Any) -> vidcompress.Answer:
    return qa.ask(QUESTION, image=SCENE, max_new_tokens=6, **changes)


def test_it_is_loaded_and_asked(folder: Path) -> None:
    qa = vidcompress.VisualQA.from_pretrained(folder, method="divprune", retention_ratio=0.25)
    got = answer(qa)
    assert (got.report.kept, got.report.total) == (16, 64)
    assert got.timing_ms["encode"] > 0
    whole = answer(qa.using(method="none", retention_ratio=1.0))
    assert whole.report.kept == 64
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    text = qa.processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = qa.processor([text], images=[[load_image(SCENE)]])
    stock = qa.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    answered = stock[:, inputs["input_ids"].shape[1] :]
    assert qa.processor.batch_decode(answered, skip_special_tokens=True) == [whole.text]


def test_comparisons_run_and_say_what_is_refused(folder: Path) -> None:
    qa = vidcompress.VisualQA.from_pretrained(folder)
    rows = qa.compare("what?", image=SCENE, methods=["divprune", "random"], retention_ratios=[0.25]).rows
    assert [(row.label, row.kept) for row in rows] == [
        ("none", 64),
        ("divprune", 16),
        ("random", 16),
        ("uniform", 16),
    ]
    with pytest.raises(UnsupportedModelError, match="does not act inside the language model"):
        qa.compare("what?", image=SCENE, methods=["fastv"], retention_ratios=[0.75])


def test_doctor_says_which_adapter_and_processor_it_has(folder: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--model", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert "no adapter of its own: the generic adapter serves images" in checks["config"]["detail"]
    assert "LlavaProcessor of transformers" in checks["processor"]["detail"]


def test_a_preset_and_a_broken_processor_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="model_type='vipllava' has no processor here|has no presets"):
        vidcompress.VisualQA.from_pretrained(folder, preset="2880")
    for path in folder.iterdir():
        if not path.name.startswith(("processor", "tokenizer", "chat")):
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(MediaError, match="'vipllava' has no processor here, and transformers makes none of"):
        vidcompress.VisualQA.from_pretrained(tmp_path)


def test_a_class_that_takes_no_encoder_outputs_is_refused_before_its_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mllama"}))
    with pytest.raises(UnsupportedModelError, match="of type 'mllama', which no adapter serves"):
        vidcompress.VisualQA.from_pretrained(tmp_path)

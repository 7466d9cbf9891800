"""Questions to small GLM models in folders: pictures, clips, chats, and the stock processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import glm_folder
import processor_cases as cases
import vidcompress
from glm_models import CLASSES, FAMILIES
from vidcompress.media.preprocessing.forms.native_processor import NativeProcessor
from vidcompress.media.preprocessing.protocol import AdoptedProcessor

PICTURE = Image.fromarray(cases.picture(1, 120, 170))
WIDE = Image.fromarray(cases.picture(2, 60, 300))
SMALL = {"size": {"shortest_edge": 28 * 28 * 8, "longest_edge": 28 * 28 * 40}}


def small_folder(path: Path, family: str) -> Path:
    tokenizer = glm_folder.glm_tokenizer()
    size = dict(hidden_size=32, intermediate_size=64)
    text = dict(
        **size,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
    )
    marks = {"image": "<|image|>", "video": "<|video|>", "video_start": "<|begin_of_video|>"}
    marks |= {
        "video_end": "<|end_of_video|>",
        "image_start": "<|begin_of_image|>",
        "image_end": "<|end_of_image|>",
    }
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()}
    vision = dict(**size, depth=2, num_heads=2, image_size=56, patch_size=14, out_hidden_size=32)
    config_class, model_class = CLASSES[family]
    torch.manual_seed(0)
    model = model_class(config_class(vision_config=vision, text_config=text, **ids)).eval()
    with torch.no_grad():
        for weight in model.parameters():  # larger than they come, so that answers depend on the pixels
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    model.generation_config.suppress_tokens = sorted(ids.values())
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / "chat_template.jinja").write_text(glm_folder.TEMPLATE)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (path / name).write_text(json.dumps(SMALL))
    return path


@pytest.fixture(scope="module", params=FAMILIES)
def qa(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> vidcompress.VisualQA:
    folder = small_folder(tmp_path_factory.mktemp(request.param), request.param)
    return vidcompress.VisualQA.from_pretrained(folder, retention_ratio=0.5, device="cpu")


def test_pictures_and_clips_are_answered(qa: vidcompress.VisualQA) -> None:
    assert type(qa.processor) is NativeProcessor
    asked = qa.ask("what is it?", images=[PICTURE, WIDE], max_new_tokens=6)
    assert [visual.modality for visual in asked.report.visuals] == ["image"] * 2
    assert "".join(qa.stream("what is it?", images=[PICTURE, WIDE], max_new_tokens=6)).strip() == asked.text
    clip = qa.ask("what moves?", video=cases.clip(5), max_new_tokens=3)
    (visual,) = clip.report.visuals
    assert visual.modality == "video" and [view.time for view in visual.views] == [0.5, 2.5, 4.0]
    assert visual.kept == (visual.total + 1) // 2 and clip.overlay().size
    dropped = qa.using(method="frames", view_text="drop").ask(
        "what moves?", video=cases.clip(6), max_new_tokens=3
    )
    assert dropped.report.view_text_dropped > 0
    with pytest.raises(vidcompress.UnsupportedInputError, match="in one batch"):
        qa.ask("which?", image=PICTURE, video=cases.clip(3), max_new_tokens=2)


@pytest.mark.parametrize("media", [{"images": [PICTURE]}, {"video": cases.clip(5)}], ids=["picture", "clip"])
def test_a_chat_goes_on_as_if_it_had_begun_anew(qa: vidcompress.VisualQA, media: dict[str, Any]) -> None:
    chat = qa.chat(**media, history=False)
    for question in ("what is it?", "and what else?"):
        alone = qa.ask(question, **media, max_new_tokens=5)
        assert chat.ask(question, max_new_tokens=5).text == alone.text


def test_a_stock_processor_serves_too(qa: vidcompress.VisualQA) -> None:
    stock = glm_folder.stock(qa.model.config.model_type, **SMALL)
    stock.chat_template = glm_folder.TEMPLATE
    theirs = vidcompress.VisualQA(qa.model, stock, retention_ratio=0.5)
    assert isinstance(theirs.processor, AdoptedProcessor)
    assert theirs.processor.frame_rule == qa.processor.frame_rule
    asked = [one.ask("what is it?", images=[PICTURE, WIDE], max_new_tokens=3) for one in (qa, theirs)]
    assert asked[0].report.total == asked[1].report.total

"""Questions to small GLM models in folders: pictures, clips, chats, and the stock processor."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

import glm_folder
import processor_cases as cases
import vidcompress
from glm_folder import SMALL, save_glm
from glm_models import FAMILIES
from vidcompress.media.preprocessing.forms.native_processor import NativeProcessor
from vidcompress.media.preprocessing.protocol import AdoptedProcessor

PICTURE = Image.fromarray(cases.picture(1, 120, 170))
WIDE = Image.fromarray(cases.picture(2, 60, 300))


@pytest.fixture(scope="module", params=FAMILIES)
def qa(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> vidcompress.VisualQA:
    folder = save_glm(tmp_path_factory.mktemp(request.param), request.param)
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

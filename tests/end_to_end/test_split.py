"""Questions to a small SmolVLM in a folder: pictures with crops, clips, chats, and the stock processor."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import split_folder
import vidcompress
from vidcompress.media.preprocessing.forms.split_processor import SplitProcessor
from vidcompress.media.preprocessing.protocol import AdoptedProcessor, MediaProcessor
from vidcompress.tools.doctor.inputs import describe_clip, describe_images

PICTURE = Image.fromarray(split_folder.picture(50, 90))
SMALL = Image.fromarray(split_folder.picture(20, 20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return split_folder.save_smolvlm(tmp_path_factory.mktemp("smolvlm"))


@pytest.fixture(scope="module")
def qa(folder: Path) -> vidcompress.VisualQA:
    return vidcompress.VisualQA.from_pretrained(folder, retention_ratio=0.5, device="cpu")


def frames(count: int = 4) -> Any:
    return np.stack([split_folder.picture(30, 40 + n)[:, :40] for n in range(count)])


def test_pictures_and_clips_are_answered(qa: vidcompress.VisualQA) -> None:
    assert type(qa.processor) is SplitProcessor and isinstance(qa.processor, MediaProcessor)
    asked = qa.ask("what is it?", image=PICTURE, max_new_tokens=6)
    (visual,) = asked.report.visuals
    assert [view.kind for view in visual.views] == ["crop"] * 6 + ["thumbnail"] and visual.total == 7 * 9
    assert "".join(qa.stream("what is it?", image=PICTURE, max_new_tokens=6)).strip() == asked.text
    clip = qa.ask("what moves?", video=frames(), max_new_tokens=3)
    assert [view.time for view in clip.report.visuals[0].views] == [0.0, 1.0, 2.0, 3.0]
    assert clip.report.visuals[0].modality == "video" and clip.overlay().size
    both = qa.ask("which?", images=[PICTURE, SMALL], video=frames(2), max_new_tokens=3)
    assert sorted((v.modality, v.total) for v in both.report.visuals) == [
        ("image", 63),
        ("image", 90),
        ("video", 18),
    ]
    batch = qa.ask_batch(
        [{"question": "what is it?", "image": PICTURE}, {"question": "and?", "video": frames()}]
    )
    assert [answer.report.total for answer in batch] == [63, 36]
    other = qa.ask("what is it?", image=Image.fromarray(split_folder.picture(50, 91)), max_new_tokens=12)
    assert other.text != qa.ask("what is it?", image=PICTURE, max_new_tokens=12).text


@pytest.mark.parametrize("media", [{"images": [PICTURE]}, {"video": frames()}], ids=["picture", "clip"])
def test_a_chat_goes_on_as_if_it_had_begun_anew(qa: vidcompress.VisualQA, media: dict[str, Any]) -> None:
    chat = qa.chat(**media, history=False)
    first = chat.ask("what is it?", max_new_tokens=5)
    assert first.text == qa.ask("what is it?", **media, max_new_tokens=5).text
    assert (
        chat.ask("and what else?", max_new_tokens=5).text
        == qa.ask("and what else?", **media, max_new_tokens=5).text
    )


def test_a_stock_processor_serves_too(qa: vidcompress.VisualQA) -> None:
    stock = split_folder.stock("smolvlm", size={"longest_edge": 72})
    stock.chat_template = split_folder.TEMPLATE
    stock.video_processor = SimpleNamespace(num_frames=64, fps=1)  # which its template's writer asks for
    theirs = vidcompress.VisualQA(qa.model, stock, retention_ratio=0.5)
    assert isinstance(theirs.processor, AdoptedProcessor)
    asked = [one.ask("what is it?", images=[PICTURE, SMALL], max_new_tokens=6) for one in (qa, theirs)]
    assert asked[0].text == asked[1].text and asked[0].report.total == asked[1].report.total
    assert theirs.processor.frame_rule == qa.processor.frame_rule


def test_the_doctor_counts_its_tokens(qa: vidcompress.VisualQA) -> None:
    first, second = describe_images(qa.model, qa.processor, [PICTURE, SMALL])
    assert first["placeholders"] == 63 and second["placeholders"] == 90 and len(first["views"]) == 7
    assert describe_clip(qa.model, qa.processor, 3, (30, 40))["placeholders"] == 27

"""VisualQA on the embedded models: real files in, answers out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vidcompress
from vidcompress.core.method import METHODS
from vidcompress.media import MediaError

PHASES = ["decode", "preprocess", "encode", "compress", "prefill", "generate", "total"]
QUESTION = "how many objects are there?"


def test_image(qa: vidcompress.VisualQA, image: Path) -> None:
    answer = qa.ask(QUESTION, image=image)
    assert answer.text
    assert str(answer) == answer.text
    assert answer.report.kept == answer.report.budget == round(answer.report.total / 4)
    assert {view.kind for view in answer.report.visuals[0].views} == {"thumbnail", "crop"}


def test_the_overlay_is_drawn_over_what_the_encoder_saw(qa: vidcompress.VisualQA) -> None:
    wide = Image.new("RGB", (60, 40), (255, 0, 0))
    (picture,) = qa.ask(QUESTION, image=wide, max_new_tokens=2).media
    assert picture.size == (60, 40)
    both = qa.ask(QUESTION, images=[wide, wide.rotate(90, expand=True)], max_new_tokens=2)
    for seen, band in zip(
        both.media, ((30, 5), (5, 30)), strict=True
    ):  # each is one view, padded to a square
        assert seen.size == (60, 60)
        assert seen.getpixel((30, 30)) == (255, 0, 0)
        assert seen.getpixel(band) == tuple(int(255 * m) for m in qa.processor.image_recipe.mean)
    assert both.overlay(1).size[0] > 100


def test_video_report_knows_the_times(qa: vidcompress.VisualQA, clip: Path) -> None:
    answer = qa.ask(QUESTION, video=clip, max_new_tokens=4)
    views = answer.report.visuals[0].views
    times = [view.time for view in views]
    assert times[0] == 0.0
    assert times == sorted(times)
    assert len(set(times)) == len(views)
    assert answer.report.kept == answer.report.budget


def test_timing_parts_sum_to_the_total(qa: vidcompress.VisualQA, image: Path) -> None:
    answer = qa.ask(QUESTION, image=image)
    assert list(answer.timing_ms) == PHASES
    assert sum(answer.timing_ms[phase] for phase in PHASES[:-1]) == pytest.approx(answer.timing_ms["total"])
    assert min(answer.timing_ms.values()) >= 0
    for phase in ("decode", "preprocess", "encode", "prefill"):
        assert answer.timing_ms[phase] > 0
    entry = json.loads(json.dumps(answer.to_dict()))["timing_ms"]
    assert sum(entry[phase] for phase in PHASES[:-1]) == pytest.approx(entry["total"], abs=1e-6)


def test_batch_gives_the_answers_of_single_questions(
    qa: vidcompress.VisualQA, image: Path, clip: Path
) -> None:
    picture = Image.open(image).convert("RGB")
    items = [
        {"question": QUESTION, "image": image},
        {"question": "what digit is shown?", "video": clip},
        {"question": "is there a red circle?"},
        {"question": QUESTION, "images": [picture, np.asarray(picture)]},
        {"question": "which shape appears first?", "video": clip, "image": picture.resize((150, 90))},
    ]
    together = qa.ask_batch(items, batch_size=5, max_new_tokens=6)
    alone = [qa.ask(**item, max_new_tokens=6) for item in items]  # type: ignore[arg-type]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [answer.report.kept for answer in together] == [answer.report.kept for answer in alone]
    assert [len(answer.media) for answer in together] == [1, 1, 0, 2, 2]
    assert [visual.modality for visual in together[4].report.visuals] == ["image", "video"]
    in_pairs = qa.ask_batch(items, batch_size=2, max_new_tokens=6)
    assert [answer.text for answer in in_pairs] == [answer.text for answer in alone]
    assert [answer.batch_size for answer in in_pairs] == [2, 2, 2, 2, 1]


def test_text_only(qa: vidcompress.VisualQA) -> None:
    answer = qa.ask(QUESTION, max_new_tokens=3)
    assert answer.report.visual_tokens() == {"total": 0, "budget": 0, "kept": 0, "per_view": []}
    with pytest.raises(vidcompress.ArgumentError, match="index=0: the question had no image and no video"):
        answer.overlay()


def test_all_tokens_give_the_stock_answer(qa: vidcompress.VisualQA, image: Path) -> None:
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    prompt = qa.processor.apply_chat_template([{"role": "user", "content": content}])
    inputs = qa.processor(text=[prompt], images=[[image]])
    out = qa.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    stock = qa.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[
        0
    ].strip()
    assert qa.using(retention_ratio=1.0).ask(QUESTION, image=image, max_new_tokens=8).text == stock
    assert qa.using(method="none").ask(QUESTION, image=image, max_new_tokens=8).text == stock


@pytest.mark.parametrize(
    "method", [m for m in vidcompress.available_methods() if "video" in METHODS.get(m).modalities]
)
def test_every_method_answers_about_a_clip(qa: vidcompress.VisualQA, clip: Path, method: str) -> None:
    share = 0.5 if METHODS.get(method).where == "inside" else 0.25  # one of four layers takes in everything
    answer = qa.using(method=method, retention_ratio=share).ask(QUESTION, video=clip, max_new_tokens=3)
    assert answer.report.kept <= answer.report.total
    assert answer.overlay().width > 300


def test_max_tokens_holds_per_question(qa: vidcompress.VisualQA, image: Path) -> None:
    answer = qa.using(max_tokens=30).ask(QUESTION, images=[image, image], max_new_tokens=3)
    assert answer.report.kept == 30


def test_beams_and_sampling_pass_through(qa: vidcompress.VisualQA, image: Path) -> None:
    items = [{"question": QUESTION, "image": image}, {"question": QUESTION}]
    greedy = qa.ask_batch(items, max_new_tokens=4)
    assert len(greedy) == 2
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "num_beams": 3, "num_return_sequences": 3}
    beams = qa.ask_batch(items, **options)  # type: ignore[arg-type]
    alone = [qa.ask(**item, **options).text for item in items]  # type: ignore[arg-type]
    assert [answer.text for answer in beams] == alone, "the best sequence of each question"
    assert alone[0] != alone[1]


def test_overlay_of_the_right_visual(qa: vidcompress.VisualQA, image: Path, clip: Path) -> None:
    answer = qa.ask(QUESTION, image=image, video=clip, max_new_tokens=2)
    assert answer.overlay(0).size != answer.overlay(1).size


def test_bfloat16_and_eager(image: Path) -> None:
    qa = vidcompress.VisualQA.from_pretrained(
        "tiny-onevision", dtype="bfloat16", attn_implementation="eager", device="cpu"
    )
    assert qa.model.dtype == torch.bfloat16
    assert qa.ask(QUESTION, image=image, max_new_tokens=3).report.kept > 0


def test_tiny_next_answers_about_images_and_refuses_clips(image: Path, clip: Path) -> None:
    qa = vidcompress.VisualQA.from_pretrained("tiny-next", device="cpu")
    assert qa.ask(QUESTION, image=image).report.kept > 0
    with pytest.raises((MediaError, vidcompress.UnsupportedInputError), match="video|clips"):
        qa.ask(QUESTION, video=clip)


def test_model_is_left_as_it_was(qa: vidcompress.VisualQA, image: Path) -> None:
    qa.ask(QUESTION, image=image, max_new_tokens=2)
    before = set(vars(qa.model))
    qa.ask(QUESTION, image=image, max_new_tokens=2)
    assert set(vars(qa.model)) == before
    assert "generate" not in vars(qa.model)


def test_unreadable_media_leave_one_clear_error(qa: vidcompress.VisualQA, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        qa.ask(QUESTION, image=tmp_path / "missing.png")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(MediaError, match=r"text\.mp4"):
        qa.ask(QUESTION, video=tmp_path / "text.mp4")

"""The preset in the processor, in questions and in the doctor: the same pixels and counts as transformers' own code."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaNextImageProcessorPil

import vidcompress
from vidcompress.adapters.family.geometry import Geometry, next_preset_layout
from vidcompress.adapters.presets import TOKENS_2880, Preset
from vidcompress.errors import ArgumentError
from vidcompress.loading.resources import embedded_models
from vidcompress.media import load_processor
from vidcompress.tools.doctor import run
from vidcompress.tools.doctor.checkpoint import inspect

NEXT = embedded_models()["tiny-next"]
VIEW = 8 * 8


@pytest.fixture(scope="module")
def qa() -> vidcompress.VisualQA:
    return vidcompress.VisualQA.from_pretrained("tiny-next", preset="2880", local_files_only=True)


def picture(height: int, width: int) -> Image.Image:
    levels = np.random.default_rng(height + width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(levels)


@pytest.mark.parametrize(("height", "width"), [(60, 200), (200, 50), (224, 224), (301, 300)])
def test_pixels_are_those_of_transformers_with_one_canvas(height: int, width: int) -> None:
    processor = load_processor(NEXT, preset="2880", local_files_only=True)
    assert {processor.image_tokens(size) for size in ((1, 4000), (4000, 1), (7, 7))} == {5 * VIEW}
    seen = picture(height, width)
    made, lengths = processor.prepare_images([seen])
    assert lengths == [5 * VIEW] == [processor.image_tokens((height, width))]
    assert made["preset"] == "2880"
    theirs = LlavaNextImageProcessorPil(
        image_grid_pinpoints=[[224, 224]],
        size={"shortest_edge": 112},
        crop_size=112,
        image_mean=processor.image_recipe.mean,
        image_std=processor.image_recipe.std,
    )(seen, return_tensors="pt")
    assert theirs["pixel_values"].shape == made["pixel_values"].shape == (1, 5, 3, 112, 112)
    assert torch.equal(theirs["image_sizes"], made["image_sizes"])
    differences = (theirs["pixel_values"] - made["pixel_values"]).abs()
    assert (differences > 0.05).float().mean() < 1e-2, "all but a few within three grey levels of 255"


def test_five_views_of_576_are_2880() -> None:
    geometry = Geometry("clip_vision_model", 336, 14, ((672, 672),), "", 3, None)
    for size in ((480, 640), (1, 4000)):
        assert len(next_preset_layout(geometry, TOKENS_2880, size)) == 2880
    assert TOKENS_2880.canvas(336) == (672, 672)
    with pytest.raises(ArgumentError, match=r"crops=\(2, 0\): must be \(rows, cols\), whole numbers"):
        Preset("none", (2, 0))
    with pytest.raises(ArgumentError, match="name='': must be a text"):
        Preset("", (2, 2))


def test_questions_and_conversations_run_under_it(qa: vidcompress.VisualQA) -> None:
    wide, tall = picture(30, 200), picture(300, 40)
    for method in ("globalcom2", "hired", "pool", "fastv"):
        options = {"schedule": "fit"} if method == "fastv" else {}
        sibling = qa.using(method=method, retention_ratio=0.5, **options)
        first, second = sibling.ask_batch(
            [{"question": "what digit is shown?", "image": p} for p in (wide, tall)], max_new_tokens=2
        )
        assert first.report.total == second.report.total == 5 * VIEW
        assert 0 < first.report.kept <= 5 * VIEW // (1 if method == "fastv" else 2)
        assert first.text == sibling.ask("what digit is shown?", image=wide, max_new_tokens=2).text
    chat = qa.chat(images=[wide, tall])
    assert chat.ask("what digit is shown?", max_new_tokens=2).report.total == 10 * VIEW
    assert chat.ask("what shape is red?", max_new_tokens=2).timing_ms["encode"] == 0
    compared = qa.compare(
        "what digit is shown?", image=wide, methods="uniform", retention_ratios=0.25, repeats=2
    )
    assert {row.answer.report.kept for row in compared.rows} == {5 * VIEW, 5 * VIEW // 4}


def test_the_overlay_shows_the_padding_that_is_kept(qa: vidcompress.VisualQA) -> None:
    """A white picture of half the canvas's height: black above and below it on the canvas of crops."""
    answer = qa.using(method="none").ask("what digit is shown?", image=Image.new("RGB", (200, 100), "white"))
    drawn = np.asarray(answer.overlay().convert("L"))
    crops = drawn[:, drawn.shape[1] // 2 : -40]
    column = crops[80:-80, crops.shape[1] // 3]
    bright = (column > 200).mean()
    assert 0.3 < bright < 0.7
    assert (column[: len(column) // 8] < 60).mean() > 0.9


def test_the_doctor_counts_under_the_preset() -> None:
    diagnosis = run("tiny-next", size=(30, 200), preset="2880", timeout_s=600)
    found = json.loads(json.dumps(diagnosis.to_dict()))
    (image,) = [check for check in found["checks"] if check["name"].startswith("image")]
    (entry,) = image["data"]["inputs"]
    assert entry["full_length"] == entry["placeholders"] == 5 * VIEW
    assert entry["separators"] == 0
    assert re.search(r"320 tokens: thumbnail 64; crops \(2 x 2\) 4 x 64; kept 160 at 0.5", image["detail"])
    refused = inspect(str(embedded_models()["tiny-onevision"]), preset="2880")
    assert [found["detail"] for found in refused if found["status"] == "failed"] == [
        "preset='2880' with llava_onevision: it has no presets; leave it out"
    ]

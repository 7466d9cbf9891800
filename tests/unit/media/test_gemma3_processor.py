"""Gemma 3's processor beside transformers' own with Pillow, and questions that need no torchvision."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Gemma3Processor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from gemma_models import END, IMAGE, SIDE, START, TOKENS, gemma3
from vidcompress import VisualQA, compress_inputs, load_processor
from vidcompress.adapters.family.pan_and_scan import PanAndScan, PannedGeometry, panned_image_layout
from vidcompress.errors import MediaError
from vidcompress.tools.benchmark.inputs import make_inputs
from vidcompress.tools.benchmark.row import Workload
from vidcompress.tools.doctor.inputs import describe_images

pytestmark = pytest.mark.transformers

GREY = 1 / 255 / 0.5
"""One grey level after normalising."""
PAN = {
    "do_pan_and_scan": True,
    "pan_and_scan_min_crop_size": 30,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}
SIZES = ((56, 56), (40, 130), (130, 40), (61, 59), (300, 90), (90, 211), (33, 140), (28, 400))
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<start_of_image>"
    "{% else %} {{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
)


def picture(height: int, width: int) -> Any:
    """Waves without hard edges, on which Pillow and torch round alike."""
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    waves = np.sin(x / (7 + channel) + height) + np.sin(y / (8 - channel) + width)
    return (127.5 + 50 * waves).astype(np.uint8)


@pytest.fixture(scope="module")
def gemma_tokenizer() -> Any:
    """A tokenizer with Gemma's special tokens at the ids of the small model, for which a line end is a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(100)}
    for word, number in {"<pad>": 0, "<unk>": 1, "what": 5, "is": 6, "\n": 7, "Here": 8, "crops": 9}.items():
        words.pop(f"w{number}")
        words[word] = number
    marks = {"<image_soft_token>": IMAGE, "<start_of_image>": START, "<end_of_image>": END}
    for word, number in marks.items():
        words.pop(f"w{number}")
        words[word] = number
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
        extra_special_tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )


@pytest.fixture(scope="module")
def load(gemma_tokenizer: Any, tmp_path_factory: Any) -> Callable[..., Any]:
    """load(**settings) to our processor of a folder with a preprocessor_config.json of these settings."""

    def make(**stated: Any) -> Any:
        folder = tmp_path_factory.mktemp("gemma3")
        gemma3().config.save_pretrained(folder)
        gemma_tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(stated))
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        return load_processor(folder)

    return make


def stock(tokenizer: Any, **stated: Any) -> Any:
    images = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}, **stated)
    return Gemma3Processor(image_processor=images, tokenizer=tokenizer, image_seq_length=TOKENS)


@pytest.mark.parametrize(
    "stated", [{}, PAN, {**PAN, "pan_and_scan_max_num_crops": 2}], ids=["plain", "panned", "few"]
)
def test_prompts_and_pixels_are_those_of_transformers(
    load: Callable[..., Any], gemma_tokenizer: Any, stated: dict[str, Any]
) -> None:
    ours, theirs = load(**stated), stock(gemma_tokenizer, **stated)
    crops = []
    for size in SIZES:
        text = ["what <start_of_image> is", "is <start_of_image> <start_of_image>"]
        images = [[picture(*size)], [picture(50, 44), picture(*size)]]
        made = ours(text=text, images=images)
        # The stock processor's own default, no crops, comes before what its file states.
        expected = theirs(text=text, images=images, return_tensors="pt", padding=True, images_kwargs=stated)
        for key in ("input_ids", "attention_mask", "token_type_ids"):
            assert torch.equal(made[key], expected[key]), (size, key)
        assert made["pixel_values"].shape == expected["pixel_values"].shape
        apart = (made["pixel_values"] - expected["pixel_values"]).abs().max()
        assert apart <= 2.01 * GREY, size
        assert (made["pixel_values"].roll(1, 0) - expected["pixel_values"]).abs().max() > 20 * GREY
        count = ours.image_tokens(size)
        assert count == TOKENS * (1 + ours.geometry.pan.crops(size) if stated else 1)
        if stated:
            crops.append(int(made["num_crops"][0]))
            assert made["num_crops"].tolist() == [crops[-1], 0, crops[-1]]
            assert made["image_sizes"].tolist() == [[*size], [50, 44], [*size]]
        else:
            assert not {"num_crops", "image_sizes"} & set(made)
    assert len(set(crops)) == {0: 0, 4: 4, 2: 2}[stated.get("pan_and_scan_max_num_crops", 0)]
    assert set(made) <= set(ours.model_input_names)


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    least=st.integers(20, 400),
    most=st.integers(2, 9),
    ratio=st.floats(1.0, 4.0),
)
def test_crops_are_those_of_transformers(
    height: int, width: int, least: int, most: int, ratio: float
) -> None:
    image = np.broadcast_to(np.arange(width), (1, height, width))
    theirs = Gemma3ImageProcessorPil().pan_and_scan(image, least, most, ratio)
    geometry = PannedGeometry("", 56, 14, (), "", 1, None, pan=PanAndScan(least, most, ratio))
    boxes = geometry.boxes((height, width))
    assert [(bottom - top, right - left) for top, left, bottom, right in boxes] == [
        x.shape[1:] for x in theirs
    ]
    assert [left for _, left, _, _ in boxes] == [int(x[0, 0, 0]) for x in theirs]
    layout = panned_image_layout(geometry, (height, width))
    assert [view.kind for view in layout.views] == ["thumbnail", *["crop"] * len(theirs)]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({**PAN, "pan_and_scan_max_num_crops": 0}, "pan_and_scan_max_num_crops=0"),
        ({**PAN, "pan_and_scan_max_num_crops": 10**6}, "pan_and_scan_max_num_crops=1000000"),
        ({**PAN, "pan_and_scan_min_crop_size": "30"}, "least='30'"),
        ({**PAN, "pan_and_scan_min_ratio_to_activate": -1}, "ratio=-1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    load: Callable[..., Any], stated: dict[str, Any], message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        load(**stated)


@pytest.mark.parametrize("stated", [{}, PAN], ids=["plain", "panned"])
def test_questions_and_chats(load: Callable[..., Any], stated: dict[str, Any]) -> None:
    qa = VisualQA(gemma3(), load(**stated), retention_ratio=0.5)
    answer = qa.ask("what is", image=picture(40, 130), max_new_tokens=3)
    (visual,) = answer.report.visuals
    assert visual.total == TOKENS * (4 if stated else 1) and visual.kept == visual.total // 2
    assert len(visual.views) == (4 if stated else 1)
    chat = qa.chat(image=picture(40, 130))
    first = chat.ask("what is", max_new_tokens=3)
    assert first.text == answer.text
    assert chat.ask("is what", max_new_tokens=3).report.visuals[0].kept == visual.kept


@pytest.mark.parametrize("stated", [{}, PAN], ids=["plain", "panned"])
def test_the_doctor_and_the_benchmark_count_what_questions_count(
    load: Callable[..., Any], stated: dict[str, Any]
) -> None:
    model = gemma3()
    (entry,) = describe_images(model, load(**stated), [Image.fromarray(picture(40, 130))])
    assert entry["full_length"] == entry["placeholders"] == TOKENS * (4 if stated else 1)
    assert [view["kind"] for view in entry["views"]] == ["thumbnail", *["crop"] * (3 if stated else 0)]
    drawn = make_inputs(model, Workload("image", (40, 130)), 2, text_tokens=6, seed=0)
    assert compress_inputs(model, drawn, retention_ratio=0.5).report.kept == 2 * TOKENS // 2


def test_a_stock_processor_serves_questions(gemma_tokenizer: Any) -> None:
    theirs = stock(gemma_tokenizer)
    theirs.chat_template = TEMPLATE
    answer = VisualQA(gemma3(), theirs, retention_ratio=0.5).ask(
        "what is", image=picture(40, 130), max_new_tokens=3
    )
    assert answer.report.visuals[0].kept == TOKENS // 2


def test_saved_settings_load_again(load: Callable[..., Any], tmp_path: Any) -> None:
    ours = load(**PAN)
    ours.save_pretrained(tmp_path)
    again = load_processor(tmp_path)
    assert again.geometry == ours.geometry
    one, other = (p(text="<start_of_image>", images=picture(40, 130)) for p in (ours, again))
    assert torch.equal(one["pixel_values"], other["pixel_values"]) and one["num_crops"].tolist() == [3]

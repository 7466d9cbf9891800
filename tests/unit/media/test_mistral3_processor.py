"""Mistral 3's processor: pixels and sizes beside transformers' with Pillow; its own processor needs torchvision."""

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
from transformers.models.pixtral.image_processing_pil_pixtral import (
    PixtralImageProcessorPil,
    get_resize_output_image_size,
)

from pixtral_models import BREAK, END, IMAGE, SIDE, mistral3
from pixtral_models import picture as ids_of
from vidcompress import VisualQA, load_processor
from vidcompress.adapters.families import get_family
from vidcompress.adapters.family.budgets import EdgeBudget, PatchGeometry
from vidcompress.errors import MediaError
from vidcompress.tools.doctor.inputs import describe_images

pytestmark = pytest.mark.transformers

GREY = 1 / 255 / 0.26130258
"""One grey level after normalising, where the deviation is smallest."""
SIZES = ((28, 28), (40, 130), (130, 40), (61, 59), (300, 90), (9, 15), (5, 200), (140, 140))
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}[IMG]"
    "{% else %} {{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
)


def picture(height: int, width: int) -> Any:
    """Waves without hard edges, on which Pillow and torch round alike."""
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    waves = np.sin(x / (7 + channel) + height) + np.sin(y / (8 - channel) + width)
    return (127.5 + 50 * waves).astype(np.uint8)


@pytest.fixture(scope="module")
def pixtral_tokenizer() -> Any:
    """A tokenizer with Mistral's tokens for pictures at the ids of the small model."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(100)}
    for word, number in {
        "<pad>": 0,
        "<unk>": 1,
        "what": 5,
        "is": 6,
        "[IMG]": IMAGE,
        "[IMG_BREAK]": BREAK,
        "[IMG_END]": END,
    }.items():
        words.pop(f"w{number}")
        words[word] = number
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", padding_side="left"
    )
    made.add_special_tokens({"additional_special_tokens": ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]})
    return made


@pytest.fixture(scope="module")
def load(pixtral_tokenizer: Any, tmp_path_factory: Any) -> Callable[..., Any]:
    """load(joint, **settings) to our processor of a folder with these processor_config.json and image settings."""

    def make(joint: dict[str, Any] | None = None, **stated: Any) -> Any:
        folder = tmp_path_factory.mktemp("mistral3")
        mistral3().config.save_pretrained(folder)
        pixtral_tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(stated))
        (folder / "processor_config.json").write_text(json.dumps(joint or {}))
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        return load_processor(folder)

    return make


@pytest.mark.parametrize(
    "stated", [{}, {"size": {"longest_edge": 112}}, {"size": {"longest_edge": 100}}], ids=str
)
def test_pixels_sizes_and_prompts(load: Callable[..., Any], stated: dict[str, Any]) -> None:
    ours, theirs = load(**stated), PixtralImageProcessorPil(patch_size=SIDE, **stated)
    for size in SIZES:
        pictures = [picture(*size), picture(50, 44)]
        made = ours(text=["what [IMG] is", "is[IMG]"], images=[pictures[:1], pictures[1:]])
        expected = theirs(pictures, return_tensors="pt")
        assert torch.equal(made["image_sizes"], torch.as_tensor(expected["image_sizes"])), size
        assert made["pixel_values"].shape == expected["pixel_values"].shape
        apart = (made["pixel_values"] - expected["pixel_values"]).abs().max()
        assert apart <= 2.01 * GREY, size
        assert (made["pixel_values"].flip(0) - expected["pixel_values"]).abs().max() > 20 * GREY
        grids = (made["image_sizes"] // SIDE).tolist()
        real = [
            row[mask.bool()].tolist()
            for row, mask in zip(made["input_ids"], made["attention_mask"], strict=True)
        ]
        assert real == [[5, *ids_of(tuple(grids[0])), 6], [6, *ids_of(tuple(grids[1]))]]
        assert ours.image_tokens(size) == grids[0][0] * grids[0][1]
    assert (
        set(made)
        == {"input_ids", "attention_mask", "pixel_values", "image_sizes"}
        <= set(ours.model_input_names)
    )


@settings(max_examples=400, deadline=None)
@given(
    height=st.integers(1, 4000),
    width=st.integers(1, 4000),
    edge=st.integers(1, 2000),
    patch=st.integers(4, 16),
    merge=st.integers(1, 3),
)
def test_sides_are_those_of_transformers(height: int, width: int, edge: int, patch: int, merge: int) -> None:
    geometry = PatchGeometry(patch, merge, 1)
    side = patch * merge
    theirs = get_resize_output_image_size(
        np.broadcast_to(0, (3, height, width)), edge, side, "channels_first"
    )
    ours = EdgeBudget(edge).image_size((height, width), geometry)
    assert ours == tuple(max(side, length) for length in theirs)  # they round a thin side down to nothing
    assert EdgeBudget(edge).frame_size(3, (height, width), geometry) == ours


@pytest.mark.parametrize(
    ("joint", "stated", "message"),
    [
        ({}, {"size": {"longest_edge": 0}}, "longest_edge=0"),
        ({}, {"size": {"shortest_edge": 5}}, "longest_edge=None"),
        ({"patch_size": 16}, {}, "patch_size=16, the model's encoder has 7"),
        ({"spatial_merge_size": 4}, {}, "spatial_merge_size=4, the model's encoder has 2"),
        ({"image_break_token": 5}, {}, "image_break_token=5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    load: Callable[..., Any], joint: dict[str, Any], stated: dict[str, Any], message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        load(joint, **stated)


def test_questions_and_chats(load: Callable[..., Any]) -> None:
    qa = VisualQA(mistral3(), load(), retention_ratio=0.5)
    answer = qa.ask("what is", image=picture(40, 130), max_new_tokens=3)
    (visual,) = answer.report.visuals
    assert (visual.total, visual.kept) == (30, 15) and [view.kind for view in visual.views] == ["image"]
    chat = qa.chat(image=picture(40, 130))
    assert chat.ask("what is", max_new_tokens=3).text == answer.text
    assert chat.ask("is what", max_new_tokens=3).report.visuals[0].kept == 15


def test_the_doctor_counts_what_questions_count(load: Callable[..., Any]) -> None:
    shown = Image.fromarray(picture(40, 130))
    (entry,) = describe_images(mistral3(), load(), [shown])
    assert entry["full_length"] == entry["placeholders"] == 30
    assert [(view["kind"], view["grid"]) for view in entry["views"]] == [("image", [3, 10])]


def test_clips_are_refused(load: Callable[..., Any]) -> None:
    ours = load()
    assert ours.video_token is None and not get_family("mistral3").takes_clips
    with pytest.raises(MediaError, match="takes no clips"):
        ours.video_tokens(4, (28, 28))
    with pytest.raises(MediaError, match="videos"):
        ours(text="what", videos=[np.zeros((2, 28, 28, 3), np.uint8)])


def test_saved_settings_load_again(load: Callable[..., Any], tmp_path: Any) -> None:
    ours = load(size={"longest_edge": 100})
    ours.save_pretrained(tmp_path)
    again = load_processor(tmp_path)
    assert again.geometry == ours.geometry and again.geometry.image_budget == EdgeBudget(100)
    one, other = (p(text="[IMG]", images=picture(40, 130)) for p in (ours, again))
    assert torch.equal(one["pixel_values"], other["pixel_values"])

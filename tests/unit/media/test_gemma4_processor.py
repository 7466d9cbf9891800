"""Gemma 4's processor: pixels, places and prompts beside transformers' with Pillow; there clips need torchvision."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.gemma4.image_processing_pil_gemma4 import (
    Gemma4ImageProcessorPil,
    get_aspect_ratio_preserving_size,
)

from gemma_models import COUNTS_FRAMES, END, IMAGE, MERGE, PATCH, START, VIDEO, gemma4
from vidcompress import VisualQA, compress_inputs, load_processor
from vidcompress.adapters.family.budgets import PatchGeometry, TokenBudget
from vidcompress.errors import MediaError
from vidcompress.media import read_video
from vidcompress.tools.doctor.inputs import describe_clip, describe_images

try:
    from transformers import Gemma4Processor
except ImportError:  # in older versions its module needs torchvision
    Gemma4Processor = None

pytestmark = pytest.mark.transformers

GREY = 1 / 255
"""One grey level."""
SIZES = ((28, 28), (40, 130), (130, 40), (61, 59), (300, 90), (9, 15), (5, 400), (140, 140))
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %} <|image|> "
    "{% elif c['type'] == 'video' %} <|video|> {% else %} {{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
)


def picture(height: int, width: int, phase: float = 0.0) -> Any:
    """Waves without hard edges, on which Pillow and torch round alike."""
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    waves = np.sin(x / (7 + channel) + height + phase) + np.sin(y / (8 - channel) + width)
    return (127.5 + 50 * waves).astype(np.uint8)


def clip(frames: int, height: int, width: int) -> Any:
    return np.stack([picture(height, width, number) for number in range(frames)])


def tokenizer_of(video: str = "<|video|>") -> Any:
    """A tokenizer with Gemma 4's tokens at the ids of the small model, for which times are words and a word each."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(100)}
    marks = {"<|image|>": IMAGE, "<|image>": START, "<image|>": END, video: VIDEO}
    known = {
        "<pad>": 0,
        "<unk>": 1,
        "what": 5,
        "is": 6,
        **{f"00:{s:02d}": 10 + s for s in range(60)},
        **marks,
    }
    for word, number in known.items():
        words.pop(f"w{number}")
        words[word] = number
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
        extra_special_tokens={"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>"},
    )
    made.add_special_tokens({"additional_special_tokens": [video]})
    return made


@pytest.fixture(scope="module")
def load(tmp_path_factory: Any) -> Callable[..., Any]:
    """load(images, videos) to our processor of a folder with these settings."""

    def make(images: dict[str, Any] | None = None, videos: dict[str, Any] | None = None) -> Any:
        folder = tmp_path_factory.mktemp("gemma4")
        gemma4().config.save_pretrained(folder)
        tokenizer_of().save_pretrained(folder)
        joint = {"image_processor": images or {}, "video_processor": videos or {}}
        (folder / "processor_config.json").write_text(json.dumps(joint))
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        return load_processor(folder)

    return make


def stock_images(most: int) -> Any:
    return Gemma4ImageProcessorPil(patch_size=PATCH, pooling_kernel_size=MERGE, max_soft_tokens=most)


_TOKENS = SimpleNamespace(
    boi_token="<|image>", eoi_token="<image|>", image_token="<|image|>", video_token="<|video|>"
)


def stock_image(counts: dict[str, list[int]], number: int) -> str:
    """The stock processor's text for a picture, by its own code where that is importable."""
    if Gemma4Processor is None:
        return "<|image>" + "<|image|>" * counts["num_soft_tokens_per_image"][number] + "<image|>"
    return str(Gemma4Processor.replace_image_token(_TOKENS, counts, number))


def stock_clip(stated: dict[str, Any]) -> str:
    """The stock processor's text for a clip of less than a minute."""
    if Gemma4Processor is None:
        run = "<|video|>" * stated["num_soft_tokens_per_video"][0]
        times = stated["video_metadata"][0].timestamps
        return " ".join(f"00:{int(time):02d} <|image>{run}<image|>" for time in times)
    return str(Gemma4Processor.replace_video_token(_TOKENS, stated, 0))


@pytest.mark.parametrize("most", [70, 280])
def test_pictures_are_those_of_transformers(load: Callable[..., Any], most: int) -> None:
    ours, theirs = load({"max_soft_tokens": most}), stock_images(most)
    for size in SIZES:
        pictures = [picture(*size), picture(50, 44)]
        made = ours(text=["what <|image|> is", "is <|image|>"], images=[pictures[:1], pictures[1:]])
        expected = theirs(pictures, return_tensors="pt")
        assert torch.equal(made["image_position_ids"], expected["image_position_ids"]), size
        assert made["pixel_values"].shape == expected["pixel_values"].shape
        apart = (made["pixel_values"] - expected["pixel_values"]).abs().max()
        assert apart <= 2.01 * GREY, size
        assert (made["pixel_values"].flip(0) - expected["pixel_values"]).abs().max() > 20 * GREY
        counts = {"num_soft_tokens_per_image": expected["num_soft_tokens_per_image"].tolist()}
        texts = [stock_image(counts, number) for number in range(2)]
        tokens = [
            [{"<|image|>": IMAGE, "<|image>": START, "<image|>": END}[word] for word in words_of(text)]
            for text in texts
        ]
        pairs = zip(made["input_ids"], made["attention_mask"], strict=True)
        assert [row[mask.bool()].tolist() for row, mask in pairs] == [[5, *tokens[0], 6], [6, *tokens[1]]]
        assert torch.equal(made["mm_token_type_ids"], (made["input_ids"] == IMAGE).long())
    assert set(made) <= set(ours.model_input_names)


def words_of(text: str) -> list[str]:
    """Special tokens of a text."""
    return (
        text.replace("<|image|>", " <|image|> ")
        .replace("<|image>", " <|image> ")
        .replace("<image|>", " <image|> ")
        .replace("< |image|> ", "<|image|>")
        .split()
    )


def test_clips_are_those_of_transformers(load: Callable[..., Any]) -> None:
    """Frames are prepared as its pictures are, in the form that the installed version takes."""
    ours = load(videos={"max_soft_tokens": 70})
    clips = [read_video(clip(3, 40, 130), source_fps=1.0), read_video(clip(3, 61, 59), source_fps=1.0)]
    made = ours(text=["what <|video|> is", "is <|video|>"], videos=clips)
    expected = [stock_images(70)(list(one.frames.numpy()), return_tensors="pt") for one in clips]
    pixels, places = made["pixel_values_videos"], made["video_position_ids"]
    assert pixels.ndim == (3 if COUNTS_FRAMES else 4)
    if COUNTS_FRAMES:
        assert made["num_frames_per_video"].tolist() == [3, 3]
    else:
        pixels, places = pixels.flatten(0, 1), places.flatten(0, 1)
    assert torch.equal(places, torch.cat([one["image_position_ids"] for one in expected]))
    apart = (pixels - torch.cat([one["pixel_values"] for one in expected])).abs().max()
    assert apart <= 2.01 * GREY
    for number, one in enumerate(clips):
        count = int(expected[number]["num_soft_tokens_per_image"][0])
        stated = {
            "num_soft_tokens_per_video": [count],
            "video_metadata": [SimpleNamespace(fps=1.0, timestamps=list(one.times))],
        }
        text = stock_clip(stated)
        assert text.count("<|video|>") == 3 * count and text.startswith("00:00 <|image>")
        assert ours.write_clips([one], [3 * count])[0].text == text.replace("<|video|>" * count, "<|video|>")
        ids = made["input_ids"][number].tolist()
        run = [VIDEO] * count
        expected_ids = [t for s in range(3) for t in (10 + s, START, *run, END)]
        assert ids[-len(expected_ids) - (number == 0) :][: len(expected_ids)] == expected_ids
    assert torch.equal(made["mm_token_type_ids"], 2 * (made["input_ids"] == VIDEO).long())


@settings(max_examples=400, deadline=None)
@given(
    height=st.integers(1, 4000),
    width=st.integers(1, 4000),
    most=st.sampled_from((1, 5, 70, 280, 1120)),
    patch=st.integers(4, 16),
    merge=st.integers(1, 3),
)
def test_sides_are_those_of_transformers(height: int, width: int, most: int, patch: int, merge: int) -> None:
    try:
        theirs = get_aspect_ratio_preserving_size(height, width, patch, most * merge**2, merge)
    except ValueError:
        assume(False)
    geometry = PatchGeometry(patch, merge, 1)
    ours = TokenBudget(most).image_size((height, width), geometry)
    assert ours == theirs == TokenBudget(most).frame_size(7, (height, width), geometry)
    assert ours[0] * ours[1] <= most * geometry.factor**2


@pytest.mark.parametrize("total", [5, 32, 33, 100, 1801])
def test_frames_are_those_of_transformers(load: Callable[..., Any], total: int) -> None:
    rule = load().frame_rule
    count = min(32, total)
    assert rule.choose(total, 30.0) == torch.arange(0, total, total / count).int().tolist()[:count]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"max_soft_tokens": 0}, "max_soft_tokens=0"),
        ({"max_soft_tokens": "many"}, "max_soft_tokens='many'"),
        ({"patch_size": 16}, "patch_size=16, the model's encoder has 4"),
        ({"pooling_kernel_size": 2}, "pooling_kernel_size=2, the model's encoder has 3"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    load: Callable[..., Any], images: dict[str, Any], message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        load(images)


def test_a_tokenizer_without_the_placeholder_of_clips_gets_it() -> None:
    """As from the stock processor; at another id than the model's it is refused."""
    with pytest.raises(
        MediaError, match=r"gives '<\|video\|>' the id 100, the model's config has video_token_id=93"
    ):
        load_processor(gemma4(), tokenizer=tokenizer_of("<|other|>"))


@pytest.mark.parametrize("kind", ["large", "small"])
def test_questions_and_chats(load: Callable[..., Any], kind: str) -> None:
    qa = VisualQA(gemma4(kind), load({"max_soft_tokens": 20}, {"max_soft_tokens": 6}), retention_ratio=0.5)
    image = qa.ask("what is", image=picture(40, 130), max_new_tokens=3)
    (visual,) = image.report.visuals
    assert (visual.total, visual.kept) == (16, 8) and [view.kind for view in visual.views] == ["image"]
    frames = read_video(clip(4, 40, 60), source_fps=1.0)
    answer = qa.ask("what is", video=frames, max_new_tokens=3)
    (visual,) = answer.report.visuals
    assert [view.total for view in visual.views] == [6] * 4 and visual.kept == 12
    chat = qa.chat(video=frames)
    assert chat.ask("what is", max_new_tokens=3).text == answer.text
    assert chat.ask("is what", max_new_tokens=3).report.visuals[0].kept == 12


def test_the_doctor_counts_what_questions_count(load: Callable[..., Any]) -> None:
    ours = load({"max_soft_tokens": 20}, {"max_soft_tokens": 6})
    (entry,) = describe_images(gemma4(), ours, [Image.fromarray(picture(40, 130))])
    assert entry["full_length"] == entry["placeholders"] == 16
    entry = describe_clip(gemma4(), ours, 3, (40, 60))
    assert entry["full_length"] == entry["placeholders"] == 18


def test_clips_of_other_lengths_go_to_compression_in_every_version(load: Callable[..., Any]) -> None:
    ours = load(videos={"max_soft_tokens": 6})
    made = ours(text="what <|video|> <|video|>", videos=[clip(2, 40, 60), clip(3, 40, 60)])
    assert made["num_frames_per_video"].tolist() == [2, 3]
    report = compress_inputs(gemma4(), dict(made), retention_ratio=0.5).report
    assert [len(visual.views) for visual in report.visuals] == [2, 3]


def test_saved_settings_load_again(load: Callable[..., Any], tmp_path: Any) -> None:
    ours = load({"max_soft_tokens": 70}, {"max_soft_tokens": 140, "num_frames": 8})
    ours.save_pretrained(tmp_path)
    again = load_processor(tmp_path)
    assert again.geometry == ours.geometry and again.geometry.clip_budget == TokenBudget(140)
    assert again.frame_rule == ours.frame_rule and again.frame_rule.num_frames == 8
    one, other = (p(text="<|image|>", images=picture(40, 130)) for p in (ours, again))
    assert torch.equal(one["pixel_values"], other["pixel_values"])

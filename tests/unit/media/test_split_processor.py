"""The processors of Idefics3 and SmolVLM beside transformers' own, in the versions that need no torchvision."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Idefics3Config,
    LlamaConfig,
    SmolVLMConfig,
)
from transformers.models.smolvlm import processing_smolvlm

from split_folder import SIDE, picture, stock, words_tokenizer
from stock_source import stock_function
from vidcompress import MediaError, load_processor
from vidcompress.adapters.family.split import in_words, split_clip_text
from vidcompress.media import VideoFrames
from vidcompress.media.preprocessing.forms.split_processor import SplitProcessor
from vidcompress.media.video.centre_rule import CentreRule

pytestmark = pytest.mark.transformers

SIZES = (
    (56, 56), (112, 112), (40, 130), (130, 40), (300, 90), (90, 301),
    (61, 59), (500, 333), (8, 200), (200, 8), (167, 168), (1, 900),
)  # fmt: skip
FAMILIES = ("idefics3", "smolvlm")


@pytest.fixture(scope="module")
def load(tmp_path_factory: Any) -> Callable[..., Any]:
    """load(family, image settings, clip settings) to our processor of such a folder."""

    def make(family: str, image: dict[str, Any] | None = None, video: dict[str, Any] | None = None) -> Any:
        folder = tmp_path_factory.mktemp(family)
        size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = {"idefics3": Idefics3Config, "smolvlm": SmolVLMConfig}[family](
            vision_config={**size, "image_size": SIDE, "patch_size": 4},
            text_config=LlamaConfig(**size, vocab_size=300),
            image_token_id=2,
            scale_factor=2,
        )
        config.save_pretrained(folder)
        words_tokenizer().save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(image or {}))
        if video is not None:
            (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
        return load_processor(folder)

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": {"longest_edge": 3 * SIDE}},
        {"size": {"longest_edge": SIDE}},
        {"size": {"longest_edge": 50}},
        {"do_image_splitting": False},
        {"resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.2, 0.1]},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_and_prompts_are_those_of_transformers(
    load: Callable[..., Any], family: str, settings: dict[str, Any]
) -> None:
    ours, theirs = load(family, settings), stock(family, **settings)
    assert isinstance(ours, SplitProcessor)
    counts = set()
    for size in SIZES:
        made = ours(text="what <image> is", images=picture(*size))
        expected = theirs(
            text="what <image> is", images=[Image.fromarray(picture(*size))], return_tensors="pt"
        )
        assert torch.equal(made["input_ids"], expected["input_ids"]), size
        assert made["pixel_values"].shape == expected["pixel_values"].shape, size
        assert torch.equal(made["pixel_attention_mask"], expected["pixel_attention_mask"])
        off = (made["pixel_values"] - expected["pixel_values"]).abs().max()
        grey = 0.0 if settings.get("resample") != 3 else 1 / 255 / 0.1  # Pillow's bicubic rounds otherwise
        assert off <= grey * 2 + 1e-6, (size, off)
        assert ours.image_tokens(size) == int((expected["input_ids"] == 2).sum())
        counts.add(made["pixel_values"].shape[1])
        turned = made["pixel_values"].flip(-1)
        if min(size) > 50:
            assert (turned - expected["pixel_values"]).abs().max() > 0.1, "another order is noticed"
    single = settings.get("do_image_splitting") is False or settings.get("size") == {"longest_edge": SIDE}
    assert (counts == {1}) == single
    assert "image_sizes" not in made


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_several_pictures_are_those_of_transformers(load: Callable[..., Any], family: str) -> None:
    ours, theirs = load(family), stock(family)
    texts = ["a <image> b <image>", "none", "<image> c"]
    groups = [[picture(40, 130), picture(61, 59)], [], [picture(20, 20)]]
    expected = theirs(
        text=texts,
        images=[[Image.fromarray(one) for one in group] for group in groups],
        padding=True,
        return_tensors="pt",
    )
    for images in (groups, [one for group in groups for one in group]):
        made = ours(text=texts, images=images)
        assert set(made) == {"input_ids", "attention_mask", "pixel_values", "pixel_attention_mask"}
        for key in made:
            assert torch.allclose(made[key].float(), expected[key].float(), rtol=0, atol=1e-6), key


def moving(frames: int, fps: float = 12.0) -> VideoFrames:
    pictures = torch.from_numpy(np.stack([picture(40 + 0 * n, 70) + np.uint8(9 * n) for n in range(frames)]))
    times = tuple(60.5 * n for n in range(frames))
    return VideoFrames(pictures, times, 60.5 * frames, fps, frames * 5, "memory", "made")


def test_a_clip_is_written_as_transformers_writes_it(load: Callable[..., Any], monkeypatch: Any) -> None:
    """Its text comes from transformers' own function; its frames are two resizes of Pillow."""
    ours, theirs, clip = load("smolvlm"), stock("smolvlm"), moving(3)
    monkeypatch.setattr(processing_smolvlm, "num2words", in_words)
    metadata = SimpleNamespace(fps=12.0, timestamps=list(clip.times), duration=clip.duration)
    text = theirs.replace_video_token(
        {"pixel_values": torch.zeros(1, 3, 3, 1, 1), "video_metadata": [metadata]}, 0
    )
    made = ours(text="see <video> what?", videos=clip)
    written = ours.tokenizer(f"see {text} what?")["input_ids"]
    assert made["input_ids"][0].tolist() == written
    assert "three frames from a 0:03:01 [H:MM:SS]" in text and "Frame from 02:01:" in text
    assert made["image_sizes"].tolist() == [[40, 70, 3]]
    assert tuple(made["pixel_values"].shape) == (1, 3, 3, SIDE, SIDE)
    for frame, own in zip(clip.frames.numpy(), made["pixel_values"][0], strict=True):
        scaled = Image.fromarray(frame).resize((4 * SIDE, 54), Image.Resampling.LANCZOS)
        square = np.asarray(scaled.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).astype(np.float32)
        assert np.abs(own.permute(1, 2, 0).numpy() - (square / 127.5 - 1)).max() < 1e-5


def test_pictures_and_clips_of_one_prompt_lie_in_its_order(load: Callable[..., Any]) -> None:
    ours, clip = load("smolvlm"), moving(2)
    made = ours(text=["<video> and <image>", "<image>"], images=[picture(9, 9), picture(30, 90)], videos=clip)
    assert made["image_sizes"].tolist() == [[40, 70, 2], [9, 9, 0], [30, 90, 0]]
    alone = ours(text="<video>", videos=clip)["pixel_values"][0]
    assert torch.equal(made["pixel_values"][0, :2], alone)
    first, second = (
        ours(text="<image>", images=p)["pixel_values"][0] for p in (picture(9, 9), picture(30, 90))
    )
    assert torch.equal(made["pixel_values"][0, 2:], first)
    assert torch.equal(made["pixel_values"][1, : len(second)], second)
    assert not made["pixel_attention_mask"][1, len(second) :].any()
    with pytest.raises(MediaError, match="idefics3 takes no clips"):
        load("idefics3").video_tokens(3)


@pytest.mark.parametrize("total", [1, 5, 90, 3000, 2400])
@pytest.mark.parametrize("fps", [1.0, 24.0, 29.97])
def test_frames_are_sampled_as_transformers_samples_them(total: int, fps: float) -> None:
    """Its own method, taken from its source."""
    choose = stock_function("smolvlm.video_processing_smolvlm", "SmolVLMVideoProcessor.sample_frames")

    class About(SimpleNamespace):
        def __getitem__(self, name: str) -> Any:
            return getattr(self, name)

    about = About(total_num_frames=total, fps=fps, duration=total / fps)
    for most, pace in ((64, 1.0), (8, 0.5), (16, 2.0)):
        expected = choose(SimpleNamespace(num_frames=most, fps=pace), about)
        assert CentreRule(most, pace).choose(total, fps) == expected.tolist(), (most, pace)
    assert CentreRule().choose(3000, 25.0, num_frames=4) == [0, 999, 1999, 2999]
    assert len(CentreRule().choose(3000, 25.0, fps=0.5)) == 60
    assert CentreRule().usual == 64
    with pytest.raises(MediaError, match="fps=0: must be a number above 0"):
        CentreRule(4, 0)


def test_files_state_edges_and_pace(load: Callable[..., Any]) -> None:
    sampling = {"fps": 2, "max_frames": 5, "video_size": {"longest_edge": 48}}
    ours = load("smolvlm", {}, {"video_sampling": sampling, "max_image_size": {"longest_edge": SIDE}})
    assert ours.frame_rule == CentreRule(5, 2) and ours.geometry.clip_edge == 48
    assert ours.geometry.longest_edge == 4 * SIDE
    for settings, message in (
        ({"size": {"longest_edge": 0}}, "size={'longest_edge': 0}; expected {'longest_edge': pixels}"),
        ({"max_image_size": {"longest_edge": 28}}, "max_image_size=.* takes 24 x 24; take"),
        ({"do_image_splitting": "no"}, "do_image_splitting='no'; expected true or false"),
        ({"do_resize": False}, "do_resize=False; crops must fill"),
        ({"resample": 7}, "resample=7"),
        ({"image_mean": "x"}, "image_mean='x'"),
    ):
        with pytest.raises(MediaError, match=message):
            load("smolvlm", settings)
    for video, message in (
        ({"video_sampling": 5}, "video_sampling=5; expected a JSON object"),
        ({"video_sampling": {"fps": 0}}, "fps=0; expected a number above 0"),
        ({"video_sampling": {"max_frames": 0}}, "max_frames=0"),
        ({"video_sampling": {"video_size": "x"}}, "size='x'; expected"),
    ):
        with pytest.raises(MediaError, match=message):
            load("smolvlm", {}, video)
    with pytest.raises(MediaError, match="longest_edge=1048576: makes 171 x 171 crops .* more than 1000"):
        load("smolvlm", {"size": {"longest_edge": 2**20}})(text="<image>", images=picture(50, 50))


def test_numbers_are_written_as_num2words_writes_them() -> None:
    said = {
        0: "zero",
        8: "eight",
        21: "twenty-one",
        40: "forty",
        100: "one hundred",
        101: "one hundred and one",
    }
    said |= {
        342: "three hundred and forty-two",
        1000: "one thousand",
        1005: "one thousand and five",
        1234: "one thousand, two hundred and thirty-four",
        20_000: "twenty thousand",
    }
    assert {number: in_words(number) for number in said} == said
    for seconds in (5, 3700, 86399, 90000, 200000):
        assert f"from a {timedelta(seconds=seconds)} [H:MM:SS]" in split_clip_text("<image>", (0.0,), seconds)


ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    2**70,
    "x",
    [],
    [1],
    {},
    {"longest_edge": "x"},
    {"longest_edge": 2**70},
)


@pytest.mark.parametrize(
    "key", ["size", "max_image_size", "do_image_splitting", "resample", "image_std", "video_sampling"]
)
def test_odd_values_of_files_are_named_or_left_out(load: Callable[..., Any], key: str) -> None:
    """Whatever a file holds, the processor works or one error names the file."""
    refused: list[str] = []
    for value in ODD:
        image, video = ({}, {key: value}) if key == "video_sampling" else ({key: value}, {})
        try:
            made = load("smolvlm", image, {"num_frames": 3, **video})(text="<image>", images=picture(30, 50))
        except MediaError as error:
            refused.append(str(error))
            continue
        assert made["pixel_values"].isfinite().all()
    assert 0 < len(refused) < len(ODD)
    assert all("of '" in message and "processor" in message for message in refused), refused

"""The processors of GLM-4.1V and GLM-4.6V beside transformers' own, in the versions that need no torchvision."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Glm4vConfig, Glm46VConfig
from transformers.models.glm4v.image_processing_pil_glm4v import smart_resize

import processor_cases as cases
from glm_folder import MARKS, glm_tokenizer, stock
from stock_source import stock_function
from vidcompress import MediaError, load_processor
from vidcompress.media import VideoFrames
from vidcompress.media.preprocessing.forms.native_processor import NativeProcessor
from vidcompress.media.video.glm_rules import LengthsRule, SecondsRule

pytestmark = pytest.mark.transformers

FAMILIES = ("glm4v", "glm46v")
SMALL = {"size": {"shortest_edge": 28 * 28 * 8, "longest_edge": 28 * 28 * 40}}
SIZES = ((28, 28), (20, 30), (37, 61), (200, 31), (56, 56), (96, 64), (480, 640), (333, 1000))


@pytest.fixture(scope="module")
def load(tmp_path_factory: Any) -> Callable[..., Any]:
    """load(family, image settings, clip settings) to our processor of such a folder."""

    def make(family: str, image: dict[str, Any] | None = None, video: dict[str, Any] | None = None) -> Any:
        folder = tmp_path_factory.mktemp(family)
        ids = {"image_token_id": MARKS.index("<|image|>"), "video_token_id": MARKS.index("<|video|>")}
        {"glm4v": Glm4vConfig, "glm46v": Glm46VConfig}[family](**ids).save_pretrained(folder)
        glm_tokenizer().save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(image or {}))
        if video is not None:
            (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
        return load_processor(folder)

    return make


@pytest.mark.parametrize("settings", [{}, SMALL], ids=["hub", "small"])
@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_and_prompts_are_those_of_transformers(
    load: Callable[..., Any], family: str, settings: dict[str, Any]
) -> None:
    ours, theirs = load(family, settings), stock(family, **settings)
    assert isinstance(ours, NativeProcessor)
    text = "a <|begin_of_image|><|image|><|end_of_image|> is"
    for size in SIZES:
        picture = cases.picture(sum(size), *size)
        made = ours(text=text, images=picture)
        expected = theirs(
            text=[text], images=[Image.fromarray(picture)], return_tensors="pt", return_mm_token_type_ids=True
        )
        for key in ("input_ids", "attention_mask", "mm_token_type_ids", "image_grid_thw"):
            assert torch.equal(made[key], expected[key]), (size, key)
        level = 1 / 255 / 0.26
        off = (made["pixel_values"] - expected["pixel_values"]).abs()
        assert off.max() <= level * 1.01, (size, off.max() / level)  # Pillow's bicubic rounds otherwise
        turned = made["pixel_values"].flip(-1)
        assert (turned - expected["pixel_values"]).abs().max() > 10 * level, "another order is noticed"


def sampled(count: int, fps: float = 12.0) -> VideoFrames:
    times = tuple(number * 5 / fps for number in range(count))
    frames = torch.from_numpy(cases.clip(count))
    return VideoFrames(frames, times, count * 5 / fps, fps, count * 5, "memory", "made")


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_is_written_as_transformers_writes_it(
    load: Callable[..., Any], family: str, count: int
) -> None:
    ours, theirs, clip = load(family, {}, SMALL), stock(family), sampled(count)
    made = ours(
        text="see <|begin_of_video|><|video|><|end_of_video|> and <|image|>?",
        videos=clip,
        images=cases.picture(3, 40, 50),
    )
    grid = made["video_grid_thw"]
    # A last frame alone is repeated there, also for the size.
    pairs = count + count % 2
    height, width = smart_resize(pairs, *cases.CLIP_SIZE, min_pixels=28 * 28 * 8, max_pixels=28 * 28 * 40)
    assert grid.tolist() == [[pairs // 2, height // 14, width // 14]]
    metadata = SimpleNamespace(fps=12.0, timestamps=list(clip.times))
    written = theirs.replace_video_token({"video_grid_thw": grid, "video_metadata": [metadata]}, 0)
    picture = "<|image|>" * int(made["image_grid_thw"].prod() // 4)
    ids = ours.tokenizer(f"see <|begin_of_video|>{written}<|end_of_video|> and {picture}?")["input_ids"]
    assert made["input_ids"][0].tolist() == ids
    assert made["mm_token_type_ids"][0].tolist() == theirs.create_mm_token_type_ids([ids])[0]
    assert set(made["mm_token_type_ids"][0].tolist()) == {0, 1, 2}
    assert made["pixel_values_videos"].shape == (int(grid.prod()), 3 * 2 * 14 * 14)
    assert ours.video_tokens(count, cases.CLIP_SIZE) == int(grid.prod() // 4)


def test_times_behind_frames_differ_between_the_families(load: Callable[..., Any]) -> None:
    texts = []
    for family in FAMILIES:
        ours = load(family, {}, SMALL)
        made = ours(text="<|begin_of_video|><|video|><|end_of_video|>", videos=sampled(8))
        texts.append(ours.tokenizer.decode(made["input_ids"][0][made["input_ids"][0] != 2]))
    pair = "<|begin_of_image|><|end_of_image|>"
    assert texts[0] == f"<|begin_of_video|>{pair}0{pair}0{pair}1{pair}2<|end_of_video|>"
    assert f"{pair}0.8 seconds{pair}1.7 seconds" in texts[1]


@pytest.mark.parametrize("total", [1, 5, 90, 700, 3000, 9000])
@pytest.mark.parametrize("fps", [1.0, 12.5, 29.97])
def test_frames_are_sampled_as_transformers_samples_them(total: int, fps: float) -> None:
    """Its own method, taken from its source; it repeats a last frame alone, which the patches do here."""
    about = SimpleNamespace(total_num_frames=total, fps=fps, duration=total / fps)
    for module, name, rule, numbers in (
        ("glm4v.video_processing_glm4v", "Glm4vVideoProcessor", SecondsRule(), {"fps": 2}),
        (
            "glm4v.video_processing_glm4v",
            "Glm4vVideoProcessor",
            SecondsRule(fps=1.5, max_duration=20.0),
            {"fps": 1.5, "max_duration": 20},
        ),
        ("glm46v.video_processing_glm46v", "Glm46VVideoProcessor", LengthsRule(), {}),
    ):
        processor = SimpleNamespace(**{"max_duration": 300, "temporal_patch_size": 2, **numbers})
        expected = stock_function(module, f"{name}.sample_frames")(processor, about)
        got = rule.choose(total, fps, max_frames=10_000)
        assert got == (list(dict.fromkeys(expected.tolist())) or [0]), (name, numbers)
        assert len(rule.choose(total, fps, max_frames=3)) == min(3, len(got))


def test_frames_that_a_caller_asks_for() -> None:
    for rule in (SecondsRule(), LengthsRule()):
        assert (
            rule.choose(100, 25.0, num_frames=3) == [0, 50, 99]
            or rule.choose(100, 25.0, num_frames=3)[0] == 0
        )
        assert len(rule.choose(100, 25.0, num_frames=3)) == 3
        assert len(rule.choose(250, 25.0, fps=1)) == 10
        assert rule.usual is None
        with pytest.raises(MediaError, match="fps"):
            rule.choose(100, 0.0, fps=1)
    with pytest.raises(MediaError, match="max_duration=0: must be a number above 0"):
        SecondsRule(max_duration=0)


def test_files_state_a_rate_and_a_length(load: Callable[..., Any]) -> None:
    ours = load("glm4v", {}, {"fps": 1, "max_duration": 60})
    assert ours.frame_rule == SecondsRule(fps=1.0, max_duration=60.0)
    assert load("glm46v").frame_rule == LengthsRule()
    with pytest.raises(MediaError, match="fps=0; expected a number above 0"):
        load("glm4v", {}, {"fps": 0})
    assert np.all(np.diff(ours.frame_rule.choose(500, 25.0)) > 0)


@pytest.mark.parametrize("key", ["fps", "max_duration", "size"])
def test_odd_values_of_files_are_named_or_left_out(load: Callable[..., Any], key: str) -> None:
    refused: list[str] = []
    odd = (None, True, -1, 0, 1.5, 2**70, "x", [], {"shortest_edge": "x"})
    for value in odd:
        try:
            rule = load("glm4v", {}, {key: value}).frame_rule
        except MediaError as error:
            refused.append(str(error))
            continue
        assert rule.choose(90, 30.0)
    assert 0 < len(refused) < len(odd)
    assert all("video_preprocessor_config.json of '" in said and key in said for said in refused), refused

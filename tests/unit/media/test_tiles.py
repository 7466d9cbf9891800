"""InternVL's and LLaVA-1.5's processors beside transformers' own, in the versions that need no torchvision."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import InternVLProcessor, LlavaProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from vidcompress.adapters.families import get_family, read_geometry
from vidcompress.adapters.layouts import closest_grid
from vidcompress.errors import MediaError

SIZES = (
    (56, 56), (112, 112), (40, 130), (130, 40), (300, 90), (90, 300),
    (61, 59), (500, 333), (8, 200), (200, 8), (167, 168), (90, 60),
)  # fmt: skip
GREY = 1 / 255 / 0.225
"""One grey level after normalising, where the deviation is smallest."""


def picture(height: int, width: int) -> Any:
    """Waves without hard edges: beside these Pillow, which the versions without torchvision use, rounds otherwise."""
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    waves = np.sin(x / (5 + channel) + height) + np.sin(y / (6 - channel) + width)
    return (127.5 + 50 * waves).astype(np.uint8)


class StockInternVL(InternVLProcessor):  # type: ignore[misc]
    """Without a video processor, of which transformers has no version without torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        return type(argument)


@pytest.fixture(scope="module")
def tiles_tokenizer() -> Any:
    """A tokenizer with InternVL's special tokens, for which a line break is a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [
        "<pad>",
        "<unk>",
        "<IMG_CONTEXT>",
        "<img>",
        "</img>",
        "<video>",
        "what",
        "is",
        "Frame",
        ":",
        "\n",
    ]
    words += [str(number) for number in range(10)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Digits(individual_digits=True)]
    )
    marks = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", extra_special_tokens=marks
    )


@pytest.fixture(scope="module")
def load(tiles_tokenizer: Any, tmp_path_factory: Any) -> Callable[..., Any]:
    """load(**settings) to our processor of a folder with a preprocessor_config.json of these settings."""
    import json

    from transformers import InternVLConfig, InternVLVisionConfig, Qwen2Config

    from vidcompress import load_processor

    def make(**settings: Any) -> Any:
        folder = tmp_path_factory.mktemp("internvl")
        size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        InternVLConfig(
            vision_config=InternVLVisionConfig(**size, image_size=56, patch_size=14),
            text_config=Qwen2Config(**size, num_key_value_heads=2, vocab_size=21),
            image_token_id=2,
        ).save_pretrained(folder)
        tiles_tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        return load_processor(folder)

    return make


def stock(tokenizer: Any, **settings: Any) -> Any:
    images = GotOcr2ImageProcessorPil(size={"height": 56, "width": 56}, **settings)
    return StockInternVL(
        image_processor=images, tokenizer=tokenizer, video_processor=None, image_seq_length=4
    )


STATISTICS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize(
    "settings", [{}, {"max_patches": 6}, {"min_patches": 3, "max_patches": 4}, {"max_patches": 1}]
)
def test_pictures_are_tiled_as_transformers_tiles_them(
    load: Callable[..., Any], tiles_tokenizer: Any, settings: dict[str, int]
) -> None:
    ours = load(**settings, **STATISTICS, size={"height": 56, "width": 56})
    theirs = stock(tiles_tokenizer, **settings, **STATISTICS)
    for size in SIZES:
        text = "what <IMG_CONTEXT>\n is"
        made = ours(text=text, images=picture(*size))
        expected = theirs(text=text, images=[picture(*size)], return_tensors="pt")
        assert torch.equal(made["input_ids"], expected["input_ids"]), size
        assert torch.equal(made["attention_mask"], expected["attention_mask"])
        assert made["image_sizes"].tolist() == [[*size, 0]]
        assert made["pixel_values"].shape == expected["pixel_values"].shape
        assert (made["pixel_values"] - expected["pixel_values"]).abs().max() <= 2.01 * GREY, size
    assert made["pixel_values"].std() > 0.1  # there is something to compare


def test_a_tile_that_is_turned_is_not_the_same(load: Callable[..., Any], tiles_tokenizer: Any) -> None:
    """The control of the comparison above: tiles in another order differ by much more than a grey level."""
    made = load(**STATISTICS)(text="<IMG_CONTEXT>", images=picture(112, 170))["pixel_values"]
    assert len(made) == 7
    assert (made[[1, 0, 2, 3, 4, 5, 6]] - made).abs().max() > 50 * GREY
    assert (made[6] - made[0]).abs().max() > 50 * GREY


@settings(max_examples=400, deadline=None)
@given(
    height=st.integers(1, 4000), width=st.integers(1, 4000), fewest=st.integers(1, 4), more=st.integers(0, 12)
)
@example(height=448, width=448, fewest=1, more=11)  # every square grid is as close
@example(height=634, width=634, fewest=1, more=11)
@example(height=900, width=900, fewest=1, more=11)
def test_the_grid_is_that_of_transformers(height: int, width: int, fewest: int, more: int) -> None:
    cols, rows = get_optimal_tiled_canvas((height, width), (448, 448), fewest, fewest + more)
    grid = closest_grid((height, width), fewest, fewest + more, 448)
    assert grid == (rows, cols)
    # The adapter knows how many tiles there are, and finds their places without the limits.
    assert closest_grid((height, width), rows * cols, rows * cols, 448) == grid


def test_six_tiles_lie_in_one_of_four_ways() -> None:
    grids = {closest_grid(size, 6, 6, 448) for size in ((900, 600), (600, 900), (1, 4000), (4000, 1))}
    assert grids == {(3, 2), (2, 3), (1, 6), (6, 1)}


def test_clips_are_frames_with_their_numbers(load: Callable[..., Any], tiles_tokenizer: Any) -> None:
    ours, theirs = load(**STATISTICS), stock(tiles_tokenizer)
    frames = np.stack([picture(60, 90 + 0 * n) ^ (n * 16) for n in range(3)])
    made = ours(text="what <video> is", videos=frames)
    written = theirs.replace_video_token({"pixel_values_videos": [torch.zeros(3, 3, 56, 56)]}, 0)
    assert written.startswith("Frame1: <img><IMG_CONTEXT><IMG_CONTEXT>")
    expected = tiles_tokenizer(f"what {written} is", return_tensors="pt")["input_ids"]
    assert torch.equal(made["input_ids"], expected)
    assert made["image_sizes"].tolist() == [[60, 90, 3]]
    assert "pixel_values_videos" not in made
    squashed = GotOcr2ImageProcessorPil(size={"height": 56, "width": 56}, **STATISTICS)
    alike = squashed(list(frames), crop_to_patches=False, return_tensors="pt")["pixel_values"]
    assert (made["pixel_values"] - alike).abs().max() <= 2.01 * GREY
    assert (made["pixel_values"].roll(1, 0) - alike).abs().max() > 10 * GREY


def test_pictures_and_clips_lie_in_the_order_of_the_prompts(load: Callable[..., Any]) -> None:
    ours = load(**STATISTICS)
    wide, clip = picture(56, 112), np.stack([picture(56, 56)] * 2)
    made = ours(
        text=["<video> what <IMG_CONTEXT>", "is <IMG_CONTEXT> <video>"],
        images=[[wide], [picture(56, 56)]],
        videos=[clip, clip[:1]],
    )
    assert made["image_sizes"].tolist() == [[56, 56, 2], [56, 112, 0], [56, 56, 0], [56, 56, 1]]
    alone = [
        ours(text="<video>", videos=clip),
        ours(text="<IMG_CONTEXT>", images=wide),
        ours(text="<IMG_CONTEXT>", images=picture(56, 56)),
        ours(text="<video>", videos=clip[:1]),
    ]
    assert torch.equal(made["pixel_values"], torch.cat([one["pixel_values"] for one in alone]))
    assert len(made["pixel_values"]) == 2 + 3 + 1 + 1
    with pytest.raises(MediaError, match=r"images: 2 given, but text has \[1\] '<IMG_CONTEXT>'"):
        ours(text="<IMG_CONTEXT> what", images=[wide, wide])
    with pytest.raises(MediaError, match=r"videos: 0 given, but text has \[1\] '<video>'"):
        ours(text="<video> what")


def test_numbers_of_tiles_that_are_none_are_refused(load: Callable[..., Any]) -> None:
    with pytest.raises(MediaError, match="max_patches=0: must be a whole number from 1 to 1000"):
        load(max_patches=0)
    with pytest.raises(MediaError, match="min_patches='2'"):
        load(min_patches="2")
    with pytest.raises(MediaError, match="min_patches=8 is above max_patches=4"):
        load(min_patches=8, max_patches=4)


def test_the_ratio_must_leave_whole_tokens(load: Callable[..., Any]) -> None:
    config = load().config
    for ratio in (0.3, 0.0, 2.0, 1 / 3):
        config.downsample_ratio = ratio
        with pytest.raises(MediaError, match="downsample_ratio=.*divides the 4 patches"):
            read_geometry(config, crops=False)


def test_cohere_states_the_inverse_of_the_ratio(load: Callable[..., Any]) -> None:
    other = load().config
    config = SimpleNamespace(vision_config=other.vision_config, image_token_id=other.image_token_id)
    for factor, merge in ((2, 2), (1, 1), (4, 4)):
        config.downsample_factor = factor
        assert read_geometry(config, crops=False).merge == merge
    for factor in (3, 0, 0.5, True):
        config.downsample_factor = factor
        with pytest.raises(MediaError, match="downsample_ratio=.*divides the 4 patches"):
            read_geometry(config, crops=False)


# LLaVA-1.5 ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llava_config() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=56, patch_size=14),
        text_config=LlamaConfig(**size, vocab_size=12),
        image_token_index=3,
    )


@pytest.mark.parametrize("padded", [False, True])
def test_llava_sees_what_transformers_shows(
    make_processor: Callable[..., Any], llava_config: Any, tokenizer: Any, padded: bool
) -> None:
    settings: dict[str, Any] = {
        "size": {"shortest_edge": 56},
        "crop_size": {"height": 56, "width": 56},
        "do_center_crop": True,
        "do_pad": padded,
    }
    ours = make_processor(llava_config, preprocessor_config=settings)
    theirs = LlavaProcessor(
        image_processor=LlavaImageProcessorPil(**settings),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    worst = 0.0
    for size in SIZES:
        if min(size) < 30:  # a clip's edge of Pillow's own
            continue
        made = ours(text="what is <image> ?", images=picture(*size))
        expected = theirs(text="what is <image> ?", images=[picture(*size)], return_tensors="pt")
        assert torch.equal(made["input_ids"], expected["input_ids"])
        assert set(made) == {"input_ids", "attention_mask", "pixel_values"}
        worst = max(worst, float((made["pixel_values"] - expected["pixel_values"]).abs().max()))
    assert worst <= 2.01 / 255 / 0.2613
    assert len(get_family("llava").image_layout(ours.geometry, (3, 4000))) == 16

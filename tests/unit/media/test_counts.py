"""Placeholder counts equal transformers' processors', and what the models really make of the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.llava_next_video.processing_llava_next_video import LlavaNextVideoProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

from vidcompress.adapters.families import Geometry, get_family, read_geometry
from vidcompress.errors import MediaError

NEXT_CANVASES = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
ONEVISION_CANVASES = [[384 * r, 384 * c] for r in range(1, 7) for c in range(1, 7)]
SIDES = st.integers(1, 4000)


class Bare:
    """Just the attributes that transformers' counting methods read."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@settings(max_examples=300, deadline=None)
@given(height=SIDES, width=SIDES)
@example(height=1, width=4000)
@example(height=4000, width=1)
@example(height=336, width=336)
@example(height=55, width=176)  # 14.999999999999998 rows
def test_next_counts(height: int, width: int) -> None:
    canvases = NEXT_CANVASES[:: 1 if (height + width) % 2 else -1]  # the order decides between equal fits
    geometry = Geometry("clip_vision_model", 336, 14, tuple(map(tuple, canvases)), "", 3, None)
    reference = LlavaNextProcessor.__new__(LlavaNextProcessor)
    reference.image_processor = Bare(image_grid_pinpoints=canvases)
    reference.patch_size, reference.num_additional_image_tokens = 14, 1
    expected = reference._get_number_of_features(height, width, 336, 336) - 1  # "default" drops CLS
    assert len(get_family("llava_next").image_layout(geometry, (height, width))) == expected


@settings(max_examples=300, deadline=None)
@given(height=SIDES, width=SIDES, cap=st.sampled_from([1, 4, 9]), turned=st.booleans())
@example(height=4000, width=4000, cap=9, turned=False)
@example(height=1, width=4000, cap=9, turned=False)
@example(height=738, width=820, cap=9, turned=False)  # 59.99999999999999 rows
@example(height=20, width=20, cap=9, turned=True)  # every canvas fits, the last one wastes least
def test_onevision_counts(height: int, width: int, cap: int, turned: bool) -> None:
    canvases = ONEVISION_CANVASES[:: -1 if turned else 1]
    geometry = Geometry(
        "siglip_vision_model", 384, 14, tuple(map(tuple, canvases)), f"anyres_max_{cap}", 3, 4
    )
    reference = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    reference.image_processor = Bare(image_grid_pinpoints=canvases)
    reference.num_image_tokens, reference.vision_aspect_ratio = 27 * 27, f"anyres_max_{cap}"
    expected = reference._get_number_of_features(height, width, 384, 384)
    assert len(get_family("llava_onevision").image_layout(geometry, (height, width))) == expected


@given(frames=st.integers(1, 400), side=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_onevision_clip_counts(frames: int, side: int) -> None:
    geometry = Geometry("siglip_vision_model", side * 14, 14, ((side * 14, side * 14),), "anyres_max_9", 3, 4)
    reference = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    reference.num_image_tokens, reference.video_token = side * side, "V"
    expected = reference.replace_video_token({"pixel_values_videos": [torch.zeros(frames, 3, 1, 1)]}, 0)
    family = get_family("llava_onevision")
    assert family.video_layout is not None
    assert len(family.video_layout(geometry, frames)) == len(expected)


@given(frames=st.integers(1, 400), side=st.integers(1, 20).map(lambda half: 2 * half))
@settings(max_examples=60, deadline=None)
def test_next_video_clip_counts(frames: int, side: int) -> None:
    """An odd side is where transformers' count is not what its model makes (5 x 5 patches: 6 of 4 tokens)."""
    geometry = Geometry("clip_vision_model", side * 14, 14, ((side * 14, side * 14),), "", 3, 4)
    reference = LlavaNextVideoProcessor.__new__(LlavaNextVideoProcessor)
    reference.patch_size, reference.video_token = 14, "V"
    pixels = torch.zeros(frames, 3, 1, 1).expand(-1, -1, side * 14, side * 14)
    expected = reference.replace_video_token({"pixel_values_videos": [pixels]}, 0)
    family = get_family("llava_next_video")
    assert family.video_layout is not None
    assert len(family.video_layout(geometry, frames)) == len(expected)


@pytest.mark.parametrize("side", [4, 5, 7])
def test_odd_grids_count_what_the_models_make(side: int, make_config: Callable[..., Any]) -> None:
    import transformers

    size = side * 14
    for family, extra in (("llava_video", {}), ("llava_next_video", {"spatial_pool_stride": 3})):
        config = make_config(family, size, [[size, size]], **extra)
        model = transformers.AutoModelForImageTextToText.from_config(config).eval()
        with torch.no_grad():
            made = model.get_video_features(torch.zeros(1, 3, 3, size, size)).pooler_output[0]
        layout = get_family(family).video_layout
        assert layout is not None
        assert len(layout(read_geometry(config), 3)) == made.flatten(0, -2).shape[0]


def test_llava_video_counts_of_the_published_model() -> None:
    geometry = Geometry("siglip_vision_model", 384, 14, ((384, 384),), "anyres_max_9", 3, 4)
    layout = get_family("llava_video").video_layout
    assert layout is not None
    assert len(layout(geometry, 64)) == 64 * 13 * 14 == 11648


@pytest.fixture(scope="module")
def models(make_config: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Per family: a random model, and its geometry."""
    import transformers

    grid = [[56 * r, 56 * c] for r in range(1, 4) for c in range(1, 4)]
    made = {}
    for family in ("llava_next", "llava_next_video", "llava_onevision", "llava_video"):
        extra = {} if "next" in family else {"aspect_ratio": "anyres_max_2"}
        config = make_config(family, 56, grid, **extra)
        torch.manual_seed(0)
        model = transformers.AutoModelForImageTextToText.from_config(config).eval()
        made[family] = (model, read_geometry(config))
    return made


@settings(max_examples=40, deadline=None)
@given(
    family=st.sampled_from(["llava_next", "llava_next_video", "llava_onevision", "llava_video"]),
    height=st.integers(1, 700),
    width=st.integers(1, 700),
)
def test_counts_equal_what_the_model_packs(
    family: str, height: int, width: int, models: dict[str, Any]
) -> None:
    model, geometry = models[family]
    canvas = geometry.canvas((height, width))
    views = 1 + canvas[0] * canvas[1] // 56**2
    features = model.model.pack_image_features(
        [torch.zeros(views, geometry.side**2, 32)],
        [[height, width]],
        image_newline=torch.zeros(32),
        **({"vision_feature_select_strategy": "default"} if "next" in family else {}),
        **({} if "next" in family else {"vision_aspect_ratio": geometry.aspect_ratio}),
    )[0]
    assert len(get_family(family).image_layout(geometry, (height, width))) == len(features[0])


def test_the_models_take_the_inputs(models: dict[str, Any], tokenizer: Any) -> None:
    """End to end on random models: placeholders, pixels and sizes fit, or forward raises."""
    import numpy as np

    from vidcompress.media.preprocessing.load_processor import load_processor

    picture = np.random.default_rng(0).integers(0, 256, (90, 170, 3), dtype=np.uint8)
    text = ["what is <image> ?", "<image> blue"]
    for model, _ in models.values():
        inputs = load_processor(model, tokenizer=tokenizer)(text=text, images=[picture, picture[:40, :30]])
        with torch.no_grad():
            assert model(**inputs).logits.shape[:2] == inputs["input_ids"].shape
    for family, tokens in (
        ("llava_next_video", 3 * 4),
        ("llava_onevision", 3 * 4 + 1),
        ("llava_video", 3 * 6),
    ):
        model = models[family][0]
        processor = load_processor(model, tokenizer=tokenizer)
        inputs = processor(
            text=["<image> and <image>", "<video> ?"],
            images=[[picture, picture[:, :31]]],
            videos=picture[None].repeat(3, 0),
        )
        assert processor.video_tokens(3) == int((inputs["input_ids"] == 4).sum()) == tokens
        if family != "llava_next_video":
            assert inputs["batch_num_images"].tolist() == [2]
            assert inputs["pixel_values"].shape == (2, 1, 3, 56, 56)
        with torch.no_grad():
            assert model(**inputs).logits.shape[:2] == inputs["input_ids"].shape


def test_geometry_refuses_what_the_model_could_not_run(
    models: dict[str, Any], make_config: Callable[..., Any]
) -> None:
    geometry = models["llava_onevision"][1]
    with pytest.raises(
        MediaError, match=r"image_grid_pinpoints.*\[60, 56\]|image_grid_pinpoints.*\(60, 56\)"
    ):
        read_geometry(make_config("llava_next", 56, [[60, 56]]))
    config = make_config("llava_next", 56, [[56, 56]])
    config.vision_feature_select_strategy = "full"
    with pytest.raises(MediaError, match="vision_feature_select_strategy='full'.*'default'"):
        read_geometry(config)
    config = make_config("llava_next_video", 56, [[56, 56]])
    config.spatial_pool_stride = 0
    with pytest.raises(MediaError, match="spatial_pool_stride=0 .*whole number of at least 1"):
        read_geometry(config)
    with pytest.raises(MediaError, match="vision_aspect_ratio='pad'"):
        get_family("llava_onevision").image_layout(replace(geometry, aspect_ratio="pad"), (10, 10))
    with pytest.raises(MediaError, match=r"model_type='bert'.*llava_next"):
        get_family("bert")

"""Pixels equal what transformers' torchvision processors recorded, and stay close to its Pillow ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from record_media import (
    CLIP_MEAN,
    CLIP_STD,
    FOLDER,
    IMAGE_CASES,
    VIDEO_CASES,
    canvases,
    checker,
    clips,
    pictures,
)


def recorded(name: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.mark.parametrize("name", IMAGE_CASES)
def test_images_equal_the_recording(
    name: str, make_config: Callable[..., Any], make_processor: Callable[..., Any]
):
    family, raw, sizes = IMAGE_CASES[name]
    processor = make_processor(
        make_config(family, 28, raw["image_grid_pinpoints"]), preprocessor_config=_saved(raw)
    )
    nested = isinstance(sizes[0], list)
    text = (
        [" ".join(["<image>"] * len(group)) for group in sizes]
        if nested
        else " ".join(["<image>"] * len(sizes))
    )
    made = processor(text=text, images=pictures(sizes))
    expected = recorded(name)
    assert set(made) == set(expected) | {"input_ids", "attention_mask"}
    for key, value in expected.items():
        assert made[key].dtype == value.dtype, key
        assert made[key].shape == value.shape, key
        torch.testing.assert_close(made[key], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", VIDEO_CASES)
def test_clips_equal_the_recording(
    name: str, make_config: Callable[..., Any], make_processor: Callable[..., Any]
):
    raw, shapes = VIDEO_CASES[name]
    config = make_config("llava_onevision", 28, canvases(28, 2, 2))
    processor = make_processor(config, video_preprocessor_config={**raw, "resample": 3})
    made = processor(text=" ".join(["<video>"] * len(shapes)), videos=clips(shapes))["pixel_values_videos"]
    expected = recorded(name)
    for i in range(len(shapes)):
        torch.testing.assert_close(made[i], expected[f"clip_{i}"], rtol=0, atol=1e-5)


def test_a_chunk_of_frames_is_like_all_frames(monkeypatch, make_config, make_processor):
    processor = make_processor(make_config("llava_onevision", 28, canvases(28, 2, 2)))
    clip = clips([(7, 40, 33)])[0]
    whole = processor(text="<video>", videos=clip)["pixel_values_videos"]
    monkeypatch.setattr("vidcompress.media.preprocessing.transforms.CHUNK_PIXELS", 2 * 40 * 33)
    torch.testing.assert_close(
        processor(text="<video>", videos=clip)["pixel_values_videos"], whole, rtol=0, atol=0
    )
    assert whole.std() > 0.1


@settings(max_examples=40, deadline=None)
@given(
    family=st.sampled_from(["llava_next", "llava_onevision"]),
    height=st.integers(20, 200),
    width=st.integers(20, 200),
)
def test_pixels_are_close_to_the_pillow_processors(
    family: str, height: int, width: int, loaded: dict[str, Any]
):
    """More than 2 grey levels apart on at most 1 % of the values, for pictures without pixel-sharp full contrast.

    Both kernels round and clamp after each of their two passes, in different order: where a pass overshoots black or
    white (edges of one pixel, noise), torchvision and Pillow are up to some 20 levels apart, and so are we.
    """
    sharp = Image.fromarray(checker(height * 211 + width, height, width))
    picture = sharp.filter(ImageFilter.GaussianBlur(1.5))
    mine, reference = loaded[family]
    ours = mine(text="<image>", images=picture)["pixel_values"]
    theirs = reference(picture, return_tensors="pt")["pixel_values"]
    assert ours.shape == theirs.shape
    levels = (ours - theirs).abs() * torch.tensor(CLIP_STD).view(1, 1, 3, 1, 1) * 255
    assert float((levels > 2.01).float().mean()) <= 0.01
    assert float(levels.mean()) <= 0.25


@pytest.fixture(scope="module")
def loaded(make_config: Callable[..., Any], make_processor: Callable[..., Any]) -> dict[str, Any]:
    """Per family, our processor and transformers' Pillow one with the same settings."""
    grid, both = canvases(56, 3, 3), {}
    for family, kind in (("llava_next", "LlavaNext"), ("llava_onevision", "LlavaOnevision")):
        raw = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "image_grid_pinpoints": grid}
        raw["size"] = {"shortest_edge": 56} if family == "llava_next" else {"height": 56, "width": 56}
        if family == "llava_next":
            raw["crop_size"] = {"height": 56, "width": 56}
        mine = make_processor(make_config(family, 56, grid), preprocessor_config=_saved(raw))
        reference = getattr(transformers, f"{kind}ImageProcessorPil")(**raw)
        both[family] = (mine, reference)
    return both


def _saved(raw: dict[str, Any]) -> dict[str, Any]:
    """Settings as a checkpoint's preprocessor_config.json holds them."""
    return {**raw, "resample": 3, "do_center_crop": "crop_size" in raw, "rescale_factor": 1 / 255}

"""Sides, patches, grids, times and frames of the families with native resolution, from their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vidcompress import MediaError
from vidcompress.media.preprocessing.native_resolution import (
    PatchGeometry,
    PixelBudget,
    clip_patches,
    filled,
    image_patches,
    patch_times,
    seconds_per_grid,
    smart_resize,
    smart_resize_clip,
    timestamp,
    to_patches,
)
from vidcompress.media.video.paced_rule import PacedRule

SIZES = ((20, 30), (56, 56), (100, 300), (480, 640), (1080, 1920), (10, 1999), (28, 28), (3, 5), (1000, 7))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("patch, channels", [(14, CLIP), (16, HALF)], ids=["14", "16"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pictures_are_those_of_the_stock_processor_with_pillow(size, patch, channels):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    stock = Qwen2VLImageProcessorPil(patch_size=patch, image_mean=channels[0], image_std=channels[1])
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    expected = stock(picture, return_tensors="np")
    budget = PixelBudget(stock.size["shortest_edge"], stock.size["longest_edge"])
    values, grid = image_patches(picture, PatchGeometry(patch), budget, mean=channels[0], std=channels[1])
    assert tuple(expected["image_grid_thw"][0]) == grid
    np.testing.assert_allclose(values, expected["pixel_values"], rtol=0, atol=1e-5)
    other, _ = image_patches(picture, PatchGeometry(patch), budget, mean=(0.4,) * 3, std=(0.5,) * 3)
    assert np.abs(other - expected["pixel_values"]).max() > 1e-2


def test_smart_resize_keeps_the_budget_and_multiples():
    assert smart_resize((480, 640), 28, 56 * 56, 28 * 28 * 1280) == (476, 644)
    assert smart_resize((480, 640), 32, 65536, 16777216) == (480, 640)
    assert smart_resize((3, 5), 28, 56 * 56, 28 * 28 * 1280) == (56, 84)
    height, width = smart_resize((4000, 3000), 28, 56 * 56, 28 * 28 * 1280)
    assert height * width <= 28 * 28 * 1280 and height % 28 == width % 28 == 0
    with pytest.raises(MediaError, match="200 times"):
        smart_resize((1, 201), 28, 56 * 56, 28 * 28 * 1280)


def test_the_budget_of_a_clip_counts_all_frames_in_one_family_and_each_in_the_other():
    three, two = PixelBudget(4096, 32 * 640 * 640, over_clip=True), PixelBudget(4096, 32 * 640 * 640)
    geometry = PatchGeometry(16)
    assert two.frame_size(128, (640, 640), geometry) == (640, 640)
    assert three.frame_size(32, (640, 640), geometry) == (640, 640)
    assert three.frame_size(128, (640, 640), geometry) == (320, 320)
    assert smart_resize_clip(2, (20, 400), 32, 2, 4096, 10**7) == (32, 640)
    assert three.frame_size(1, (64, 64), geometry) == three.frame_size(2, (64, 64), geometry)


def test_the_budget_of_a_picture_may_count_the_frames_that_it_stands_for():
    geometry, most = PatchGeometry(16), 2 * 640 * 640
    assert PixelBudget(4096, most).image_size((640, 640), geometry) == (640, 640)
    assert PixelBudget(4096, most, over_clip=True).image_size((640, 640), geometry) == (640, 640)
    assert PixelBudget(4096, most // 2, over_clip=True).image_size((640, 640), geometry) == (448, 448)
    assert PixelBudget(4096, most // 2).image_size((640, 640), geometry) == (640, 640)


def test_caps_of_a_frame():
    geometry = PatchGeometry(16)
    capped = PixelBudget(4096, 25165824, over_clip=True, frame_tokens=100)
    assert capped.frame_size(4, (1024, 1024), geometry) == (320, 320)
    assert PixelBudget(4096, 25165824, over_clip=True).frame_size(4, (1024, 1024), geometry) == (1024, 1024)
    shared = PixelBudget(3136, 602112, clip_tokens=1000)
    assert shared.frame_size(90, (560, 560), PatchGeometry(14)) == (112, 112)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_patches_stand_in_blocks_and_the_last_frame_is_repeated(kind):
    geometry = PatchGeometry(patch=2)
    frames = np.arange(3 * 1 * 4 * 8, dtype=np.float32).reshape(3, 1, 4, 8)
    patches = np.asarray(to_patches(frames if kind == "numpy" else torch.from_numpy(frames), geometry))
    assert patches.shape == (2 * 2 * 4, 1 * 2 * 2 * 2)
    first = [patches[i, 0] for i in range(8)]
    assert first == [0, 2, 16, 18, 4, 6, 20, 22]  # two blocks of 2 x 2, each row by row
    assert patches[0].tolist() == [
        0,
        1,
        8,
        9,
        32,
        33,
        40,
        41,
    ]  # both frames of a channel, then the next channel
    assert (patches[8:, :4] == patches[8:, 4:]).all()  # the third frame stands twice
    assert len(filled(frames, 2)) == 4 and filled(frames, 3) is frames


def test_grids_times_and_stamps():
    geometry = PatchGeometry(14)
    assert geometry.grid(7, (56, 84)) == (4, 4, 6)
    assert patch_times((0.0, 1.0, 2.0, 5.0, 9.0), 2) == (0.5, 3.5, 9.0)
    assert timestamp(3.25) == "<3.2 seconds>" and timestamp(0.5) == "<0.5 seconds>"
    assert seconds_per_grid(8, 96, 24.0, 2) == 1.0 and seconds_per_grid(4, 4, 0.0, 2) == 2 / 24


def test_clips_are_prepared_frame_by_frame():
    frames = np.random.default_rng(1).integers(0, 256, (5, 40, 70, 3), dtype=np.uint8)
    geometry, budget = PatchGeometry(14), PixelBudget(28 * 28, 28 * 28 * 12)
    values, grid = clip_patches(frames, geometry, budget, mean=HALF[0], std=HALF[1])
    assert grid == (3, 2, 4) and values.shape == (24, 3 * 2 * 14 * 14)
    alone, _ = clip_patches(frames[4:], geometry, budget, mean=HALF[0], std=HALF[1])
    np.testing.assert_array_equal(alone, values[-8:])


def test_frames_of_qwen3_are_the_nearest_to_even_places():
    rule = PacedRule()
    assert rule.choose(90, 30.0) == [0, 18, 36, 53, 71, 89]
    assert rule.choose(10, 30.0) == [0, 3, 6, 9]  # four at least
    assert rule.choose(3, 30.0) == [0, 1, 2] and rule.choose(1, 30.0) == [0]
    assert len(rule.choose(10**6, 30.0, max_frames=1000)) == 768 and len(rule.choose(10**6, 30.0)) == 300
    assert rule.choose(90, 30.0, num_frames=3) == [0, 44, 89]
    assert rule.choose(48, 0.0) == rule.choose(48, 24.0)
    with pytest.raises(MediaError, match="frame rate"):
        rule.choose(48, 0.0, fps=2)


def test_frames_of_qwen2_are_steps_and_even_in_number():
    rule = PacedRule(multiple=2, spread="steps")
    assert rule.choose(90, 30.0) == [0, 15, 30, 45, 60, 75]
    assert rule.choose(90, 30.0, fps=1) == [0, 22, 45, 67]
    assert rule.choose(90, 30.0, num_frames=7) == [0, 11, 22, 33, 45, 56, 67, 78]
    assert rule.choose(5, 30.0) == [0, 1, 2, 3]
    assert rule.choose(1, 30.0) == [0]
    counts = [len(rule.choose(100, 25.0, num_frames=n, max_frames=n)) for n in (1, 2, 3, 7, 11)]
    assert counts == [1, 2, 2, 6, 10]  # not above `max_frames`, to which 8 and 12 would round


def test_a_rate_that_cannot_be_met_is_noted():
    rule = PacedRule()
    assert rule.note(10**5, 25.0, fps=5, max_frames=100) == (
        "fps=5 makes 20000 frames of this clip; 100 were taken, spread over all",
    )
    assert rule.note(100, 25.0, fps=5) == () and rule.note(100, 25.0, fps=None) == ()


@pytest.mark.parametrize("arguments", [{"fps": 0}, {"min_frames": 0}, {"spread": "both"}, {"multiple": 1.5}])
def test_rules_refuse_what_is_none(arguments):
    with pytest.raises(MediaError, match=next(iter(arguments))):
        PacedRule(**arguments)

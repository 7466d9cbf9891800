"""Layouts from a config and sizes alone are those that adapters make of inputs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.image_processing_utils import select_best_resolution

from tiny_models import ANYRES_MAX, FAMILIES, MOST_TILES, VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.families import get_family, read_geometry
from vidcompress.adapters.layouts import best_canvas
from vidcompress.adapters.model_shape import geometry_of
from vidcompress.adapters.traits import encoder_has_cls
from vidcompress.core.layout import Layout

SIZES = [
    (1, 1),
    (56, 56),
    (112, 112),
    (100, 300),
    (300, 100),
    (57, 113),
    (336, 336),
    (640, 480),
    (10, 2000),
    (33, 7),
]
INDEX = ("view", "row", "col", "line", "separator", "source")


def same(one: Layout, other: Layout) -> bool:
    numbers = (
        "modality",
        "views",
        "grid",
        "canvas",
        "sizes",
        "num_separators",
        "num_lines",
        "full_length",
        "picture",
    )
    return all(getattr(one, name) == getattr(other, name) for name in numbers) and all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in INDEX
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures(family: str) -> None:
    model, record = tiny_model(family), get_family(family)
    geometry = replace(read_geometry(model.config, crops=record.crops), tiles=(1, MOST_TILES))
    for size in SIZES:
        (visual,), _ = adapter_for(model).visuals(batch(model, [Scene((("image", size),))]))
        assert same(record.image_layout(geometry, size), visual.layout)
    if family in ANYRES_MAX:
        scene = Scene((("image", (112, 80)), ("image", (56, 56))))
        (visual, _), _ = adapter_for(model).visuals(batch(model, [scene]))
        assert record.single_view_layout is not None
        assert same(record.single_view_layout(geometry), visual.layout)
        assert not same(record.image_layout(geometry, (112, 80)), visual.layout)
    else:
        assert record.single_view_layout is None


@pytest.mark.parametrize("family", FAMILIES)
def test_presets(family: str) -> None:
    model, record = tiny_model(family), get_family(family)
    geometry = read_geometry(model.config, crops=record.crops)
    assert bool(record.presets) == (record.preset_layout is not None)
    for preset in record.presets:
        for size in SIZES:
            inputs = batch(model, [Scene((("image", size),))], preset=preset.name)
            (visual,), _ = adapter_for(model).visuals(inputs)
            assert record.preset_layout is not None
            assert same(record.preset_layout(geometry, preset, size), visual.layout)


@pytest.mark.parametrize("family", FAMILIES)
def test_clips(family: str) -> None:
    model, record = tiny_model(family), get_family(family)
    geometry = read_geometry(model.config, crops=record.crops)
    assert (record.video_layout is None) == (family not in VIDEO_FAMILIES)
    for frames in (1, 2, 9) if record.video_layout else ():
        _, (visual,) = adapter_for(model).visuals(batch(model, [Scene((("video", frames),))]))
        assert same(record.video_layout(geometry, frames), visual.layout)  # type: ignore[misc]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_config_says_what_the_encoder_holds(family: str) -> None:
    """One rule for adapters and `cost`; the module itself is the judge."""
    model = tiny_model(family)
    holds = any(
        name.endswith(("embeddings.class_embedding", "embeddings.cls_token"))
        for name, _ in model.model.vision_tower.named_parameters()
    )
    assert encoder_has_cls(model.config) == adapter_for(model).has_cls == holds
    assert geometry_of(model.config).encoder.cls == int(holds)


def test_an_encoder_that_is_not_known_goes_by_the_strategy() -> None:
    vision = SimpleNamespace(model_type="no_such_encoder")
    for strategy, has_cls in (("default", True), ("full", False), (None, False)):
        config = SimpleNamespace(vision_config=vision, vision_feature_select_strategy=strategy)
        assert encoder_has_cls(config) is has_cls
    siglip = SimpleNamespace(model_type="siglip_vision_model")
    assert not encoder_has_cls(
        SimpleNamespace(vision_config=siglip, vision_feature_select_strategy="default")
    )


@pytest.mark.parametrize("pinpoints", [[(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)], None])
def test_the_canvas_is_that_of_transformers(pinpoints: Any) -> None:
    crops = pinpoints or [(i, j) for i in range(1, 7) for j in range(1, 7)]
    canvases = [(384 * rows, 384 * cols) for rows, cols in crops]
    sizes = torch.randint(1, 3000, (400, 2), generator=torch.Generator().manual_seed(0)).tolist()
    for height, width in sizes:
        assert best_canvas((height, width), canvases) == tuple(
            select_best_resolution((height, width), canvases)
        )

"""What `encode` needs beside its result does not grow with the number of frames or pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny_models import CROPPED, FAMILIES, SIDE, VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress.adapters.base import Visual, adapter_for
from vidcompress.core.tokens import Evidence
from vidcompress.tools.benchmark.live_bytes import LiveBytes

RECEIVED = Evidence("attention_received", -1)
MAX_VIEWS = 4


def beside(family: str, visuals: list[Visual], **options: Any) -> int:
    """Most bytes alive in `encode`, without those of its result."""
    for (
        visual
    ) in visuals:  # index tensors that a layout keeps for later belong to the geometry, not to encoding
        assert visual.layout.token_index.numel() + visual.layout.separator_index.numel() == len(visual.layout)
    with torch.no_grad(), LiveBytes() as counter:
        made = adapter_for(tiny_model(family)).encode(visuals, max_views=MAX_VIEWS, **options)
    kept = [tensor for tokens in made for tensor in (tokens.features, *tokens.evidence.values())]
    assert counter.peak > sum(tensor.nbytes for tensor in kept) > 0
    return counter.peak - sum(tensor.nbytes for tensor in kept)


def clip(family: str, frames: int) -> Visual:
    model = tiny_model(family)
    pixels = {"pixel_values_videos": torch.zeros(1, frames, 3, SIDE, SIDE)}
    if family == "internvl":
        pixels = batch(model, [Scene((("video", frames),))])
    return adapter_for(model).visuals(pixels)[1][0]


@pytest.mark.parametrize("evidence", [(), (RECEIVED,)], ids=["features", "evidence"])
@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_longer_clips_need_no_more(family: str, evidence: tuple[Evidence, ...]) -> None:
    short, long = (beside(family, [clip(family, n)], evidence=evidence) for n in (32, 128))
    assert long <= 1.05 * short


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_more_clips_need_no_more(family: str) -> None:
    few, many = (beside(family, [clip(family, 7) for _ in range(n)]) for n in (4, 16))
    assert many <= 1.05 * few


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_leaving_frames_out_copies_no_pixels(family: str) -> None:
    """Every other frame: the pixels of those that stay are gathered a chunk at a time."""
    short, long = (beside(family, [clip(family, n)], frames=[tuple(range(0, n, 2))]) for n in (32, 128))
    frame = (
        3 * SIDE * SIDE * 4
    )  # bytes of one frame's pixels; the layout of the frames that stay is small against it
    assert long - short < (64 - 16) * frame / 20


@pytest.mark.parametrize("evidence", [(), (RECEIVED,)], ids=["features", "evidence"])
@pytest.mark.parametrize("family", FAMILIES)
def test_more_pictures_need_no_more(family: str, evidence: tuple[Evidence, ...]) -> None:
    def pictures(count: int) -> list[Visual]:
        views = torch.zeros(5, 3, SIDE, SIDE)
        adapter = adapter_for(tiny_model(family))
        if family not in CROPPED:
            count *= 5 if family == "llava" else 1  # as many views
            return adapter.visuals(batch(adapter.model, [Scene((("image", (112, 112)),))] * count))[0]
        layout = adapter.image_layout((112, 80), False, "cpu")  # type: ignore[attr-defined]
        return [adapter.image(views, (112, 80), layout) for _ in range(count)]  # type: ignore[attr-defined]

    few, many = (beside(family, pictures(n), evidence=evidence) for n in (4, 16))
    assert many <= 1.05 * few

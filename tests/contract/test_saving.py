"""`encoder_saving` over every family that takes clips: off is off, copies cost nothing, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tiny_models import VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress import compress, compress_inputs

COPIES = (0, 1, 0, 0, 4, 1)


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """Views that the encoder sees."""
    seen: list[int] = []
    handle = model.model.vision_tower.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    try:
        yield seen
    finally:
        handle.remove()


def clips(model: Any) -> dict[str, torch.Tensor]:
    """A clip with copies, one without, and a question without a clip."""
    inputs = batch(model, [Scene((("video", 6),)), Scene(()), Scene((("video", 6),))])
    inputs["pixel_values_videos"][0] = inputs["pixel_values_videos"][0][list(COPIES)]
    return inputs


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_copies_are_not_encoded_and_nothing_else_changes(family: str) -> None:
    model = tiny_model(family)
    inputs = clips(model)
    with counted(model) as all_views:
        plain = compress_inputs(model, inputs, retention_ratio=0.5)
    with counted(model) as fewer:
        spared = compress_inputs(model, inputs, retention_ratio=0.5, encoder_saving="frames")
    assert (sum(all_views), sum(fewer)) == (12, 9)
    assert torch.equal(plain["input_ids"], spared["input_ids"])
    for one, other in zip(plain.report.visuals, spared.report.visuals, strict=True):
        assert torch.equal(one.kept_positions, other.kept_positions)
    for one, other in zip(rows(plain), rows(spared), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert "3 of 6 frames look like an earlier one and were not encoded" in str(spared.report)
    assert spared.report.visuals[1].note is None


@pytest.mark.parametrize("method", ["fastervlm", "fastvid", "frames", "prumerge", "cdpruner", "dycoke"])
@pytest.mark.parametrize("family", ["llava_next_video", "llava_video"])
def test_evidence_follows_the_frames(family: str, method: str) -> None:
    model = tiny_model(family)
    inputs = clips(model)
    plain, spared = (
        compress_inputs(model, inputs, method, retention_ratio=0.6, encoder_saving=saving)
        for saving in ("off", "frames")
    )
    for one, other in zip(rows(plain), rows(spared), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_off_is_bit_equal_and_the_default(family: str) -> None:
    model = tiny_model(family)
    inputs = clips(model)
    with counted(model) as seen:
        default, off = (
            compress_inputs(model, inputs, retention_ratio=0.5, **o) for o in ({}, {"encoder_saving": "off"})
        )
    assert sum(seen) == 24
    for one, other in zip(rows(default), rows(off), strict=True):
        assert torch.equal(one, other)


def test_images_are_left_alone_and_the_block_takes_it() -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("image", (60, 60)), ("video", 3)))])
    inputs["pixel_values_videos"][0][:] = inputs["pixel_values_videos"][0][:1].clone()
    with compress(model, retention_ratio=1.0, encoder_saving="frames") as session, counted(model) as seen:
        model(**inputs)
    views = len(session.report.visuals[0].views)
    assert sum(seen) == views + 1
    logits = []
    for saving in ("off", "frames"):
        with compress(model, retention_ratio=1.0, encoder_saving=saving):
            logits.append(model(**inputs).logits)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-5)


def rows(compressed: Any) -> list[torch.Tensor]:
    """What goes to the language model, row by row."""
    return list(compressed["mm_encoder_outputs"]["image"].pooler_output)

"""`encoder_saving` over every family that takes clips: off is off, copies cost nothing, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tiny_models import CROPPED, VIDEO_FAMILIES, Scene, batch, sent_rows, tiny_model
from vidcompress import VisualQA, compress, compress_inputs
from vidcompress.errors import ArgumentError, UnsupportedInputError

pytestmark = pytest.mark.transformers

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
    first = inputs["pixel_values"][:6] if "pixel_values" in inputs else inputs["pixel_values_videos"][0]
    first[:] = first[list(COPIES)]
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
    assert [visual.encoded for visual in spared.report.visuals] == [3, 6]
    assert spared.report.visuals[0].to_dict()["encoded_views"] == 3


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


def test_frames_left_out_by_the_method_are_not_encoded_either() -> None:
    model = tiny_model("llava_onevision")
    inputs = clips(model)
    with counted(model) as seen:
        report = compress_inputs(model, inputs, "frames", retention_ratio=0.6, encoder_saving="frames").report
    assert [visual.encoded for visual in report.visuals] == [2, 3]  # frames 0, 2 and 5 of either clip
    assert sum(seen) == 5


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


IMAGES = [
    Scene((("image", (112, 112)),)),
    Scene((("image", (100, 50)),), seed=1),
    Scene((("image", (40, 112)),), seed=2),
]


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("family", (*CROPPED, "internvl"))
def test_crops_that_get_nothing_are_not_encoded_and_nothing_else_changes(family: str, ratio: float) -> None:
    model = tiny_model(family)
    inputs = batch(model, IMAGES)
    options: dict[str, Any] = {"retention_ratio": ratio, "allocation": "gated"}
    with counted(model) as every:
        plain = compress_inputs(model, inputs, **options)
    with counted(model) as fewer:
        spared = compress_inputs(model, inputs, encoder_saving="crops", **options)
    for one, other in zip(plain.report.visuals, spared.report.visuals, strict=True):
        assert one.kept == other.kept == one.budget
        assert torch.equal(one.kept_positions, other.kept_positions)
    for one, other in zip(rows(plain), rows(spared), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert sum(fewer) == sum(visual.encoded for visual in spared.report.visuals)
    assert sum(every) == (5 + 3 + 4 if family == "internvl" else 5 + 3 + 3)
    assert (sum(fewer) == sum(every)) is (ratio >= 0.5)  # twice the tokens to keep need every view
    if ratio == 0.1:
        assert sum(fewer) == 2 * 3
        assert "views are worth too little and were not encoded" in str(spared.report)


def test_crops_of_a_resized_canvas_are_refused() -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("image", (330, 330)),))])
    with pytest.raises(
        UnsupportedInputError, match="cannot leave out crops of a canvas that the model resizes"
    ):
        compress_inputs(model, inputs, retention_ratio=0.1, allocation="gated", encoder_saving="crops")


def test_crops_need_an_allocation_that_gives_nothing() -> None:
    model = tiny_model("llava_next")
    inputs = batch(model, IMAGES[:1])
    with pytest.raises(
        ArgumentError, match=r"allocation='softmax_sum' gives every crop something; add allocation="
    ):
        compress_inputs(model, inputs, retention_ratio=0.1, encoder_saving="crops")
    with pytest.raises(ArgumentError, match="which method 'random' does not decide by the thumbnail"):
        compress_inputs(model, inputs, "random", retention_ratio=0.1, encoder_saving="crops")


def test_both_at_once_and_before_a_method_inside() -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("image", (112, 112)), ("video", 4)))])
    inputs["pixel_values_videos"][0][1:] = inputs["pixel_values_videos"][0][:1]
    made = compress_inputs(
        model,
        inputs,
        "globalcom2+fastv",
        retention_ratio=0.2,
        before_ratio=0.25,
        allocation="gated",
        encoder_saving="frames+crops",
    )
    assert [visual.encoded for visual in made.report.visuals] == [3, 1]
    with made.pruning():
        assert model.generate(**made, max_new_tokens=2).shape[1] == made["input_ids"].shape[1] + 2


def test_a_comparison_has_the_whole_model_first_and_its_controls() -> None:
    qa = VisualQA.from_pretrained("tiny-next", encoder_saving="crops", device="cpu", allocation="gated")
    compared = qa.compare(
        "what digit is shown?",
        image="examples/scene.png",
        methods=["globalcom2:allocation=gated"],
        retention_ratios=0.1,
        repeats=2,
        max_new_tokens=1,
    )
    encoded = {row.label: row.answer.report.visuals[0].encoded for row in compared.rows}
    assert encoded == {"none": 5, "globalcom2:allocation=gated": 2, "random": 5, "uniform": 5}


def test_the_whole_model_of_a_comparison_encodes_copies_too() -> None:
    qa = VisualQA.from_pretrained("tiny-onevision", encoder_saving="frames", device="cpu")
    still = np.zeros((4, 112, 112, 3), dtype=np.uint8)
    made = {
        "video": still,
        "methods": "globalcom2",
        "retention_ratios": 0.5,
        "repeats": 2,
        "max_new_tokens": 1,
    }
    compared = qa.compare("what digit is shown?", **made)
    assert [row.answer.report.visuals[0].encoded for row in compared.rows] == [4, 1, 1, 1]


def rows(compressed: Any) -> list[torch.Tensor]:
    """What goes to the language model, row by row."""
    return sent_rows(compressed)

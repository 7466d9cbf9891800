"""Virtual tiles over models: native pictures are cut, families with crops keep what they had."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mrope_family import FAMILIES, mrope_inputs, mrope_model
from tiny_models import Scene, batch, tiny_model
from vidcompress import compress_inputs, testing
from vidcompress.methods.globalcom2 import GlobalCom2

WIDE, ODD, CLIP = ("image", (1, 8, 24)), ("image", (1, 10, 14)), ("video", (3, 8, 8))


@pytest.mark.usefixtures("mrope_adapter")
@pytest.mark.parametrize("family", FAMILIES)
def test_native_pictures_keep_the_contract(family: str) -> None:
    model = mrope_model(family)
    rows: list[list[Any]] = [[5, WIDE, 6, CLIP, 7, 8], [4, ODD, 9], [3, 2, 5]]
    testing.check_adapter(model, mrope_inputs(model, rows), [GlobalCom2(tiles=4, tau=0.1)])


@pytest.mark.usefixtures("mrope_adapter")
@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_are_cut_and_clips_are_not(family: str) -> None:
    model = mrope_model(family)
    inputs = mrope_inputs(model, [[5, WIDE, 6, CLIP, 7, 8], [4, ODD, 9]])
    got = compress_inputs(model, inputs, "globalcom2:tiles=4,tau=0.1", retention_ratio=0.25).report
    plain = compress_inputs(model, inputs, "globalcom2:tau=0.1,tiles=1", retention_ratio=0.25).report
    default = compress_inputs(model, inputs, "globalcom2:tau=0.1", retention_ratio=0.25).report
    wide, clip, odd = got.visuals
    for one, other in zip(got.visuals, default.visuals, strict=True):
        assert torch.equal(one.kept_positions, other.kept_positions), "four is the default"
    assert [view.kind for view in wide.views] == [view.kind for view in plain.visuals[0].views] == ["image"]
    assert [tile.grid for tile in wide.tiles] == [(4, 3)] * 4
    assert [tile.total for tile in odd.tiles] == [6, 8, 9, 12]
    assert (wide.kept, clip.kept, odd.kept) == (12, 12, 9) == tuple(visual.kept for visual in plain.visuals)
    assert clip.tiles == () and torch.equal(clip.kept_positions, plain.visuals[1].kept_positions)
    assert not torch.equal(wide.kept_positions, plain.visuals[0].kept_positions)
    one = compress_inputs(model, inputs, "globalcom2:tiles=1", retention_ratio=0.25).report
    two = compress_inputs(model, inputs, "globalcom2:tau=0.1,alpha=1,tiles=1", retention_ratio=0.25).report
    for number in (0, 2):  # one view: nothing but its own evidence counts
        assert torch.equal(one.visuals[number].kept_positions, two.visuals[number].kept_positions)


@pytest.mark.parametrize("family", ["llava", "llava_next", "llava_onevision"])
def test_thumbnails_and_crops_keep_what_they_had(family: str) -> None:
    """In one batch with pictures that are a thumbnail alone, which no number of tiles cuts."""
    model = tiny_model(family)
    inputs = batch(
        model, [Scene((("image", (112, 80)), ("image", (56, 56)))), Scene((("image", (60, 200)),))]
    )
    plain = compress_inputs(model, inputs, "globalcom2:tiles=1", retention_ratio=0.4).report
    cut = compress_inputs(model, inputs, "globalcom2:tiles=6", retention_ratio=0.4).report
    for before, after in zip(plain.visuals, cut.visuals, strict=True):
        assert before.tiles == after.tiles == () and before.note == after.note
        assert torch.equal(before.kept_positions, after.kept_positions)
        assert [view.share for view in before.views] == [view.share for view in after.views]
        assert before.views[0].kind == "thumbnail"
    lone = [len(visual.layout.views) == 1 for visual in plain.visuals]
    assert (any(lone), all(lone)) == (family != "llava_next", family == "llava"), (
        "LLaVA-NeXT has crops of every picture"
    )

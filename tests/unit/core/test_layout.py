"""Layouts: what follows from geometry, and that derived tables say the same as a walk over the positions."""

from __future__ import annotations

import pytest
import torch

from layouts import IMAGES, LAYOUTS, VIDEOS, make_tokens
from vidcompress.core.layout import Layout
from vidcompress.core.tokens import Evidence, VisualTokens


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_tables_agree_with_a_walk(layout: Layout) -> None:
    owners, newline = layout.view.tolist(), layout.separator.tolist()
    views = len(layout.views)
    assert [o == views for o in owners] == newline
    assert len(layout) == sum(layout.sizes) + layout.num_separators == layout.full_length
    assert layout.num_tokens == sum(layout.sizes)
    assert layout.sizes_tensor.tolist() == [*layout.sizes, layout.num_separators]
    assert layout.token_index.tolist() == [i for i, s in enumerate(newline) if not s]
    assert layout.separator_index.tolist() == [i for i, s in enumerate(newline) if s]
    assert layout.source.tolist() == list(range(len(layout)))
    width = max(layout.sizes)
    for v, row in enumerate(layout.table.tolist()):
        mine = [i for i, o in enumerate(owners) if o == v]
        assert row == mine + [len(layout)] * (width - len(mine))
    for view, size in zip(layout.views, layout.sizes, strict=True):
        assert view.rows * view.cols == size


@pytest.mark.parametrize("layout", IMAGES.values(), ids=IMAGES)
def test_boxes_tile_the_thumbnail(layout: Layout) -> None:
    crops = [view for view in layout.views if view.kind == "crop"]
    if not crops:
        return
    area = sum((b[2] - b[0]) * (b[3] - b[1]) for view in crops if (b := view.box))
    assert area == pytest.approx(layout.grid[0] * layout.grid[1])
    for view in crops:
        assert view.box is not None
        assert view.nominal_box is not None
        for box in (view.box, view.nominal_box):
            assert 0 <= box[0] <= box[2] <= layout.grid[0]
            assert 0 <= box[1] <= box[3] <= layout.grid[1]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_frames_of_clips_are_runs_and_crops_are_not(layout: Layout) -> None:
    if layout.modality == "image":
        assert layout.run is None
        return
    run = layout.run
    assert run is not None
    for t in range(len(layout.views)):
        part = layout.view[t * run : (t + 1) * run]
        assert int((part == t).sum()) == layout.sizes[t]


def test_unusual_order_of_frames_is_no_run() -> None:
    layout = VIDEOS["no newline"]
    from dataclasses import replace

    assert replace(layout, view=layout.view.flip(0)).run is None


@pytest.mark.parametrize("layout", VIDEOS.values(), ids=VIDEOS)
def test_restriction_to_frames_keeps_places(layout: Layout) -> None:
    frames = tuple(range(0, len(layout.views), 2))
    fewer = layout.restrict_to_frames(torch.tensor(frames), frames)
    assert fewer.full_length == layout.full_length
    assert fewer.views == tuple(layout.views[i] for i in frames)
    for new, (old, owner) in enumerate(zip(fewer.source.tolist(), fewer.view.tolist(), strict=True)):
        before = int(layout.view[old])
        assert owner == (len(frames) if before == len(layout.views) else frames.index(before))
        for name in ("row", "col", "line", "separator"):
            assert int(getattr(fewer, name)[new]) == int(getattr(layout, name)[old]), name
    for name in ("row", "col", "line", "separator", "source"):
        assert getattr(fewer, name).shape == fewer.view.shape, name
    assert fewer.num_separators == layout.num_separators


def test_moving_to_the_same_device_is_free() -> None:
    layout = IMAGES["two by two"]
    assert layout.to("cpu") is layout
    moved = layout.to("meta")
    assert moved.view.device.type == "meta"
    assert moved.sizes == layout.sizes


def test_repr_is_one_line() -> None:
    text = repr(make_tokens(IMAGES["two by two"]))
    assert "features=(192, 12)" in text
    assert "\n" not in text


def test_wrong_shapes_are_refused() -> None:
    layout = IMAGES["one view"]
    with pytest.raises(ValueError, match=r"features must have shape \(N, D\) with N = 21"):
        VisualTokens(torch.zeros(3, 4), layout)
    with pytest.raises(ValueError, match="features must have shape"):
        VisualTokens(torch.zeros(21), layout)
    with pytest.raises(ValueError, match=r"evidence\[Evidence.*must have shape"):
        VisualTokens(torch.zeros(21, 4), layout, {Evidence("cls_logits"): torch.zeros(20)})

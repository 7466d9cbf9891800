"""Adapters against the stock model: geometry, features, evidence, chunks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiny_models import ANYRES_MAX, CROPPED, PATCH, SIDE, SIZES, VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.layouts import image_layout, shrunk_canvas, unpadded_box, video_layout
from vidcompress.core.tokens import Evidence
from vidcompress.errors import UnsupportedModelError

GRID = (SIDE // PATCH, SIDE // PATCH)
CLIPS = tuple(family for family in VIDEO_FAMILIES if family in CROPPED)
"""The other families have tests of their own."""


@pytest.mark.parametrize("max_views", [1, 3, 64])
@pytest.mark.parametrize("family", CROPPED)
def test_features_are_the_stock_models_to_the_bit(family: str, max_views: int) -> None:
    model = tiny_model(family)
    adapter = adapter_for(model)
    inputs = batch(model, [Scene((("image", size),), seed=i) for i, size in enumerate(SIZES)])
    images, _ = adapter.visuals(inputs)
    options = {"batch_num_images": inputs["batch_num_images"]} if family in ANYRES_MAX else {}
    with torch.no_grad():
        stock = model.get_image_features(
            inputs["pixel_values"], inputs["image_sizes"], **options
        ).pooler_output
        mine = adapter.encode(images, max_views=max_views)
    assert len(mine) == len(stock)
    assert all(torch.equal(a.features, b) for a, b in zip(mine, stock, strict=True))


@pytest.mark.parametrize("max_views", [1, 3, 64])
@pytest.mark.parametrize("family", CLIPS)
def test_video_features_are_the_stock_models_to_the_bit(family: str, max_views: int) -> None:
    model = tiny_model(family)
    adapter = adapter_for(model)
    inputs = batch(model, [Scene((("video", 7),), seed=1), Scene((("video", 7),), seed=2)])
    with torch.no_grad():
        stock = model.get_video_features(inputs["pixel_values_videos"]).pooler_output
        mine = adapter.encode(adapter.visuals(inputs)[1], max_views=max_views)
    assert all(torch.equal(t.features, s.flatten(0, -2)) for t, s in zip(mine, stock, strict=True))


@pytest.mark.parametrize("max_views", [2, 16])
@pytest.mark.parametrize("family", CLIPS)
def test_only_the_frames_asked_for_are_encoded(family: str, max_views: int) -> None:
    model = tiny_model(family)
    adapter = adapter_for(model)
    _, videos = adapter.visuals(batch(model, [Scene((("video", 7),), seed=1)]))
    seen = []
    handle = model.model.vision_tower.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].shape[0])
    )
    try:
        with torch.no_grad():
            (some,) = adapter.encode(videos, frames=[(0, 3, 6)], max_views=max_views)
            (every,) = adapter.encode(videos)
    finally:
        handle.remove()
    assert seen == {2: [2, 1, 7], 16: [3, 7]}[max_views]
    assert torch.allclose(some.features, every.features[some.layout.source], atol=1e-6)
    size = 6 if family == "llava_video" else 4
    newlines = every.layout.separator_index.tolist()  # all of them stay, for the method to choose from
    tokens = {number * size + i for number in (0, 3, 6) for i in range(size)}
    assert some.layout.source.tolist() == sorted(tokens | set(newlines))
    assert len(newlines) == {"llava_next_video": 0, "llava_onevision": 1, "llava_video": 14}[family]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("layer", [-1, -2, 0])
@pytest.mark.parametrize("family", CROPPED)
def test_evidence_equals_attention_maps(family: str, layer: int, attention: str) -> None:
    """Against the maps that an eager encoder returns with output_attentions."""
    model, eager = tiny_model(family, attention=attention), tiny_model(family, attention="eager")
    adapter = adapter_for(model)
    images, _ = adapter.visuals(batch(model, [Scene((("image", (112, 112)),))]))
    wanted = [Evidence("attention_received", layer)]
    if adapter.has_cls:
        wanted += [Evidence("cls_attention", layer), Evidence("cls_logits", layer)]
    with torch.no_grad():
        (tokens,) = adapter.encode(images, wanted, max_views=2)
        maps = eager.model.vision_tower(images[0].pixels, output_attentions=True).attentions[layer]
    first = int(adapter.has_cls)
    assert tokens.evidence[wanted[0]].dtype == torch.float32
    thumbnail = torch.arange(GRID[0] * GRID[1])
    assert torch.allclose(tokens.evidence[wanted[0]][thumbnail], maps[0].mean((0, 1))[first:], atol=1e-6)
    layout = images[0].layout
    crop = (layout.view == 2).nonzero().flatten()  # top right of 2 x 2, nothing padded
    cells = layout.row[crop] % GRID[0] * GRID[1] + layout.col[crop] % GRID[1]
    assert torch.allclose(tokens.evidence[wanted[0]][crop], maps[2].mean((0, 1))[first:][cells], atol=1e-6)
    if adapter.has_cls:
        row = tokens.evidence[wanted[1]]
        assert torch.allclose(row[crop], maps[2, :, 0, 1:].mean(0)[cells], atol=1e-6)
        # exp of one head's logits is its attention up to a factor; with several heads only the mean of logs agrees
        logs = maps[2, :, 0, 1:].log().mean(0)[cells]
        assert torch.allclose((tokens.evidence[wanted[2]][crop] - logs).diff(), torch.zeros(15), atol=1e-4)


@pytest.mark.parametrize("family", CLIPS)
def test_evidence_of_video_is_pooled_like_features(family: str) -> None:
    model = tiny_model(family)
    adapter = adapter_for(model)
    _, videos = adapter.visuals(batch(model, [Scene((("video", 3),))]))
    key = Evidence("attention_received", -1)
    with torch.no_grad():
        (tokens,) = adapter.encode(videos, [key], max_views=2)
        maps = (
            tiny_model(family, attention="eager")
            .model.vision_tower(videos[0].pixels, output_attentions=True)
            .attentions[-1]
        )
        received = maps.mean((1, 2))[:, int(adapter.has_cls) :].view(3, *GRID)
    pooled = (
        received.unflatten(1, (2, 2)).unflatten(3, (2, 2)).mean((2, 4))
    )  # 4 x 4: all three poolings agree
    assert torch.allclose(tokens.evidence[key][tokens.layout.token_index], pooled.flatten(), atol=1e-6)


def test_evidence_that_cannot_be_had_is_named() -> None:
    model = tiny_model("llava_onevision")
    adapter = adapter_for(model)
    images, _ = adapter.visuals(batch(model, [Scene((("image", (112, 112)),))]))
    with pytest.raises(
        UnsupportedModelError, match="'cls_logits', -1.* needs a CLS token and SiglipVisionModel has none"
    ):
        adapter.encode(images, [Evidence("cls_logits")])
    with pytest.raises(UnsupportedModelError, match="layer 9 is out of range for 4"):
        adapter.encode(images, [Evidence("attention_received", 9)])


def test_an_unknown_model_type_lists_the_known() -> None:
    class Stranger:
        class config:
            model_type = "llava_nxt"

    with pytest.raises(
        UnsupportedModelError,
        match="supported: .*internvl, llava, llava_next, .*, qwen3_vl, qwen3_vl_moe, .*; .* can add a family",
    ):
        adapter_for(Stranger())
    with pytest.raises(UnsupportedModelError, match="must be a transformers model"):
        adapter_for(3)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(height=st.integers(8, 900), width=st.integers(8, 900))
@pytest.mark.parametrize("family", CROPPED)
def test_geometry_equals_stock_packing(family: str, height: int, width: int) -> None:
    """Pack the index of every patch as a feature and compare it with the layout's cells."""
    model = tiny_model(family)
    adapter = adapter_for(model)
    layout = adapter.image_layout((height, width), False, "cpu")
    crops = adapter.geometry.crop_grid((height, width))
    views = 1 + crops[0] * crops[1]
    assert len(layout.views) == views and sum(layout.sizes) + layout.num_separators == len(layout)
    rows, cols = torch.meshgrid(torch.arange(GRID[0]), torch.arange(GRID[1]), indexing="ij")
    cells = torch.stack((rows.flatten(), cols.flatten()), -1).expand(views, -1, -1)
    owner = torch.arange(views)[:, None, None].expand(-1, GRID[0] * GRID[1], 1)
    packed = adapter.pack_image(
        torch.cat((cells, owner), -1).float(), torch.tensor([[height, width]]), torch.full((3,), -1.0)
    )
    assert packed.shape[0] == len(layout)
    assert torch.equal(packed[:, 0] == -1, layout.separator)
    box = unpadded_box((height, width), (crops[0] * GRID[0], crops[1] * GRID[1]))
    shrunk = family in ANYRES_MAX and shrunk_canvas(box[2:], GRID, 9) != box[2:]
    if not shrunk:  # resizing blends the indices of neighbouring patches
        tokens = layout.token_index
        assert torch.equal(packed[tokens, 2].long(), layout.view[tokens])
        thumbnail = layout.view[tokens] == 0
        offset = torch.tensor(box[:2])
        cell = torch.stack((layout.row, layout.col), -1)[tokens]
        cell = torch.where(thumbnail[:, None], cell, (cell + offset) % torch.tensor(GRID))
        assert torch.equal(packed[tokens, :2].long(), cell)
    for view, size in zip(layout.views, layout.sizes, strict=True):
        assert view.rows * view.cols == size
    covered = sum((v.box[2] - v.box[0]) * (v.box[3] - v.box[1]) for v in layout.views[1:])
    assert covered == pytest.approx(GRID[0] * GRID[1] if layout.canvas else 0)


def test_a_fully_padded_crop_has_no_tokens() -> None:
    layout = image_layout((4, 4), (1, 3), unpadded=unpadded_box((300, 100), (4, 12)))
    assert layout.sizes == (16, 0, 8, 0) and layout.canvas == (4, 2)
    assert layout.views[1].box == (0.0, 0.0, 4.0, 0.0) and layout.views[2].box == (0.0, 0.0, 4.0, 4.0)


@pytest.mark.parametrize("newlines", ["none", "end", "row"])
def test_video_layout_counts(newlines: str) -> None:
    layout = video_layout(3, (2, 4), newlines, times=(0.0, 0.5, 1.0))  # type: ignore[arg-type]
    assert layout.num_separators == {"none": 0, "end": 1, "row": 6}[newlines]
    assert layout.sizes == (8, 8, 8) and [v.time for v in layout.views] == [0.0, 0.5, 1.0]
    assert layout.trailing_separator == (newlines == "end")
    for position in layout.separator_index.tolist():
        line = layout.line[position]
        assert (layout.line[layout.token_index] == line).sum() == {"end": 24, "row": 4}[newlines]


@pytest.mark.parametrize("max_views", [1, 3, 16])
def test_the_encoder_sees_at_most_max_views(max_views: int) -> None:
    model = tiny_model("llava_next")
    adapter = adapter_for(model)
    images, _ = adapter.visuals(batch(model, [Scene((("image", size),), seed=1) for size in SIZES[:3]]))
    seen: list[int] = []
    handle = model.model.vision_tower.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    try:
        adapter.encode(images, max_views=max_views)
    finally:
        handle.remove()
    views = sum(len(image.layout.views) for image in images)
    assert sum(seen) == views and max(seen) == min(max_views, views)
    assert len(seen) == -(-views // max_views)


def test_a_token_of_a_resized_canvas_belongs_to_the_view_its_centre_lies_in() -> None:
    """A 6 x 6 grid of views of 4 x 4 tokens, 24 rows, shrunk to 14: row i has its centre at (i + 1/2) 24/14."""
    layout = image_layout((4, 4), (6, 6), shrunk=shrunk_canvas((24, 24), (4, 4), 9))
    assert layout.canvas == (12, 12)
    layout = image_layout((4, 4), (6, 6), shrunk=(14, 14))
    first = [(layout.view[layout.row == i][-2] - 1).item() // 6 for i in range(14)]
    assert first == [int((i + 0.5) * 24 / 14 // 4) for i in range(14)]
    assert first != [int(i * 24 / 14 // 4) for i in range(14)]
    assert [v.rows for v in layout.views[1::6]] == [first.count(j) for j in range(6)]


def test_evidence_is_float32_under_autocast() -> None:
    model = tiny_model("llava_next")
    adapter = adapter_for(model)
    images, _ = adapter.visuals(batch(model, [Scene((("image", (112, 112)),))]))
    key = Evidence("cls_logits", -1)
    with torch.autocast("cpu", torch.bfloat16):
        (tokens,) = adapter.encode(images, [key])
    values = tokens.evidence[key][tokens.layout.token_index]
    assert values.dtype == torch.float32 and not torch.equal(values, values.bfloat16().float())


def test_a_packing_that_does_not_fit_the_geometry_is_named() -> None:
    model = tiny_model("llava_video")
    adapter = adapter_for(model)
    _, videos = adapter.visuals(batch(model, [Scene((("video", 2),))]))
    adapter.pool_frames = lambda features: features  # 16 tokens per frame instead of 4
    with pytest.raises(RuntimeError, match="LlavaVideoFor.* packed 36 tokens where its geometry says 12"):
        adapter.encode(videos)


@pytest.mark.parametrize("family", CLIPS)
def test_gradients_reach_projector_and_newline_through_chunks(family: str) -> None:
    """Chunks are written into one tensor, which must not cut the graph."""
    model = tiny_model(family)
    adapter = adapter_for(model)
    inputs = batch(model, [Scene((("video", 5),), seed=1)])
    weights = [model.model.multi_modal_projector.linear_1.weight, model.model.image_newline]

    def gradients(features: torch.Tensor) -> list[torch.Tensor]:
        scale = torch.linspace(-1, 1, features.numel()).view_as(features)
        found = torch.autograd.grad((features * scale).sum(), weights, allow_unused=True)
        return [torch.zeros(1) if gradient is None else gradient for gradient in found]

    stock = gradients(model.get_video_features(inputs["pixel_values_videos"]).pooler_output[0].flatten(0, -2))
    (tokens,) = adapter.encode(adapter.visuals(inputs)[1], max_views=2)
    mine = gradients(tokens.features)
    assert stock[0].abs().max() > 0
    for a, b in zip(mine, stock, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)

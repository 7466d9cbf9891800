"""LLaVA-NeXT-Video: its poolers, and clips without newlines."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny_models import Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.tokens import Evidence
from vidcompress.session.compress import compress_inputs

POOLERS = [
    {"spatial_pool_mode": "average"},
    {"spatial_pool_mode": "max"},
    {"spatial_pool_mode": "conv"},
    {"spatial_pool_mode": "average", "spatial_pool_stride": 3},
]


@pytest.mark.parametrize("max_views", [1, 3, 64])
@pytest.mark.parametrize("pooler", POOLERS, ids=lambda p: "-".join(map(str, p.values())))
def test_every_pooler_gives_the_models_own_features_to_the_bit(
    pooler: dict[str, Any], max_views: int
) -> None:
    """Pooled before the projector; 7 x 7 patches leave an odd row and column out."""
    model = tiny_model("llava_next_video", side=98, **pooler)
    adapter = adapter_for(model)
    clips = torch.randn(2, 4, 3, 98, 98)
    _, videos = adapter.visuals({"pixel_values_videos": clips})
    key = Evidence("cls_logits", -1)
    with torch.no_grad():
        stock = model.get_video_features(clips).pooler_output
        mine = adapter.encode(videos, [key], max_views=max_views)
    side = 7 // pooler.get("spatial_pool_stride", 2)
    for tokens, expected in zip(mine, stock, strict=True):
        assert torch.equal(tokens.features, expected.flatten(0, -2))
        assert len(tokens.layout) == tokens.evidence[key].shape[0] == 4 * side**2
        assert tokens.layout.num_separators == 0


@pytest.mark.parametrize("mode", ["average", "max", "conv"])
def test_evidence_is_pooled_like_features_or_averaged_under_a_convolution(mode: str) -> None:
    model = tiny_model("llava_next_video", spatial_pool_mode=mode)
    adapter = adapter_for(model)
    _, (video,) = adapter.visuals(batch(model, [Scene((("video", 3),))]))
    key = Evidence("attention_received", -1)
    eager = tiny_model("llava_next_video", attention="eager", spatial_pool_mode=mode)
    with torch.no_grad():
        (tokens,) = adapter.encode([video], [key])
        maps = eager.model.vision_tower(video.pixels, output_attentions=True).attentions[-1]
    cells = maps.mean((1, 2))[:, 1:].view(3, 2, 2, 2, 2)  # frame, row, row within, column, column within
    expected = cells.amax((2, 4)) if mode == "max" else cells.mean((2, 4))
    assert torch.allclose(tokens.evidence[key], expected.flatten(), atol=1e-6)


@pytest.mark.parametrize("separators", ["thin", "drop", "keep"])
def test_separators_of_a_clip_that_has_none(separators: str) -> None:
    model = tiny_model("llava_next_video")
    inputs = batch(model, [Scene((("video", 5),))])
    sent = compress_inputs(model, inputs, retention_ratio=0.5, separators=separators)
    (visual,) = sent.report.visuals
    assert (visual.total, visual.kept, visual.separators_kept) == (20, 10, 0)

"""Cost on paper of encoders that take patches of any number, against torch's own count of operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from qwen_models import qwen_inputs, qwen_model
from vidcompress import compress_inputs
from vidcompress.adapters.families import get_family
from vidcompress.adapters.family.native import NativeGeometry
from vidcompress.adapters.model_shape import geometry_of
from vidcompress.errors import ArgumentError, UnsupportedModelError
from vidcompress.loading.known_shapes import config_of
from vidcompress.tools.cost import estimate
from vidcompress.tools.cost.encoder_work import square, work_of

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
SIZE, FRAMES = (68, 92), 6
WAYS: dict[str, dict[str, Any]] = {
    "none": {"method": "none"},
    "globalcom2": {"method": "globalcom2", "retention_ratio": 0.25},
    "random": {"method": "random", "retention_ratio": 0.5},
    "vidcom2": {"method": "vidcom2", "retention_ratio": 0.25},
}


def numbers(model: Any) -> NativeGeometry:
    geometry = get_family(model.config.model_type).geometry(model.config)
    assert isinstance(geometry, NativeGeometry)
    return geometry


def counted(model: Any, visual: Any, **way: Any) -> tuple[int, Any, int]:
    """Operations of a whole run by torch's count, its report, and the tokens of its text."""

    def fused(q: Any, k: Any, v: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return sdpa_flop_count(q, k, v)

    inputs = qwen_inputs(model, [[5, 6, visual, 7, 8]])
    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused}
    with FlopCounterMode(display=False, custom_mapping=mapping) as mode, torch.no_grad():
        shorter = compress_inputs(model, inputs, **way)
        model.generate(**shorter, max_new_tokens=1, do_sample=False)
    return mode.get_total_flops(), shorter.report, int((inputs["mm_token_type_ids"] == 0).sum())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("family", FAMILIES)
def test_torch_counts_the_same(family: str, kind: str, way: str) -> None:
    if way == "vidcom2" and kind == "image":
        pytest.skip("it is a method for clips")
    model = qwen_model(family)
    geometry = numbers(model)
    grid = geometry.image_grid(SIZE) if kind == "image" else geometry.clip_grid(FRAMES, SIZE)
    found, report, text = counted(model, (kind, grid), **WAYS[way])
    described = {"size": SIZE} if kind == "image" else {"frames": FRAMES, "frame_size": SIZE}
    expected = estimate(model, **described, text_tokens=text, dtype="float32", **WAYS[way])
    assert expected.prefill_flops["everything"] == pytest.approx(found, rel=0.02)
    if way in ("none", "random"):
        assert expected.prefill_flops["everything"] == pytest.approx(found, rel=2e-3)
    assert expected.visual["total"] == report.total
    assert expected.visual["sent"] == report.kept


def test_windows_and_companions_are_counted() -> None:
    """Without either the count would be off by more than the 2 % that are allowed."""
    shape = geometry_of(config_of("qwen2.5-vl-7b")).encoder
    assert (shape.window, shape.whole, shape.layers, shape.gated, shape.frames) == (8, 4, 32, True, 2)
    work = work_of(shape, 1, [(1, 10, 12)], max_views=1, max_patches=100)
    assert work.patches == 20 * 24 and work.pairs == (20 * 24) ** 2
    assert work.near == (64 + 64 + 16) * 3 * 64  # rows in windows of 8, 8 and 4, columns in three of 8
    assert (work.passes, work.at_once) == (1, 480)
    three = geometry_of(config_of("qwen3-vl-8b"))
    assert three.encoder.window is None and len(three.projector) == 2 * (1 + 3)
    assert three.projector[:2] == ((4608, 4608), (4608, 4096))


@pytest.mark.parametrize(
    "name, parameters, image", [("qwen2.5-vl-7b", 8_292_166_656, 391), ("qwen3-vl-8b", 8_767_123_696, 300)]
)
def test_named_geometries(name: str, parameters: int, image: int) -> None:
    made = estimate(name, size=(480, 640))
    assert made.parameters == parameters
    assert made.visual["total"] == image
    clip = estimate(name, frames=32)
    assert clip.visual["total"] == {"qwen2.5-vl-7b": 16 * 391, "qwen3-vl-8b": 16 * 300}[name]
    assert estimate(name, frames=32, frame_size=(240, 320)).visual["total"] < clip.visual["total"] / 3
    assert estimate(name).visual["total"] == 2880
    shallow = geometry_of(config_of(name, encoder_layers=4, decoder_layers=2))
    assert (shallow.encoder.layers, shallow.decoder.layers) == (4, 2)


def test_one_view_of_so_many_tokens_is_nearly_square() -> None:
    assert square(2880) == (1, 48, 60) and square(13) == (1, 1, 13)


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ArgumentError, match="have one size"):
        estimate("llava-onevision-7b", frames=4, frame_size=(100, 100))
    with pytest.raises(ArgumentError, match="of how many frames"):
        estimate("qwen3-vl-8b", frame_size=(100, 100))
    with pytest.raises(ArgumentError, match="frame_size=\\(0, 1\\)"):
        estimate("qwen3-vl-8b", frames=4, frame_size=(0, 1))
    with pytest.raises(UnsupportedModelError, match="mixture of experts"):
        estimate(qwen_model("qwen3_vl_moe"))
    with pytest.raises(UnsupportedModelError, match="'qwen3_5_moe' is a mixture of experts"):
        estimate(qwen_model("qwen3_5_moe"))

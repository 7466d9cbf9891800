"""Half precision, other decoders, attention kernels, evidence choices, weights that accelerate moves."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module

from tiny_models import FAMILIES, Scene, batch, tiny_model
from vidcompress.session.compress import compress_inputs
from vidcompress.testing import select_alone

ROWS = [Scene((("image", (112, 80)),), before=3, seed=1), Scene((("image", (40, 100)),), before=11, seed=3)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_the_stock_model_at_full_retention(family: str, dtype: torch.dtype) -> None:
    model = copy.deepcopy(tiny_model(family)).to(dtype)
    inputs = batch(model, ROWS)
    with torch.no_grad():
        full = model(**compress_inputs(model, inputs, retention_ratio=1.0)).logits
        assert torch.equal(full, model(**inputs).logits)
    compressed = compress_inputs(model, inputs, retention_ratio=0.25)
    assert compressed["mm_encoder_outputs"]["image"].pooler_output[0].dtype == dtype
    assert compressed.report.kept == compressed.report.budget
    assert torch.isfinite(model(**compressed).logits).all()


def test_scores_are_float32_whatever_the_models_dtype() -> None:
    """The same features in bfloat16 and float32 give the same tokens."""
    from vidcompress.adapters.layouts import video_layout
    from vidcompress.core.budget import visual_budget
    from vidcompress.core.method_lookup import get_method
    from vidcompress.core.tokens import VisualTokens

    features = torch.randn(6 * 49 + 1, 64).bfloat16()
    layout = video_layout(6, (7, 7))
    budget = visual_budget(layout, 60)
    for name in ("globalcom2", "vidcom2"):
        half = select_alone(get_method(name), VisualTokens(features, layout), budget).index
        full = select_alone(get_method(name), VisualTokens(features.float(), layout), budget).index
        assert torch.equal(half, full), name


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex_attention"])
def test_any_attention_kernel_gives_the_same_answer(attention: str) -> None:
    if attention == "flex_attention":
        pytest.importorskip("torch.nn.attention.flex_attention")
        decoder = {"": "sdpa", "vision_config": "flex_attention"}
        model = copy.deepcopy(tiny_model("llava_next"))
        model.set_attn_implementation(decoder)
    else:
        model = tiny_model("llava_next", attention=attention)
    reference = tiny_model("llava_next")
    inputs = batch(model, ROWS)
    mine = compress_inputs(model, inputs, retention_ratio=0.3)
    theirs = compress_inputs(reference, inputs, retention_ratio=0.3)
    assert [v.kept_positions.tolist() for v in mine.report.visuals] == [
        v.kept_positions.tolist() for v in theirs.report.visuals
    ]
    with torch.no_grad():
        real = mine["attention_mask"].bool()  # what a kernel computes at padding means nothing
        assert torch.allclose(model(**mine).logits[real], reference(**theirs).logits[real], atol=1e-5)


@pytest.mark.parametrize("positions", ["contiguous", "original"])
def test_a_mistral_decoder(positions: str) -> None:
    model = tiny_model("llava_next", decoder="mistral")
    inputs = compress_inputs(model, batch(model, ROWS), retention_ratio=0.3, positions=positions)
    alone = compress_inputs(model, batch(model, ROWS[:1]), retention_ratio=0.3, positions=positions)
    out = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    one = model.generate(**alone, max_new_tokens=4, do_sample=False)[0, alone["input_ids"].shape[1] :]
    assert out.tolist() == one.tolist()


@pytest.mark.parametrize("evidence", ["cls_logits", "cls_attention", "attention_received", "distance"])
def test_every_evidence_reaches_the_method(evidence: str) -> None:
    model = tiny_model("llava_next")
    kept = {
        name: compress_inputs(
            model, batch(model, ROWS[:1]), retention_ratio=0.3, evidence=name
        ).report.visuals[0]
        for name in (evidence, "auto")
    }
    same = kept[evidence].kept_positions.tolist() == kept["auto"].kept_positions.tolist()
    assert same == (evidence == "cls_logits")


def test_weights_that_accelerate_moves() -> None:
    """With accelerate's hooks on the tower the probe may not stop early, and the answer is the same."""
    model = copy.deepcopy(tiny_model("llava_next"))
    inputs = batch(model, ROWS)
    expected = compress_inputs(model, inputs, retention_ratio=0.3)["mm_encoder_outputs"][
        "image"
    ].pooler_output
    for layer in model.model.vision_tower.encoder.layers:
        add_hook_to_module(
            layer, AlignDevicesHook(execution_device="cpu", offload=True, place_submodules=True)
        )
    got = compress_inputs(model, inputs, retention_ratio=0.3)["mm_encoder_outputs"]["image"].pooler_output
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert next(model.model.vision_tower.encoder.layers[0].parameters()).device.type == "meta"


def test_the_encoder_stops_once_everything_is_seen() -> None:
    model = tiny_model("llava_next")
    layers = model.model.vision_tower.encoder.layers
    ran: list[int] = []
    handles = [m.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, m in enumerate(layers)]
    try:
        compress_inputs(
            model, batch(model, ROWS[:1]), "uniform", retention_ratio=0.3
        )  # features from layer -2
        assert ran == [0, 1, 2]
    finally:
        for handle in handles:
            handle.remove()

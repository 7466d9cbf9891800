"""Cost on paper of decoders with linear attention or windows: by hand, by torch's count and by the caches of runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from gemma_models import gemma3, gemma3_inputs
from qwen_models import qwen_inputs, qwen_model
from vidcompress import compress_inputs
from vidcompress.adapters.families import get_family
from vidcompress.adapters.family.native import NativeGeometry
from vidcompress.adapters.model_shape import DecoderShape, LinearShape, geometry_of
from vidcompress.errors import UnsupportedModelError
from vidcompress.llm_pruning.cache_names import returned_cache
from vidcompress.loading.known_shapes import config_of
from vidcompress.loading.meta_model import empty_model, parameter_count
from vidcompress.tools.cost import estimate, everything
from vidcompress.tools.cost.memory import kv_bytes, memory, state_bytes
from vidcompress.tools.cost.operations import total
from vidcompress.tools.cost.table import as_table

pytestmark = pytest.mark.transformers

LINEAR = LinearShape(key_heads=2, value_heads=4, key_dim=8, value_dim=6, kernel=4)
HYBRID = DecoderShape(
    hidden=32,
    ffn=64,
    layers=4,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocab=100,
    tied=False,
    base_vocab=100,
    kinds=("linear", "linear", "linear", "full"),
    linear=LINEAR,
    gated=True,
)
WINDOWED = replace(HYBRID, kinds=("window", "full"), layers=2, linear=None, gated=False, window=10)


def counted(run: Any) -> int:
    """Operations of a call by torch's count; the CPU's fused attention is made known to it."""

    def fused(q: Any, k: Any, v: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return sdpa_flop_count(q, k, v)

    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused}
    with FlopCounterMode(display=False, custom_mapping=mapping) as mode, torch.no_grad():
        run()
    return mode.get_total_flops()


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_small_hybrid_by_hand() -> None:
    """70 tokens are two chunks of 64. Of a linear layer, per token, in multiplications with weights:

    qkv 32 x (2 x 2 x 8 + 4 x 6 = 56), z 32 x 24, b and a 32 x 4 each, convolution 4 x 56, out 24 x 32, MLP 3 x 32 x 64;
    of the full one: q and its gate 32 x 128, k and v 32 x 32 each, out 64 x 32, and the MLP.
    """
    mlp = 3 * 32 * 64
    linear_weights = 32 * 56 + 32 * 24 + 2 * 32 * 4 + 4 * 56 + 24 * 32 + mlp
    full_weights = 32 * 128 + 2 * 32 * 32 + 64 * 32 + mlp
    # Two products of keys or queries with keys, two solves, the attention of the chunk, three products with the state.
    chunk = 2 * (2 * 64 * 64 * 8) + 64 * 64 * (8 + 6) + 2 * 64 * 64 * 6 + 3 * (2 * 64 * 8 * 6)
    linear = 2 * 70 * linear_weights + 4 * 2 * chunk
    full = 2 * 70 * full_weights + 4 * 70 * 70 * 64
    assert total(everything.decoder(HYBRID, 1, [70] * 4, 2)) == 3 * linear + full
    assert total(everything.decoder(HYBRID, 5, [70] * 4, 2)) == 5 * (3 * linear + full)
    assert total(everything.decoder(HYBRID, 1, [64] * 4, 2)) == (
        3 * (2 * 64 * linear_weights + 4 * chunk) + 2 * 64 * full_weights + 4 * 64 * 64 * 64
    )
    # One token more: of the rule three products with the state, of attention 71 keys, and the output layer.
    step = 3 * (2 * linear_weights + 4 * 6 * 8 * 6) + 2 * full_weights + 4 * 71 * 64 + 2 * 32 * 100
    assert total(everything.decode_step(HYBRID, 1, [70] * 4, 2, 2)) == step


def test_a_step_reads_and_writes_the_state_whatever_is_behind_it() -> None:
    """By hand: 4 heads of 8 x 6 numbers of 4 bytes, and 4 tokens of 56 channels of 2 bytes, in each of three layers."""
    state = 3 * (4 * 8 * 6 * 4 + 4 * 56 * 2)
    assert state_bytes(HYBRID, 1, 2) == state and state_bytes(HYBRID, 3, 2) == 3 * state
    for n in (70, 7000):
        step = everything.decode_step(HYBRID, 1, [n] * 4, 2, 2)
        assert total(step, "store_kv") == state
        assert total(step, "load_kv") == state + 2 * (n + 1) * 2 * 16 * 2  # keys and values of one layer
        assert kv_bytes(HYBRID, 1, [n] * 4, 2) == 2 * n * 2 * 16 * 2
    prefill = everything.decoder(HYBRID, 1, [70] * 4, 2)
    assert total(prefill, "store_kv") == state
    assert total(prefill, "load_kv") == 2 * 70 * 2 * 16 * 2  # there is no state to read yet


def test_what_a_linear_layer_moves_by_hand() -> None:
    made = everything.linear_decoder_layer(HYBRID, LINEAR, 2, 3, 2, step=False)
    weights = 32 * 56 + 32 * 24 + 2 * 32 * 4 + 4 * 56 + 24 * 32 + 3 * 32 * 64
    assert total(made, "load_weight") == weights * 2
    products_in, products_out = 4 * 32 + 24 + 2 * 32 + 64, 56 + 24 + 4 + 4 + 32 + 2 * 64 + 32
    passes = 4 * 32 + 2 * 64
    rule_in, gate_in = 56 + 4 + 4, 2 * 24  # with the strength of the update and the decay of each head
    assert total(made, "load_act") == 2 * 3 * 2 * (products_in + 56 + rule_in + gate_in + passes)
    assert total(made, "store_act") == 2 * 3 * 2 * (products_out + 56 + 24 + 24 + passes)


def test_memory_of_a_hybrid_by_hand() -> None:
    """The states stay, keys and values are one layer's, and the widest moment is the MLP or the linear attention."""
    shape = replace(geometry_of(qwen_model("qwen3_5").config), decoder=HYBRID)
    work = everything_of_nothing(shape)
    common: dict[str, Any] = {"parameters": 10, "rows": 1, "work": work, "features": 0, "size": 2}
    got = memory(shape, tokens=[70] * 4, new_tokens=3, **common)
    one_layer = 4 * 8 * 6 * 4 + 4 * 56 * 2
    assert got.state == 3 * one_layer and got.kv_cache == 2 * 72 * 2 * 16 * 2
    assert got.prefill == 3 * one_layer + 2 * 70 * 2 * 16 * 2 + 70 * 3 * (32 + 64) * 2
    assert got.peak == 10 * 2 + got.prefill
    later = memory(shape, tokens=[70] * 4, new_tokens=30_000, **common)
    assert later.state == got.state and later.peak == 10 * 2 + later.kv_cache + later.state
    wide = replace(shape, decoder=replace(HYBRID, ffn=1, kinds=("linear",)))
    assert memory(wide, tokens=[70], new_tokens=1, **common).prefill == (
        one_layer + 70 * (3 * 32 + 2 * 56 + 2 * 24) * 2
    )


def everything_of_nothing(shape: Any) -> Any:
    from vidcompress.tools.cost.encoder_work import work_of

    return work_of(shape.encoder, 0, (), max_views=1, max_patches=1)


def test_qwen3_5_27b_by_hand() -> None:
    """2,880 visual tokens and 64 of text, as docs/cost.md writes it out."""
    made = estimate("qwen3.5-27b", new_tokens=2)
    d, n, mlp = 5120, 2944, 3 * 5120 * 17_408
    qkv, z = 2 * 16 * 128 + 48 * 128, 48 * 128
    assert (qkv, z) == (10_240, 6_144)
    linear_weights = d * (qkv + z + 48 + 48) + 4 * qkv + z * d + mlp
    full_weights = d * (2 * 24 * 256 + 2 * 4 * 256) + 24 * 256 * d + mlp
    assert (linear_weights, full_weights) == (383_262_720, 372_244_480)
    chunk = 4 * 64**2 * 128 + 64**2 * 256 + 2 * 64**2 * 128 + 6 * 64 * 128**2
    assert chunk == 10_485_760
    linear = 2 * n * linear_weights + 48 * 46 * chunk
    full = 2 * n * full_weights + 4 * n * n * 24 * 256
    decoder = 48 * linear + 16 * full
    assert made.parts["decoder"] + made.parts["text"] == decoder == 147_907_030_286_336
    assert made.prefill_flops == {
        "everything": decoder + sum(made.parts[name] for name in ("encoder", "projector", "lm_head"))
    }
    assert made.kv_cache_bytes == 16 * 2 * 4 * 256 * 2 * n == 192_937_984
    assert made.memory.state == 48 * (48 * 128 * 128 * 4 + 4 * qkv * 2) == 154_927_104
    rule = 48 * 6 * 128 * 128
    assert made.decode_flops["everything"] == (
        48 * (2 * linear_weights + rule) + 16 * (2 * full_weights + 4 * (n + 1) * 24 * 256) + 2 * d * 248_320
    )


def test_parameters_are_those_of_the_class_and_of_a_hand_count() -> None:
    """Of the class on the meta device. The hub counts 27,781,427,952 for this shape, with a layer that predicts several
    tokens (MTP), which the class does not have: one full layer, a 2 d x d matrix and three norms."""
    d, mlp, norms = 5120, 3 * 5120 * 17_408, 2 * 5120
    linear = d * 16_480 + 4 * 10_240 + 6144 * d + 2 * 48 + 128 + mlp + norms
    full = d * (12_288 + 2048) + 6144 * d + 2 * 256 + mlp + norms
    c, m = 1152, 4304
    block = c * 3 * c + 3 * c + c * c + c + 2 * c * m + m + c + 4 * c
    vision = 3 * 2 * 16 * 16 * c + c + 2304 * c + 27 * block
    merger = 2 * c + 4608 * 4608 + 4608 + 4608 * d + d
    by_hand = 48 * linear + 16 * full + d + 2 * 248_320 * d + vision + merger
    empty = empty_model(config_of("qwen3.5-27b"))
    assert type(empty).__name__ == "Qwen3_5ForConditionalGeneration"
    assert parameter_count(empty) == by_hand == 27_356_728_560
    assert by_hand + full + 2 * d * d + 3 * d == 27_781_427_952
    assert estimate("qwen3.5-27b").parameters == by_hand


# -- against runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [5, 64, 70, 200])
def test_torch_counts_the_same_of_a_hybrid_decoder(tokens: int) -> None:
    """Torch leaves out the solves, and counts a convolution over three tokens of padding too."""
    model = qwen_model("qwen3_5")
    shape = geometry_of(model.config).decoder
    embeds = torch.randn(2, tokens, shape.hidden)
    found = counted(lambda: model.model.language_model(inputs_embeds=embeds, use_cache=True))
    linear = shape.linear
    assert linear is not None
    solves = 2 * 3 * 4 * -(-tokens // 64) * 64**2 * (linear.key_dim + linear.value_dim)
    padding = 2 * 3 * 2 * 4 * linear.mixed * 3
    paper = total(everything.decoder(shape, 2, [tokens] * 4, 4))
    # transformers 5.18 makes rotary angles by a product of its own.
    assert paper - solves + padding == pytest.approx(found, rel=2e-4)
    without_gate = total(everything.decoder(replace(shape, gated=False), 2, [tokens] * 4, 4))
    for other in (without_gate - solves + padding, paper):
        assert other != pytest.approx(found, rel=5e-3)


@pytest.mark.parametrize("way", [{"method": "none"}, {"method": "vidcom2", "retention_ratio": 0.25}])
def test_torch_counts_the_same_of_a_run_of_a_hybrid(way: dict[str, Any]) -> None:
    model = qwen_model("qwen3_5")
    geometry, size = get_family("qwen3_5").geometry(model.config), (68, 92)
    assert isinstance(geometry, NativeGeometry)
    inputs = qwen_inputs(model, [[5, 6, ("video", geometry.clip_grid(6, size)), 7, 8]])
    reports = []

    def run() -> None:
        shorter = compress_inputs(model, inputs, **way)
        reports.append(shorter.report)
        model.generate(**shorter, max_new_tokens=1, do_sample=False)

    found = counted(run)
    text = int((inputs["mm_token_type_ids"] == 0).sum())
    row = estimate(model, frames=6, frame_size=size, text_tokens=text, dtype="float32", **way)
    assert (row.visual["total"], row.visual["sent"]) == (reports[0].total, reports[0].kept)
    n, shape = reports[0].kept + text, geometry_of(model.config).decoder.linear
    assert shape is not None
    solves = 3 * 4 * -(-n // 64) * 64**2 * (shape.key_dim + shape.value_dim)  # not counted by torch
    rel = 1e-3 if way["method"] == "none" else 0.02
    assert row.prefill_flops["everything"] - solves == pytest.approx(found, rel=rel)


@pytest.mark.parametrize("new_tokens", [1, 2, 6])
def test_the_cache_of_a_hybrid_has_the_size_on_paper(new_tokens: int) -> None:
    model = qwen_model("qwen3_5", torch.bfloat16)
    for grid in ((1, 4, 8), (1, 16, 16)):
        inputs = qwen_inputs(model, [[5, 6, ("image", grid), 7, 8]] * 2)
        given: dict[str, Any] = {
            "min_new_tokens": new_tokens,
            "max_new_tokens": new_tokens,
            "do_sample": False,
        }
        inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
        with torch.no_grad():
            out = model.generate(**inputs, **given, return_dict_in_generate=True)
        held = {"kv": 0, "state": 0}
        for layer in returned_cache(out).layers:
            states = [*_tensors(getattr(layer, "conv_states", None))]
            states += _tensors(getattr(layer, "recurrent_states", None))
            keys = [*_tensors(getattr(layer, "keys", None)), *_tensors(getattr(layer, "values", None))]
            held["state"] += sum(t.numel() * t.element_size() for t in states)
            held["kv"] += sum(t.numel() * t.element_size() for t in keys)
        text = inputs["input_ids"].shape[1] - grid[1] * grid[2] // 4
        paper = estimate(
            model,
            visual_tokens=grid[1] * grid[2] // 4,
            text_tokens=text,
            new_tokens=new_tokens,
            batch_size=2,
        )
        assert (paper.memory.kv_cache, paper.memory.state) == (held["kv"], held["state"])


def _tensors(value: Any) -> list[torch.Tensor]:
    """Tensors of an attribute of a cache layer, which by version is one, a list of them or a mapping."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value or ()
    return [part for part in parts if isinstance(part, torch.Tensor)]


# -- windows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "attended", "cached"), [(8, 8, 8), (10, 10, 9), (30, 10, 9)])
def test_a_window_bounds_attention_and_cache(tokens: int, attended: int, cached: int) -> None:
    """By hand: one layer with a window of 10 tokens and a full one. A token is the last of its own window."""
    weights = 2 * 32 * 64 + 2 * 32 * 32 + 3 * 32 * 64
    made = everything.decoder(WINDOWED, 1, [tokens] * 2, 2)
    assert total(made) == 2 * (2 * tokens * weights) + 4 * tokens * (attended + tokens) * 64
    assert kv_bytes(WINDOWED, 1, [tokens] * 2, 2) == 2 * (cached + tokens) * 2 * 16 * 2
    assert state_bytes(WINDOWED, 1, 2) == 0


@pytest.mark.parametrize("tokens", [4, 8, 30])
def test_steps_within_a_window_are_counted_one_by_one(tokens: int) -> None:
    new = 6
    keys = [tokens + step for step in range(1, new)]
    within = [min(10, number) for number in keys]
    weights = 2 * 32 * 64 + 2 * 32 * 32 + 3 * 32 * 64
    step = everything.decode_step(WINDOWED, 1, [tokens] * 2, new, 2)
    one_by_one = 5 * (2 * 2 * weights + 2 * 32 * 100) + 4 * 64 * (sum(keys) + sum(within))
    assert 5 * total(step) == pytest.approx(one_by_one, rel=1e-12)


@pytest.mark.parametrize("window", [8, 256])
def test_the_cache_of_gemma3_has_the_size_on_paper(window: int) -> None:
    model = gemma3(window)
    inputs = gemma3_inputs([[5, (0,), 6, 7]])
    with torch.no_grad():
        out = model.generate(
            **inputs, min_new_tokens=3, max_new_tokens=3, do_sample=False, return_dict_in_generate=True
        )
    held = sum(
        tensor.numel() * tensor.element_size()
        for layer in returned_cache(out).layers
        for tensor in (layer.keys, layer.values)
    )
    text = inputs["input_ids"].shape[1] - 16
    paper = estimate(model, size=(56, 56), text_tokens=text, new_tokens=3, dtype="float32")
    assert paper.memory.kv_cache == held
    full = replace(geometry_of(model.config).decoder, kinds=(), window=None)
    assert (kv_bytes(full, 1, [text + 18] * 3, 4) == held) == (window == 256)


def test_torch_counts_the_same_of_gemma3_within_its_window() -> None:
    model = gemma3()
    inputs = gemma3_inputs([[5, (0,), 6, 7]])
    found = counted(lambda: model.generate(**inputs, max_new_tokens=1, do_sample=False))
    text = inputs["input_ids"].shape[1] - 16
    row = estimate(model, size=(56, 56), text_tokens=text, dtype="float32")
    assert row.prefill_flops["everything"] == pytest.approx(found, rel=2e-3)


def test_gemma_3_4b_by_hand() -> None:
    """34 layers, of which every sixth is full and 29 attend to 1,024 tokens; 2,880 visual tokens and 64 of text."""
    made = estimate("gemma-3-4b")
    d, n = 2560, 2944
    weights = d * 8 * 256 + 2 * d * 4 * 256 + 8 * 256 * d + 3 * d * 10_240
    attention = 4 * 8 * 256 * n * (5 * n + 29 * 1024)
    assert (
        made.parts["decoder"] + made.parts["text"] == 2 * n * 34 * weights + attention == 19_963_679_080_448
    )
    assert made.kv_cache_bytes == 2 * 4 * 256 * 2 * (5 * n + 29 * 1023) == 181_809_152
    assert made.geometry.decoder.window == 1024 and made.geometry.decoder.kinds.count("full") == 5
    shape = made.geometry.encoder
    assert (shape.patches, shape.projected, shape.runs) == (4096, 256, 27)
    assert made.parameters == parameter_count(empty_model(config_of("gemma-3-4b"))) == 4_300_079_472
    assert estimate("gemma-3-4b", size=(480, 640)).visual["total"] == 256


# -- conventions and refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("qwen3.5-27b", "48 of 64 decoder layers are linear attention"),
        ("gemma-3-4b", "29 of 34 decoder layers attend within a window of 1,024 tokens"),
    ],
)
def test_published_formulas_have_no_figure(name: str, reason: str) -> None:
    rows = [estimate(name, new_tokens=3), estimate(name, method="random", retention_ratio=0.1, new_tokens=3)]
    for row in rows:
        assert row.undefined == reason
        assert set(row.prefill_flops) == set(row.decode_flops) == {"everything"}
    text = as_table(rows, 100)
    assert "have no figure" in text and reason in " ".join(text.split())
    assert ("  state  " in text) == (name == "qwen3.5-27b")
    plain = estimate("llava-next-7b")
    assert plain.undefined is None and set(plain.prefill_flops) == {"llm_viewer", "fastv", "everything"}
    assert plain.memory.state == 0 and "state" not in as_table([plain, plain], 100)


@pytest.mark.parametrize(
    ("model", "reason"), [("qwen3.5-27b", "not all attention"), ("gemma-3-4b", "cannot be pruned inside")]
)
def test_methods_inside_are_refused_as_in_a_run(model: str, reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        estimate(model, method="fastv", retention_ratio=0.5)
    with pytest.raises(UnsupportedModelError, match=reason):
        estimate(model, method="globalcom2+fastv", retention_ratio=0.5)


def test_what_no_hybrid_has_is_refused() -> None:
    for changes, message in (
        ({"layer_types": ["linear_attention", "state_space"] * 2}, "has decoder layers of state_space"),
        ({"layer_types": ["linear_attention"] * 3}, "layer_types of 3 layers in the qwen3_5_text config"),
        ({"linear_num_key_heads": 5}, "linear_num_key_heads=5 in the qwen3_5_text config: must divide"),
        ({"linear_conv_kernel_dim": 0}, "linear_conv_kernel_dim=0"),
    ):
        config = config_of("qwen3.5-27b", decoder_layers=4)
        for key, value in changes.items():
            setattr(config.text_config, key, value)
        with pytest.raises(UnsupportedModelError, match=message):
            geometry_of(config)
    other = config_of("qwen3-vl-8b", decoder_layers=2)
    other.text_config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(UnsupportedModelError, match="has decoder layers of linear_attention, whose cost"):
        geometry_of(other)

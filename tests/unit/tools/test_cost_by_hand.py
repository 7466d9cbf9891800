"""Memory and traffic on paper, against sums worked out by hand and against what a run of a small model really does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from tiny_models import Scene, batch, tiny_model
from vidcompress import compress_inputs
from vidcompress.adapters.model_shape import DecoderShape, EncoderShape, ModelShape
from vidcompress.llm_pruning.cache_names import returned_cache
from vidcompress.tools.benchmark.live_bytes import LiveBytes
from vidcompress.tools.cost import DEVICES, Device, estimate, everything
from vidcompress.tools.cost.encoder_work import EncoderWork, work_of
from vidcompress.tools.cost.memory import kv_bytes, memory
from vidcompress.tools.cost.operations import total

FLOAT = 4
DECODER = DecoderShape(
    hidden=8, ffn=20, layers=2, heads=4, kv_heads=2, head_dim=2, vocab=50, tied=True, base_vocab=50
)
ENCODER = EncoderShape(
    hidden=6, ffn=10, layers=3, heads=2, runs=2, image_size=8, patch_size=4, channels=3, cls=1
)


def of_views(shape: ModelShape, views: int, chunk: int) -> EncoderWork:
    """Work on so many views of a fixed size, `chunk` of them at once."""
    return work_of(shape.encoder, views, (), max_views=chunk, max_patches=1)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_by_hand() -> None:
    """Two rows of three views, 12 visual positions each; the layers take in 10 and 4 tokens; three new tokens."""
    shape = ModelShape(model_type="llava_next", encoder=ENCODER, decoder=DECODER, projector=((6, 8), (8, 8)))
    got = memory(
        shape,
        parameters=1000,
        rows=2,
        work=of_views(shape, 6, 4),
        features=12,
        tokens=[10, 4],
        new_tokens=3,
        size=FLOAT,
    )
    one_token = 2 * 2 * 2 * FLOAT  # keys and values of 2 heads of 2 numbers
    # The last of the three new tokens is never read, so no layer has keys and values of it.
    assert got.kv_cache == 2 * ((10 + 2) + (4 + 2)) * one_token
    # Layer 0: keys and values of 10 tokens, and per token 3 of width 8 and 3 of width 20. Layer 1 has less to do.
    assert got.prefill == 2 * 10 * one_token + 2 * 10 * (3 * 8 + 3 * 20) * FLOAT
    # 6 views of 8 x 8 pixels, 24 features of width 8; of the 4 views at once, each of 5 tokens, the MLP is widest.
    assert got.encode == (6 * 3 * 64 + 24 * 8 + 4 * 5 * (2 * 10 + 2 * 6)) * FLOAT
    assert got.weights == 1000 * FLOAT
    assert got.peak == got.weights + max(got.encode, got.prefill, got.kv_cache)


def test_the_later_layer_is_the_peak_where_little_is_pruned() -> None:
    """By hand: behind 100 tokens' cache, a second layer of as many tokens holds the same and one layer's cache more."""
    shape = ModelShape(model_type="llava_next", encoder=ENCODER, decoder=DECODER, projector=())
    common: dict[str, Any] = {
        "parameters": 0,
        "rows": 1,
        "work": of_views(shape, 0, 1),
        "features": 0,
        "new_tokens": 1,
        "size": 2,
    }
    alike = memory(shape, tokens=[100, 100], **common)
    assert alike.prefill == 2 * kv_bytes(DECODER, 1, [100], 2) + 100 * 3 * (8 + 20) * 2
    assert alike.encode == 0


@pytest.mark.parametrize("new_tokens", [1, 2, 6])
def test_the_cache_of_a_run_has_the_size_on_paper(new_tokens: int) -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("image", (112, 112)),))])
    given: dict[str, Any] = {"min_new_tokens": new_tokens, "max_new_tokens": new_tokens, "do_sample": False}
    with torch.no_grad():
        out = model.generate(**inputs, **given, return_dict_in_generate=True)
    held = sum(
        tensor.numel() * tensor.element_size()
        for layer in returned_cache(out).layers
        for tensor in (layer.keys, layer.values)
    )
    paper = estimate(model, size=(112, 112), text_tokens=11, new_tokens=new_tokens, dtype="float32")
    assert paper.memory.kv_cache == held
    assert (paper.kv_cache_bytes == held) == (new_tokens == 1), "that one is after prefill"


def test_the_widest_moment_of_a_prefill_is_what_a_stock_layer_holds() -> None:
    """Counted in live tensors of a decoder whose MLP is so wide that nothing else is a peak."""
    d, m, n = 32, 4096, 64
    config = LlamaConfig(
        hidden_size=d, intermediate_size=m, num_hidden_layers=2, num_attention_heads=4, vocab_size=10
    )
    model = LlamaModel(config).eval()
    with torch.no_grad(), LiveBytes() as live:
        model(torch.zeros(1, n, dtype=torch.int64))
    decoder = DecoderShape(
        hidden=d, ffn=m, layers=2, heads=4, kv_heads=4, head_dim=8, vocab=10, tied=True, base_vocab=10
    )
    shape = ModelShape(model_type="llava_next", encoder=ENCODER, decoder=decoder, projector=())
    paper = memory(
        shape,
        parameters=0,
        rows=1,
        work=of_views(shape, 0, 1),
        features=0,
        tokens=[n, n],
        new_tokens=1,
        size=FLOAT,
    )
    assert paper.prefill == pytest.approx(live.peak, rel=0.01)


def test_the_cache_of_a_long_answer_is_the_peak() -> None:
    """By hand: each layer holds its 10 tokens and 999 of 1000 new ones, and nothing else is as much."""
    shape = ModelShape(model_type="llava_next", encoder=ENCODER, decoder=DECODER, projector=((6, 8),))
    got = memory(
        shape,
        parameters=50,
        rows=1,
        work=of_views(shape, 1, 16),
        features=10,
        tokens=[10, 10],
        new_tokens=1000,
        size=2,
    )
    assert got.kv_cache == 2 * (10 + 999) * 2 * 2 * 2 * 2
    assert got.peak == 50 * 2 + got.kv_cache
    # One view of 8 x 8 pixels, 10 features, and the MLP of the encoder: 5 tokens of twice 10 and twice 6.
    assert got.encode == (3 * 64 + 10 * 8 + 5 * (2 * 10 + 2 * 6)) * 2


def test_a_projector_wider_than_the_encoder_is_encoding_s_widest_moment() -> None:
    """By hand: of a decoder of width 500, 4 patches in and twice out."""
    shape = ModelShape(
        model_type="llava_next",
        encoder=ENCODER,
        decoder=replace(DECODER, hidden=500),
        projector=((6, 500), (500, 500)),
    )
    got = memory(
        shape,
        parameters=0,
        rows=1,
        work=of_views(shape, 1, 16),
        features=4,
        tokens=[4],
        new_tokens=1,
        size=2,
    )
    assert got.encode == (3 * 64 + 4 * 500 + 4 * (2 * 500 + 6)) * 2


# -- operations and bytes ----------------------------------------------------------------------------------------------


def test_what_a_decoder_layer_moves_by_hand() -> None:
    """Weights once; each product reads its input and writes its output; keys and values are read for the attention.

    Norms and additions pass four times over the width of 8, activation and product twice over the 20 of the MLP.
    """
    queries, keys = 3, 7
    made = everything.decoder_layer(DECODER, 2, queries, keys, FLOAT)
    weights = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 20  # q; k and v of two heads of 2; out; gate, up and down
    assert total(made, "load_weight") == weights * FLOAT
    products_in = 8 + 2 * 8 + 8 + 2 * 8 + 20
    products_out = 8 + 2 * 4 + 8 + 2 * 20 + 8
    passes = 4 * 8 + 2 * 20
    assert total(made, "load_act") == 2 * queries * (products_in + 8 + passes) * FLOAT
    assert total(made, "store_act") == 2 * queries * (products_out + 8 + passes) * FLOAT
    assert total(made, "load_kv") == 2 * keys * (2 * 4) * FLOAT
    assert total(made) == 2 * 2 * queries * weights + 2 * 4 * queries * keys * 8


def test_what_an_encoder_layer_moves_by_hand() -> None:
    """Four passes over the width of 6, one over the 10 of the MLP; two products of the MLP, four of the attention."""
    made = everything.encoder_layer(ENCODER, work_of(ENCODER, 3, (), max_views=2, max_patches=1), FLOAT)
    rows = 3 * 5
    weights = 4 * 6 * 6 + 2 * 6 * 10
    assert total(made, "load_weight") == 2 * weights * FLOAT
    assert total(made, "load_act") == rows * (4 * 6 + 6 + 10 + 6 + 4 * 6 + 10) * FLOAT
    assert total(made, "store_act") == rows * (4 * 6 + 10 + 6 + 6 + 4 * 6 + 10) * FLOAT
    assert total(made, "load_kv") == rows * 2 * 6 * FLOAT
    assert total(made) == 2 * rows * weights + 4 * 3 * 5 * 5 * 6


@pytest.mark.parametrize("new_tokens", [1, 2, 3, 6, 7])
def test_decoding_is_the_sum_of_its_steps(new_tokens: int) -> None:
    """By hand, step by step: the first later token attends to the prompt and itself, each next one to one more."""
    d, m, layers, wide, kv, vocab = 896, 4864, 24, 14 * 64, 2 * 64, 152_000
    made = estimate("llava-onevision-0.5b", visual_tokens=729, text_tokens=20, new_tokens=new_tokens)
    assert (made.geometry.decoder.hidden, made.geometry.decoder.vocab) == (d, vocab)
    weights = layers * (2 * d * wide + 2 * d * kv + 3 * d * m) + d * vocab
    steps = [2 * weights + layers * 4 * wide * (749 + step) for step in range(1, new_tokens)]
    assert made.decode_flops["everything"] == sum(steps)


def test_times_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four later tokens of a five-token answer; one token more costs one step's bytes and, on slow memory, seconds."""
    monkeypatch.setitem(DEVICES, "slow memory", SLOW_MEMORY)
    one, five = (estimate("llava-onevision-0.5b", visual_tokens=729, new_tokens=new) for new in (1, 5))
    for name in DEVICES:
        assert one.time_s[name]["total"] == one.time_s[name]["first_token"]
        times = five.time_s[name]
        assert times["total"] == pytest.approx(times["first_token"] + 4 * times["per_token"])
        assert times["per_token"] > 0


@pytest.mark.parametrize(
    ("model", "described"),
    [
        ("llava-next-7b", {"size": (672, 672)}),
        ("llava-video-7b", {"frames": 8}),
    ],
)
def test_papers_count_what_is_sent_without_separators(model: str, described: dict[str, Any]) -> None:
    """LLM-Viewer's and FastV's figures are those of so many visual tokens that come without newlines."""
    way: dict[str, Any] = {"method": "random", "retention_ratio": 0.25}
    made = estimate(model, **described, **way)
    tokens = made.visual["sent"] - made.visual["separators"]
    assert made.visual["separators"] > 0
    plain = estimate(model, visual_tokens=tokens)
    assert plain.visual["sent"] == tokens
    for name in ("llm_viewer", "fastv"):
        assert made.prefill_flops[name] == plain.prefill_flops[name]


# -- weights that are read ---------------------------------------------------------------------------------------------


@contextmanager
def weights_read(model: Any) -> Iterator[dict[str, int]]:
    """Bytes of the weight matrices of encoder and projector, each counted whenever its module runs."""
    read = {"encoder": 0, "projector": 0}
    parts = {"encoder": model.model.vision_tower, "projector": model.model.multi_modal_projector}
    handles = []
    for name, part in parts.items():
        for module in part.modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):

                def note(module: Any, args: Any, output: Any, name: str = name) -> None:
                    read[name] += module.weight.numel() * module.weight.element_size()

                handles.append(module.register_forward_hook(note))
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


# Nothing is computed on it that takes time, and a second is a byte.
SLOW_MEMORY = Device("slow memory", 1e40, 1e40, 1.0, 1.0, "made up")
PASSES = {1: 5, 2: 3, 3: 2, 16: 1}
"""Chunks of five views by `max_views`."""


@pytest.mark.parametrize(
    ("family", "config", "settings"),
    [
        ("llava_next", {}, {"method": "none"}),
        (
            "llava_next",
            {},
            {"method": "globalcom2", "retention_ratio": 0.25},
        ),  # queries and keys of one layer more
        (
            "llava_next",
            {"vision_feature_layer": -3},
            {"method": "globalcom2", "retention_ratio": 0.25},
        ),  # and a layer
        ("llava_next", {}, {"method": "fastervlm", "retention_ratio": 0.25}),  # the projector runs last, once
        ("llava_onevision", {}, {"method": "globalcom2", "retention_ratio": 0.25}),
    ],
    ids=["none", "deeper evidence", "two layers deeper", "projected last", "onevision"],
)
def test_every_chunk_of_views_reads_the_weights(
    family: str, config: dict[str, Any], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What smaller chunks add to the traffic is the weights that a run's modules read once more."""
    monkeypatch.setitem(DEVICES, "slow memory", SLOW_MEMORY)
    model = tiny_model(family, **config)
    inputs = batch(model, [Scene((("image", (112, 112)),))])
    read, paper = {}, {}
    for max_views in PASSES:
        with weights_read(model) as found, torch.no_grad():
            compress_inputs(model, inputs, max_views=max_views, **settings)
        read[max_views] = sum(found.values())
        row = estimate(
            model, size=(112, 112), text_tokens=11, dtype="float32", max_views=max_views, **settings
        )
        assert row.views == 5
        times = row.time_s["slow memory"]
        paper[max_views] = times["encode"] + times["select"]
        assert times["first_token"] == pytest.approx(paper[max_views] + times["prefill"])
    more = {max_views: read[max_views] - read[16] for max_views in PASSES}
    assert more[1] > more[2] > more[3] > more[16] == 0
    for max_views in PASSES:
        assert paper[max_views] - paper[16] == pytest.approx(more[max_views], rel=1e-6, abs=1e-3), max_views


def test_without_chunks_the_weights_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, of the encoder's part alone: what a chunk more costs is C (3 p^2) and runs x (4 C^2 + 2 C m)."""
    monkeypatch.setitem(DEVICES, "slow memory", SLOW_MEMORY)
    rows = [
        estimate("llava-onevision-0.5b", frames=32, max_views=views, dtype="float32") for views in (8, 16)
    ]
    c, m, runs, wide = 1152, 4304, 26, 896
    a_pass = 3 * 14**2 * c + runs * (4 * c * c + 2 * c * m) + c * wide + wide * wide
    encode = [row.time_s["slow memory"]["encode"] for row in rows]
    assert encode[0] - encode[1] == pytest.approx(2 * a_pass * FLOAT, rel=1e-6)

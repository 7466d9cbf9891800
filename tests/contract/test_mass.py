"""Masses in attention: equal to a slow softmax with a bias per column; without it, or one column off, it is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import mass_cases
import vidcompress
from mass_cases import GREEDY, SETTINGS, Judge, expected_columns, hooks_on, inputs_of, known_masses, windowed
from qwen_models import FAMILIES as QWENS
from tiny_models import FAMILIES
from vidcompress import compress_inputs
from vidcompress.llm_pruning.cache_names import cache_name, returned_cache
from vidcompress.session import generation_options

pytestmark = [pytest.mark.transformers, pytest.mark.usefixtures("_known")]

CHUNKS = generation_options.transformers_version() >= generation_options.CHUNKED_PREFILL_SINCE
TURN = torch.tensor([[7, 8, 9], [12, 13, 14], [21, 5, 8]])


@pytest.fixture
def _known(monkeypatch: pytest.MonkeyPatch) -> Any:
    with known_masses(monkeypatch):
        yield
    mass_cases.slow_of.cache_clear()


def forward(model: Any, compressed: Any) -> torch.Tensor:
    with compressed.pruning(), torch.no_grad():
        return model(**compressed).logits  # type: ignore[no-any-return]


def run(model: Any, compressed: Any, **more: Any) -> Any:
    with compressed.pruning():
        return model.generate(**compressed, **{**GREEDY, **more})


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", [*FAMILIES, *QWENS])
def test_prefill_and_cached_steps(family: str, attention: str) -> None:
    model, raw = inputs_of(family, attention)
    compressed = compress_inputs(model, raw, **SETTINGS)
    assert torch.equal(compressed.inside.mass.mass, expected_columns(model, compressed))
    judge = Judge(model, compressed)
    judge.check_steps(
        run(model, compressed), compressed["input_ids"].shape[1], prefill=forward(model, compressed)
    )
    assert hooks_on(model) == 0


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llava_onevision", "llava_next"])
def test_padding_on_the_right(family: str, attention: str) -> None:
    model, raw = inputs_of(family, attention, pad_right=True)
    compressed = compress_inputs(model, raw, **SETTINGS)
    judge = Judge(model, compressed)
    logits = forward(model, compressed)
    for row, real in enumerate(judge.real):
        judge.check(row, TURN[row, :0], logits[row, real])


WAYS: dict[str, dict[str, Any]] = {
    "no cache": {"use_cache": False},
    "static": {"cache_implementation": "static", "disable_compile": True},
    "chunks": {"prefill_chunk_size": 8},
    "lookup": {"prompt_lookup_num_tokens": 2},
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("way", "rows"), [(way, n) for way in WAYS for n in (3, 1) if way != "lookup" or n == 1]
)
def test_ways_of_generating(way: str, rows: int, attention: str) -> None:
    """Padded, and one row without padding, for which the stock model makes no mask."""
    if way == "chunks" and not CHUNKS:
        pytest.skip("this transformers hands encoder outputs to every chunk")
    model, raw = inputs_of("llava_onevision", attention)
    if rows == 1:
        raw = {key: value[:1] for key, value in raw.items()}
        real = raw["attention_mask"][0].bool()
        raw |= {key: raw[key][:, real] for key in ("input_ids", "attention_mask")}
        raw.pop("pixel_values_videos")
    compressed = compress_inputs(model, raw, **SETTINGS)
    judge = Judge(model, compressed)
    try:
        out = run(model, compressed, **WAYS[way])
    finally:
        vars(model).pop("_cache", None)
    judge.check_steps(out, compressed["input_ids"].shape[1])


@pytest.mark.parametrize(
    ("beams", "returned", "family", "attention"),
    [
        (2, 1, "llava_onevision", "eager"),
        (3, 2, "llava_onevision", "sdpa"),
        (3, 3, "llava_next", "sdpa"),
        (3, 2, "qwen3_vl", "eager"),
    ],
)
def test_beams(beams: int, returned: int, family: str, attention: str) -> None:
    model, raw = inputs_of(family, attention)
    compressed = compress_inputs(model, raw, **SETTINGS)
    judge = Judge(model, compressed)
    more = {"num_beams": beams, "num_return_sequences": returned, "output_scores": True, "max_new_tokens": 4}
    out = run(model, compressed, **more)
    judge.check_scores(out, compressed["input_ids"].shape[1], returned)


def test_several_sampled_sequences() -> None:
    model, raw = inputs_of("llava_onevision")
    compressed = compress_inputs(model, raw, **SETTINGS)
    judge = Judge(model, compressed)
    out = run(model, compressed, do_sample=True, num_return_sequences=2, max_new_tokens=3)
    judge.check_steps(out, compressed["input_ids"].shape[1], copies=2)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("way", ["dynamic", "static", "chunks"])
@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_sliding_windows(kind: str, way: str, attention: str) -> None:
    if way == "chunks" and not CHUNKS:
        pytest.skip("this transformers hands encoder outputs to every chunk")
    model, raw = windowed(kind, attention)
    compressed = compress_inputs(model, raw, **SETTINGS)
    assert compressed["input_ids"].shape[1] > 24
    judge = Judge(model, compressed)
    # The row of one early visual has left the window by the last column, so all columns of the prefill are compared.
    out = run(model, compressed, **WAYS.get(way, {}))
    judge.check_steps(out, compressed["input_ids"].shape[1], prefill=forward(model, compressed))


def test_flex_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncompiled: the compiled form needs a compiler, and its decoding fails in stock transformers on the CPU."""
    module = pytest.importorskip("torch.nn.attention.flex_attention")
    integration = pytest.importorskip("transformers.integrations.flex_attention")
    if not hasattr(module, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"):
        pytest.skip("this torch cannot run flex attention without compiling it")
    monkeypatch.setattr(module, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(
        integration,
        "compile_friendly_flex_attention",
        lambda query, key, value, training=False, **more: module.flex_attention(query, key, value, **more),
    )
    monkeypatch.setattr(
        "transformers.masking_utils.create_block_mask",
        lambda _compile=False, **more: module.create_block_mask(**more),
    )
    model, raw = inputs_of("llava_onevision", "flex_attention")
    compressed = compress_inputs(model, raw, **SETTINGS)
    try:
        with torch.no_grad():
            model(**raw)
    except Exception as error:  # noqa: BLE001  (whatever keeps the stock model from it)
        pytest.skip(f"flex attention does not run here: {type(error).__name__}")
    judge = Judge(model, compressed)
    judge.check_steps(run(model, compressed, max_new_tokens=3), compressed["input_ids"].shape[1])


@pytest.mark.parametrize(("strength", "cap"), [(0.5, None), (2.0, None), (1.0, 3.0), (1.5, 1.0)])
def test_strength_and_cap(strength: float, cap: float | None) -> None:
    model, raw = inputs_of("llava_onevision")
    compressed = compress_inputs(model, raw, **SETTINGS, mass_strength=strength, mass_cap=cap)
    masses = expected_columns(model, compressed)
    expected = strength * (masses if cap is None else masses.clamp(max=cap)).log()
    plan = compressed.inside.mass
    assert torch.equal(plan.bias(torch.device("cpu")), expected)
    if cap is None:
        judge = Judge(model, compressed, strength)
        judge.check_steps(run(model, compressed, max_new_tokens=2), compressed["input_ids"].shape[1])


# Later turns -----------------------------------------------------------------------------------------------------


def later(raw: dict[str, Any], sequences: torch.Tensor) -> dict[str, Any]:
    """Ids and mask of the whole conversation and the next turn."""
    ids = torch.cat((sequences, TURN), dim=1)
    ones = torch.ones_like(ids[:, raw["input_ids"].shape[1] :])
    return {"input_ids": ids, "attention_mask": torch.cat((raw["attention_mask"], ones), dim=1)}


@pytest.mark.parametrize(
    ("family", "positions"),
    [
        ("llava_onevision", "contiguous"),
        ("llava_onevision", "original"),
        ("internvl", "contiguous"),
        ("qwen2_5_vl", "original"),
        ("qwen3_vl", "original"),
    ],
)
def test_a_second_turn_in_the_block(family: str, positions: str) -> None:
    """After other inputs and a text ran on the same model."""
    model, raw = inputs_of(family)
    settings = {**SETTINGS, "positions": positions}
    judge = Judge(model, compress_inputs(model, raw, **settings))
    width = raw["input_ids"].shape[1]
    with vidcompress.compress(model, **settings):
        first = model.generate(**raw, **GREEDY)
        other = {k: v.flip(0) if k.startswith("pixel") else v for k, v in raw.items()}
        model.generate(**other, **GREEDY)
        model.generate(input_ids=TURN, attention_mask=torch.ones_like(TURN), **GREEDY)
        whole = later(raw, first.sequences)
        second = model.generate(**whole, cache=returned_cache(first), **GREEDY)
    judge.check_steps(first, width)
    judge.check_steps(second, whole["input_ids"].shape[1], before=list(whole["input_ids"][:, width:]))


def test_a_second_turn_of_plain_inputs() -> None:
    """In the block of the first, in another block of the same inputs, and outside: another answer, without an error."""
    model, raw = inputs_of("llava_onevision")
    compressed = compress_inputs(model, raw, **SETTINGS)
    judge = Judge(model, compressed)
    width = compressed["input_ids"].shape[1]
    short = {key: compressed[key] for key in ("input_ids", "attention_mask")}
    with compressed.pruning():
        first = model.generate(**compressed, **GREEDY)
        whole = later(short, first.sequences)
        kept = copy.deepcopy(returned_cache(first)), copy.deepcopy(returned_cache(first))
        turns = [model.generate(**whole, **{cache_name(): returned_cache(first)}, **GREEDY)]
    with compressed.pruning():
        turns.append(model.generate(**whole, **{cache_name(): kept[0]}, **GREEDY))
    before = list(whole["input_ids"][:, width:])
    for turn in turns:
        judge.check_steps(turn, whole["input_ids"].shape[1], before=before)
    outside = model.generate(**whole, **{cache_name(): kept[1]}, **GREEDY)
    apart = torch.stack(outside.logits) - torch.stack(turns[0].logits)
    assert float(apart[0].abs().amax()) > 1e-3


def test_direct_calls_over_a_cache_that_the_block_filled() -> None:
    """Decoding by hand, after a direct prefill and after generate; a cache that was emptied holds no masses."""
    model, raw = inputs_of("llava_onevision")
    compressed = compress_inputs(model, raw, **SETTINGS)
    judge = Judge(model, compressed)
    mask = torch.cat((compressed["attention_mask"], torch.ones(3, 1, dtype=torch.int64)), dim=1)
    token, ids = TURN[:, :1], mask.cumsum(dim=1) - 1
    with vidcompress.compress(model, **SETTINGS), torch.no_grad():
        cache = returned_cache(
            model(**raw, position_ids=raw["attention_mask"].cumsum(dim=1) - 1, use_cache=True)
        )
        made = model.generate(**raw, **{**GREEDY, "max_new_tokens": 1})
        for filled in (cache, returned_cache(made)):
            more = {"attention_mask": mask, "position_ids": ids[:, -1:], cache_name(): filled}
            step = model(input_ids=token, **more).logits
            for row in range(3):
                judge.check(row, token[row], step[row])
        cache.crop(-cache.get_seq_length())
        text = model(input_ids=TURN, **{cache_name(): cache})
        more = {cache_name(): returned_cache(text)}
        behind = model(input_ids=token, **more).logits
    with torch.no_grad():
        stock = model(input_ids=torch.cat((TURN, token), dim=1)).logits[:, -1:]
    torch.testing.assert_close(behind, stock, atol=1e-5, rtol=1e-5)

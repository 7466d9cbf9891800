"""Pruning inside decoders with axes of positions, normalised heads and companions; each equality has a control."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

import vidcompress
from mrope_family import FAMILIES, MropeAdapter, mrope_inputs, mrope_model
from vidcompress import compress_inputs, get_method
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods
from vidcompress.core.pruning.schedule import Stage
from vidcompress.errors import ArgumentError, UnsupportedInputError, UnsupportedModelError
from vidcompress.llm_pruning import prefill
from vidcompress.llm_pruning.cache_names import returned_cache
from vidcompress.llm_pruning.companions import Companions
from vidcompress.testing.inside import check_inside

pytestmark = [pytest.mark.transformers, pytest.mark.usefixtures("mrope_adapter")]

INSIDE = [name for name in available_methods() if METHODS.get(name).where == "inside"]
DROPPING = [name for name in INSIDE if name != "sparsevlm"]  # which merges as well
COMPOSED = ["globalcom2+fastv", "uniform+pdrop", "random+sparsevlm2"]
PICTURE, CLIP = ("image", (1, 8, 12)), ("video", (3, 8, 4))
SCENES: dict[str, list[list[Any]]] = {
    "image": [[5, 6, PICTURE, 7, 8]],
    "clip": [[5, CLIP, 7, 8, 9]],
    "ragged": [[5, PICTURE, 6, CLIP, 7, 8], [4, 4, CLIP, 9], [3, 2, 5]],
}
GREEDY: dict[str, Any] = {"do_sample": False, "suppress_tokens": [90, 91]}


@lru_cache(maxsize=4)
def model_of(family: str, attention: str = "sdpa") -> Any:
    """A model whose norms of queries and keys are no mere lengths, if it has any."""
    model = copy.deepcopy(mrope_model(family))
    model.set_attn_implementation(attention)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_norm" in name or "k_norm" in name:
                weight.copy_(0.5 + 2 * torch.rand(weight.shape, generator=generator))
    return model


def logits(model: Any, compressed: Any, **more: Any) -> Tensor:
    with torch.no_grad(), compressed.pruning():
        return model(**compressed, **more).logits  # type: ignore[no-any-return]


def stock(model: Any, inputs: Any) -> Any:
    with torch.no_grad():
        return model(**inputs)


@contextmanager
def masked(model: Any, outcome: dict[int, Tensor]) -> Iterator[None]:
    """The stock model in which columns (row, C) are hidden from each layer on; every column sees itself."""

    def mask(number: int, module: Any, args: Any, kwargs: Any) -> Any:
        settled = [layer for layer in outcome if layer <= number]
        if not settled:
            return None
        there = outcome[max(settled)]
        width = kwargs["hidden_states"].shape[1] if not args else args[0].shape[1]
        there = torch.cat((there, there.new_ones((len(there), width - there.shape[1]))), dim=1)
        hidden = ~there[:, None, None, :] & ~torch.eye(width, dtype=torch.bool)
        return args, {**kwargs, "attention_mask": kwargs["attention_mask"].masked_fill(hidden, -1e30)}

    layers = model.model.language_model.layers
    handles = [
        layer.register_forward_pre_hook(partial(mask, n), with_kwargs=True) for n, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def uncut(compressed: Any) -> Any:
    """The same prompt, of which nothing is left out inside the model."""
    whole = copy.copy(compressed)
    whole.inside = None
    return whole


def apart(model: Any, inputs: Any, method: str) -> tuple[float, Any]:
    """How far a pruned prefill is from the stock model with the same columns hidden, and the compressed inputs."""
    compressed = compress_inputs(model, inputs, method, retention_ratio=0.55)
    pruned = logits(model, compressed)
    outcome = compressed.inside.plan.outcome.kept
    with masked(model, outcome):
        whole = stock(model, uncut(compressed)).logits
    furthest = 0.0
    for row, there in enumerate(outcome[max(outcome)] & compressed.inside.plan.real):
        count = int(there.sum())
        furthest = max(furthest, float((pruned[row, -count:] - whole[row, there]).abs().max()))
    return furthest, compressed


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("method", [*INSIDE, "globalcom2+fastv", "uniform+pdrop"])
@pytest.mark.parametrize("family", FAMILIES)
def test_everything_kept_is_the_stock_model(family: str, method: str, scene: str) -> None:
    model = model_of(family)
    inputs = mrope_inputs(model, SCENES[scene])
    whole = compress_inputs(model, inputs, method, retention_ratio=1)
    assert whole.report.positions == "original"
    assert torch.equal(logits(model, whole), stock(model, inputs).logits)


@pytest.mark.parametrize("layers", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_stages_that_drop_nothing_are_the_stock_model(family: str, layers: tuple[int, ...]) -> None:
    """With every hook at work: sequences gathered, companions added by hooks. To the bit."""
    model = model_of(family)
    inputs = mrope_inputs(model, SCENES["clip"])
    whole = compress_inputs(model, inputs, "fastv", retention_ratio=1)
    (schedule,) = whole.inside.plan.schedules
    stages = tuple(Stage(layer, schedule.total) for layer in layers)
    whole.inside.plan.schedules[0] = replace(schedule, stages=stages)
    assert torch.equal(logits(model, whole), stock(model, inputs).logits)
    assert list(whole.inside.plan.outcome.kept) == list(layers)


@pytest.mark.parametrize("scene", ["image", "clip", "ragged"])
@pytest.mark.parametrize("method", [*DROPPING, *COMPOSED])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_dropped_is_hidden_from_that_layer_on(family: str, method: str, scene: str) -> None:
    model = model_of(family, "eager")
    furthest, compressed = apart(model, mrope_inputs(model, SCENES[scene]), method)
    assert furthest < 2e-6
    assert 1 in compressed.inside.plan.outcome.kept  # before the last companions are added


def test_without_companions_it_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen3_vl", "eager")
    inputs = mrope_inputs(model, SCENES["ragged"])
    true = Companions.add
    monkeypatch.setattr(Companions, "add", lambda self, level, hidden, *where: hidden)
    assert apart(model, inputs, "fastv")[0] > 1e-3

    def of_the_first_columns(self: Companions, level: int, hidden: Tensor, *where: Tensor) -> Tensor:
        first = torch.arange(hidden.shape[1]).expand(hidden.shape[:2])
        return true(self, level, hidden, *((first, where[1]) if where else ()))

    monkeypatch.setattr(Companions, "add", of_the_first_columns)
    assert apart(model, inputs, "fastv")[0] > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_with_positions_of_one_axis_it_is_another_model(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(family, "eager")
    true = prefill.next_sequence

    def flat(state: Any, layer: int, hidden: Tensor, decoder: Any) -> Tensor:
        out = true(state, layer, hidden, decoder)
        state.now.embeddings = decoder.rotary_emb(out, state.now.position_ids.expand(3, -1, -1))
        return out

    inputs = mrope_inputs(model, SCENES["clip"])
    assert apart(model, inputs, "fastv")[0] < 2e-6
    monkeypatch.setattr("vidcompress.llm_pruning.hooks.next_sequence", flat)
    assert apart(model, inputs, "fastv")[0] > 1e-3


def rows_seen(model: Any, inputs: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Any]:
    """Attention rows (b, H, q, n) or keys (b, n, G d) that a method saw at its first stage; the compressed inputs."""
    cls, seen = METHODS.get(method), []
    true = cls.score

    def score(self: Any, between: Any) -> Tensor:
        seen.append(between.attention if between.keys is None else between.keys)
        return true(self, between)

    compressed = compress_inputs(model, inputs, method, retention_ratio=0.55)
    with monkeypatch.context() as patch:
        patch.setattr(cls, "score", score)
        logits(model, compressed)
    return seen[0], compressed


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_are_those_of_the_cache(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotated and normalised as the layer has them, at all columns that are not padding."""
    model = model_of(family)
    inputs = mrope_inputs(model, SCENES["ragged"])
    keys, compressed = rows_seen(model, inputs, "dart", monkeypatch)
    plan = compressed.inside.plan
    with torch.no_grad():
        cache = model(**inputs, use_cache=True).past_key_values
    held = [cache.layers[plan.layers[0] - offset].keys.transpose(1, 2).flatten(2) for offset in (1, 0)]
    real = plan.real[..., None]
    off, other = (float(((keys - one).abs() * real).max()) for one in held)
    assert off < 1e-5 < 1e-3 < other, "of the layer before, and not of the next"


@pytest.mark.parametrize("method", [name for name in INSIDE if METHODS.get(name).reads == "attention"])
@pytest.mark.parametrize("family", FAMILIES)
def test_attention_rows_are_those_of_eager_maps(
    family: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the layer before, or of the one that comes next, on a left-padded batch of unequal grids."""
    model = model_of(family, "eager")
    inputs = mrope_inputs(model, SCENES["ragged"])
    rows, compressed = rows_seen(model, inputs, method, monkeypatch)
    plan = compressed.inside.plan
    with torch.no_grad():
        maps = model(**inputs, output_attentions=True).attentions
    layer = plan.layers[0] - (plan.method.source == "previous")
    expected = maps[layer][:, :, -rows.shape[2] :]
    asks = plan.real[:, -rows.shape[2] :, None] & plan.real[:, None]
    off = ((rows - expected).abs() * asks[:, None]).max()
    assert float(off) < 1e-6
    if family.endswith("qwen2_5_vl"):
        return
    monkeypatch.setattr(prefill, "head_norms", lambda attention: (None, None))
    bare, _ = rows_seen(model, inputs, method, monkeypatch)
    assert float(((bare - expected).abs() * asks[:, None]).max()) > 1e-3


def test_without_norms_other_tokens_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen3_vl")
    inputs = mrope_inputs(model, SCENES["ragged"])

    def kept() -> list[Tensor]:
        compressed = compress_inputs(model, inputs, "pdrop", retention_ratio=0.55)
        logits(model, compressed)
        return list(compressed.inside.plan.outcome.kept.values())

    right = kept()
    assert all(map(torch.equal, right, kept()))
    monkeypatch.setattr(prefill, "head_norms", lambda attention: (None, None))
    assert not all(map(torch.equal, right, kept()))


@pytest.mark.parametrize("method", ["fastv", "pdrop", "sparsevlm2", "globalcom2+fastv"])
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_steps_are_those_of_a_recompute(family: str, method: str) -> None:
    """Five tokens with a cache of unequal layers; each from the stock model without a cache, columns hidden."""
    model, steps = model_of(family, "eager"), 5
    inputs = mrope_inputs(model, SCENES["clip"])
    compressed = compress_inputs(model, inputs, method, retention_ratio=0.55)
    call = {"return_dict_in_generate": True, "output_logits": True}
    with compressed.pruning():
        out = model.generate(**compressed, max_new_tokens=steps, **GREEDY, **call)
    whole = uncut(compressed)
    width, outcome = compressed["input_ids"].shape[1], compressed.inside.plan.outcome.kept
    for step in range(steps):
        more = out.sequences[:, width : width + step]
        ones = torch.ones_like(more)
        last = whole["position_ids"][..., -1:] + 1
        later = {
            "input_ids": torch.cat((whole["input_ids"], more), dim=1),
            "attention_mask": torch.cat((whole["attention_mask"], ones), dim=1),
            "position_ids": torch.cat((whole["position_ids"], last + torch.arange(step)), dim=-1),
            "mm_encoder_outputs": whole["mm_encoder_outputs"],
        }
        with masked(model, outcome), torch.no_grad():
            again = model(**later, use_cache=False).logits[:, -1]
        torch.testing.assert_close(out.logits[step], again, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", [*INSIDE, "globalcom2+pdrop"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_alone_and_together_beams_and_the_block(family: str, method: str) -> None:
    model, rows = model_of(family), [SCENES["image"][0], SCENES["clip"][0]]
    inputs = mrope_inputs(model, rows)
    singles = _singles(model, rows, inputs)
    for more in ({}, {"num_beams": 2}, {"num_beams": 3, "num_return_sequences": 2}):
        copies = more.get("num_return_sequences", 1)
        call = {**GREEDY, "max_new_tokens": 5, **more}
        with vidcompress.compress(model, method, retention_ratio=0.6) as session:
            together = model.generate(**inputs, **call)[:, -5:]
            counts = [session.report.for_row(i).inside.per_layer for i in range(2)]
            for i, single in enumerate(singles):
                alone = model.generate(**single, **call)[:, -5:]
                assert together[i * copies : (i + 1) * copies].tolist() == alone.tolist()
                assert session.report.inside.per_layer == counts[i]
        compressed = compress_inputs(model, inputs, method, retention_ratio=0.6)
        with compressed.pruning():
            assert torch.equal(model.generate(**compressed, **call)[:, -5:], together)


def _singles(model: Any, rows: list[Any], inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Each row as a batch of its own, with its own pixels."""
    image, clip = (mrope_inputs(model, [row]) for row in rows)
    for key in ("pixel_values", "pixel_values_videos"):
        for single in (image, clip):
            if key in single:
                single[key] = inputs[key]
    return [image, clip]


@pytest.mark.parametrize("method", INSIDE)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_later_turn_goes_on_over_what_is_left(family: str, method: str) -> None:
    """Token by token and all at once, after another input ran on the same model and left its offsets."""
    model = model_of(family)
    inputs = mrope_inputs(model, SCENES["ragged"][:2])
    width, more = inputs["input_ids"].shape[1], torch.tensor([[7, 8, 9], [12, 13, 14]])

    def answer(split: list[int]) -> Tensor:
        with vidcompress.compress(model, method, retention_ratio=0.6):
            call = {**GREEDY, "return_dict_in_generate": True, "max_new_tokens": 1}
            out = model.generate(**inputs, **call)
            ids = out.sequences
            cache = returned_cache(out)
            assert cache.get_seq_length(0) > cache.get_seq_length(2)
            model.generate(**mrope_inputs(model, SCENES["clip"], seed=5), **call)
            for part in torch.split(more, split, dim=1):
                ids = torch.cat((ids, part), dim=1)
                mask = torch.cat((inputs["attention_mask"], torch.ones_like(ids[:, width:])), dim=1)
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    past_key_values=returned_cache(out),
                    output_logits=True,
                    **call,
                )
            return out.logits[0]  # type: ignore[no-any-return]

    torch.testing.assert_close(answer([3]), answer([1, 1, 1]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", [*INSIDE, "globalcom2+fastv"])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_hold_what_was_planned(family: str, method: str) -> None:
    model = model_of(family)
    check_inside(model, mrope_inputs(model, SCENES["ragged"]), get_method(method))


@pytest.mark.parametrize("method", [*INSIDE, "globalcom2+fastv"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_does_not_go_with_axes_is_refused(family: str, method: str) -> None:
    model = model_of(family)
    inputs = mrope_inputs(model, SCENES["image"])
    with pytest.raises(ArgumentError, match="'contiguous' cannot go with Qwen.*4 axes"):
        compress_inputs(model, inputs, method, retention_ratio=0.6, positions="contiguous")
    compressed = compress_inputs(model, inputs, method, retention_ratio=0.6)
    assert not compressed.inside.plan.contiguous  # whatever the method's authors do
    with vidcompress.compress(model, method, retention_ratio=0.6):
        for option in ({"use_cache": False}, {"prefill_chunk_size": 8}, {"cache_implementation": "static"}):
            with pytest.raises(UnsupportedInputError, match="cannot go with method"):
                model.generate(**inputs, max_new_tokens=2, **option)


def test_hybrids_and_decoders_that_add_by_other_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen3_vl")
    compressed = compress_inputs(model, mrope_inputs(model, SCENES["image"]), "fastv", retention_ratio=0.6)
    true = MropeAdapter.traits
    with monkeypatch.context() as patch:
        patch.setattr(MropeAdapter, "traits", property(lambda self: replace(true.fget(self), hybrid=True)))
        with pytest.raises(UnsupportedModelError, match="whose layers are not all attention"):
            logits(model, compressed)
    with monkeypatch.context() as patch:
        names = ("visual_pos_masks", "deep")
        patch.setattr(
            MropeAdapter, "traits", property(lambda self: replace(true.fget(self), deep_arguments=names))
        )
        says = "behind its first 2 layers and takes no visual_pos_masks and deep, .*traits.deep_arguments"
        with pytest.raises(UnsupportedModelError, match=says):
            logits(model, compressed)
    monkeypatch.setattr(MropeAdapter, "hand_over", classmethod(_without_companions))
    hollow = compress_inputs(model, mrope_inputs(model, SCENES["image"]), "fastv", retention_ratio=0.6)
    with pytest.raises(UnsupportedModelError, match="without visual_pos_masks and deepstack_visual_embeds"):
        logits(model, hollow)


_HAND_OVER = MropeAdapter.hand_over


def _without_companions(cls: Any, traits: Any, rows: Any, deep: Any) -> Any:
    out = _HAND_OVER(traits, rows, deep)
    for encoded in out.values():
        encoded.deepstack_features = []
    return out


def test_nothing_is_left_behind() -> None:
    """No hook, also after an error, and the stock model adds its companions itself again."""
    model = model_of("qwen3_vl")
    inputs = mrope_inputs(model, SCENES["ragged"])
    core = model.model.language_model
    parts = [core, *core.layers, *(layer.self_attn.q_proj for layer in core.layers)]

    def hooks() -> list[int]:
        return [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts]

    before, expected = hooks(), stock(model, inputs).logits
    with vidcompress.compress(model, "fastv", retention_ratio=0.6):
        assert hooks() != before
        stock(model, inputs)
    with pytest.raises(ZeroDivisionError), vidcompress.compress(model, "fastv", retention_ratio=0.6):
        raise ZeroDivisionError
    assert hooks() == before
    assert torch.equal(stock(model, inputs).logits, expected)
    with vidcompress.compress(model, "fastv", retention_ratio=0.6):  # a prompt of text, and then a pruned one
        text = mrope_inputs(model, [[3, 2, 5]])
        stock(model, text)
        stock(model, inputs)
    assert torch.equal(stock(model, inputs).logits, expected)


def test_companions_go_to_the_columns_that_are_left() -> None:
    """Row after row by the mask; a merged token gets that of its centre, text and padding none."""
    visual = torch.tensor([[False, True, True, False], [True, False, False, True]])
    level = torch.arange(1.0, 5.0)[:, None].expand(4, 3)
    hidden = torch.zeros(2, 4, 3)
    companions = Companions(visual, [level])
    assert companions.add(0, hidden)[..., 0].tolist() == [[0, 1, 2, 0], [3, 0, 0, 4]]
    columns, there = torch.tensor([[0, 2, 2], [3, 0, 1]]), torch.tensor([[0, 1, 1], [0, 1, 0]]).bool()
    assert companions.add(0, hidden[:, :3], columns, there)[..., 0].tolist() == [[0, 2, 2], [0, 3, 0]]


@pytest.mark.parametrize("scene", SCENES)
def test_merged_tokens_take_the_companions_of_their_centres(
    scene: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SparseVLM sends the means of what it leaves out; each counts as the token in the middle of its cluster."""
    model = model_of("qwen3_vl")
    compressed = compress_inputs(model, mrope_inputs(model, SCENES[scene]), "sparsevlm", retention_ratio=0.6)
    seen: dict[int, Any] = {}
    true = Companions.add

    def add(self: Companions, level: int, hidden: Tensor, *where: Tensor) -> Tensor:
        seen[level] = where
        return true(self, level, hidden, *where)

    monkeypatch.setattr(Companions, "add", add)
    logits(model, compressed)
    plan = compressed.inside.plan
    merged = sum(count for _, count in plan.tokens_from(1))
    assert merged and set(seen) == {0, 1} and not seen[0]
    columns, there = seen[1]
    marked = torch.zeros(plan.real.shape, dtype=torch.int64).scatter_add(1, columns, there.long())
    assert torch.equal(marked > 0, plan.outcome.kept[1] & plan.visual)
    assert marked.sum(1).tolist() == plan.tokens_in(1)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("method", INSIDE)
def test_half_precision(method: str, autocast: bool) -> None:
    """In bfloat16 and under autocast; answers do not depend on the call, and companions still count."""
    model = model_of("qwen3_vl") if autocast else copy.deepcopy(model_of("qwen3_vl")).to(torch.bfloat16)
    inputs = mrope_inputs(model, SCENES["ragged"])
    if not autocast:
        inputs = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in inputs.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        compressed = compress_inputs(model, inputs, method, retention_ratio=0.6)
        first, second = logits(model, compressed), logits(model, compressed)
    assert first.dtype == torch.bfloat16 and bool(first.isfinite().all())
    assert torch.equal(first, second)


def test_names_of_transformers_that_are_leaned_on() -> None:
    decoder = model_of("qwen3_vl").model.language_model
    parameters = inspect.signature(type(decoder).forward).parameters
    assert {"visual_pos_masks", "deepstack_visual_embeds"} <= set(parameters)
    attention = decoder.layers[0].self_attn
    assert attention.q_norm.weight.shape == attention.k_norm.weight.shape == (attention.head_dim,)
    turned = decoder.rotary_emb(torch.zeros(2, 5, 32), torch.arange(5).expand(3, 2, 5))
    assert [tuple(part.shape) for part in turned] == [(2, 5, attention.head_dim)] * 2


@pytest.mark.parametrize("method", ["fastv", "sparsevlm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_text_positions_of_layers_have_no_gaps(family: str, method: str) -> None:
    """Flash attention reads gaps as packed sequences; the rotary embeddings keep theirs."""
    model = model_of(family)
    compressed = compress_inputs(model, mrope_inputs(model, SCENES["ragged"]), method, retention_ratio=0.6)
    seen: list[Any] = []
    handle = model.model.language_model.layers[1].self_attn.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    try:
        logits(model, compressed)
    finally:
        handle.remove()
    plan, (kwargs,) = compressed.inside.plan, seen
    tokens = [sum(pair) for pair in zip(plan.texts, plan.tokens_in(1), strict=True)]
    for ids, count in zip(kwargs["position_ids"], tokens, strict=True):
        assert ids[-count:].tolist() == list(range(count))
    cos = kwargs["position_embeddings"][0]
    assert cos.shape[:2] == kwargs["position_ids"].shape
    width = cos.shape[1]
    axes = kwargs["position_ids"].expand(3, -1, -1)
    flat = model.model.language_model.rotary_emb(kwargs["hidden_states"], axes)[0]
    assert float((cos - flat)[0, width - tokens[0] :].abs().max()) > 1e-3

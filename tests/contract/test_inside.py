"""Pruning inside the decoder: equal to a run by hand without cache, exact counts, and nothing left behind."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from transformers import StaticCache

import vidcompress
from reference.slow_decoder import Rule, Token, run
from tiny_models import FAMILIES, VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress.core.method import METHODS, Positions
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.errors import (
    ArgumentError,
    BudgetError,
    CompressionStateError,
    UnsupportedInputError,
    UnsupportedModelError,
)
from vidcompress.llm_pruning.cache_names import cache_name, returned_cache
from vidcompress.methods.controls import Uniform
from vidcompress.session.compress import compress_inputs

pytestmark = pytest.mark.transformers

INSIDE = [name for name in available_methods() if METHODS.get(name).where == "inside"]
COMPOSED = ["globalcom2+fastv", "random+pdrop", "uniform+sparsevlm", "globalcom2+sparsevlm2"]
ROWS = [
    Scene((("image", (56, 56)),), before=3, after=6, seed=1),
    Scene((), before=5, seed=2),
    Scene((("image", (40, 100)),), before=7, after=5, seed=3),
]
CLIPS = [
    Scene((("video", 5),), before=3, after=6, seed=1),
    Scene((), before=5, seed=2),
    Scene((("video", 5),), before=7, after=5, seed=3),
]
STEPS = 4


def embeds(model: Any, compressed: Any) -> torch.Tensor:
    """(row, column, D) what the decoder takes in."""
    seen = []
    handle = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    try:
        with torch.no_grad(), compressed.pruning():
            model(**compressed)
    finally:
        handle.remove()
    return seen[0]


def by_hand(model: Any, compressed: Any, row: int, states: torch.Tensor) -> tuple[list[int], list[Rule]]:
    """Greedy answer of one row, the whole sequence run anew for every token."""
    plan = compressed.inside.plan
    ids, mask = compressed["input_ids"][row], compressed["attention_mask"][row].bool()
    start = int((~mask).sum())
    given = compressed["position_ids"][row] if "position_ids" in compressed else None
    visual = {c for columns in plan.columns[row] for c in columns.tolist()}
    tokens = [
        Token(
            states[row, c],
            int(given[c]) if given is not None else c - start,
            "visual" if c in visual else "text",
            c,
        )
        for c in range(start, ids.shape[0])
    ]
    stages = [(s.layer, s.kept, s.merged) for s in plan.schedules[row].stages]
    answer: list[int] = []
    rules = []
    for _ in range(STEPS):
        rule = Rule(plan.method.name, stages, plan.contiguous)
        logits = model.lm_head(run(model.model.language_model, tokens, rule))
        logits[model.generation_config.suppress_tokens] = -torch.inf
        answer.append(int(logits.argmax()))
        state = model.get_input_embeddings()(torch.tensor(answer[-1]))
        tokens.append(Token(state.detach(), tokens[-1].position + 1, "answer", len(ids) + len(answer)))
        rules.append(rule)
    return answer, rules


@pytest.mark.parametrize(
    ("attention", "positions"), [("sdpa", "contiguous"), ("eager", "original"), ("sdpa", "original")]
)
@pytest.mark.parametrize("method", [*INSIDE, *COMPOSED])
def test_generation_equals_a_run_by_hand(method: str, positions: str, attention: str) -> None:
    """A batch of three unequal prompts with grouped queries, token for token, and the same tokens kept."""
    model = tiny_model("llava_onevision", attention=attention)
    compressed = compress_inputs(model, batch(model, ROWS), method, retention_ratio=0.55, positions=positions)
    equals_a_run_by_hand(model, compressed)


@dataclass(frozen=True)
class Scaled(Uniform):
    """A method whose authors scale positions."""

    name: ClassVar[str] = "scaled-uniform"
    positions: ClassVar[Positions] = "scaled"


@pytest.mark.parametrize("positions", ["scaled", None])
@pytest.mark.parametrize("method", ["uniform+fastv", "uniform+pdrop", "uniform+sparsevlm2"])
def test_a_clip_whose_positions_shrink_goes_on_inside(method: str, positions: Any) -> None:
    """The prompt has the scaled positions; inside, they stay or are renumbered as the inside method does."""
    model = tiny_model("llava_onevision", home_tokens=12)
    chosen = replace(get_method(method), before=Scaled())
    settings = {"retention_ratio": 0.55, "positions": positions}
    compressed = compress_inputs(model, batch(model, CLIPS), chosen, **settings)
    original = compress_inputs(model, batch(model, CLIPS), chosen, **{**settings, "positions": "original"})
    assert (compressed["position_ids"][2, -1] < original["position_ids"][2, -1]).all(), (
        "the control: it shrinks"
    )
    assert compressed.inside.plan.contiguous == (positions is None and method == "uniform+pdrop")
    equals_a_run_by_hand(model, compressed)


@pytest.mark.parametrize("method", INSIDE)
def test_a_whole_prompt_has_no_gap_to_scale(method: str) -> None:
    model = tiny_model("llava_onevision", home_tokens=12)
    with pytest.raises(
        ArgumentError, match=f"'scaled' cannot go with method '{method}': .*'original' or 'contiguous'"
    ):
        compress_inputs(model, batch(model, CLIPS), method, retention_ratio=0.7, positions="scaled")


def equals_a_run_by_hand(model: Any, compressed: Any) -> None:
    with compressed.pruning():
        out = model.generate(**compressed, max_new_tokens=STEPS, do_sample=False)
    answers = out[:, compressed["input_ids"].shape[1] :]
    outcome = compressed.inside.plan.outcome.kept
    states = embeds(model, compressed)
    for row in range(len(out)):
        expected, rules = by_hand(model, compressed, row, states)
        assert answers[row].tolist() == expected
        for layer, columns in rules[0].log.items():
            visual = {c for part in compressed.inside.plan.columns[row] for c in part.tolist()}
            kept = {c for c in outcome[layer][row].nonzero().flatten().tolist() if c in visual}
            assert kept == set(columns)


CASES = [
    (method, family, kind)
    for method in [*INSIDE, "globalcom2+fastv", "uniform+pdrop"]
    for family in FAMILIES
    for kind in ("image", "video")
    if kind == "image" or family in VIDEO_FAMILIES
]


def scene(kind: str, seed: int = 1, before: int = 3) -> Scene:
    return Scene(((kind, (112, 80) if kind == "image" else 5),), before=before, after=6, seed=seed)


def logits(model: Any, compressed: Any) -> torch.Tensor:
    with torch.no_grad(), compressed.pruning():
        return model(**compressed).logits


@pytest.mark.parametrize(("method", "family", "kind"), CASES)
def test_1_everything_kept_is_the_model_without_us(method: str, family: str, kind: str) -> None:
    model = tiny_model(family)
    raw = batch(model, [scene(kind), Scene((), seed=7)])
    with torch.no_grad():
        stock = model(**raw).logits
    hooks = [len(layer._forward_pre_hooks) for layer in model.model.language_model.layers]
    compressed = compress_inputs(model, raw, method, retention_ratio=1)
    assert torch.equal(logits(model, compressed), stock)
    with vidcompress.compress(model, method, retention_ratio=0.6):
        with torch.no_grad():
            model(**raw)
    with pytest.raises(ZeroDivisionError), vidcompress.compress(model, method, retention_ratio=0.6):
        raise ZeroDivisionError
    assert [len(layer._forward_pre_hooks) for layer in model.model.language_model.layers] == hooks
    assert not model._forward_hooks and "generate" not in vars(model)
    with torch.no_grad():
        assert torch.equal(model(**raw).logits, stock)


@pytest.mark.parametrize("ratio", [0.45, 0.6, 0.9])
@pytest.mark.parametrize(("method", "family", "kind"), CASES)
def test_2_counts_are_those_planned_and_the_largest_within_the_budget(
    method: str, family: str, kind: str, ratio: float
) -> None:
    model = tiny_model(family)
    compressed = compress_inputs(model, batch(model, [scene(kind)]), method, retention_ratio=ratio)
    widths: list[int] = []
    handles = [
        layer.self_attn.register_forward_pre_hook(
            lambda module, args, kwargs: widths.append(kwargs["hidden_states"].shape[1]), with_kwargs=True
        )
        for layer in model.model.language_model.layers
    ]
    try:
        logits(model, compressed)
    finally:
        for handle in handles:
            handle.remove()
    inside, (visual,) = compressed.report.inside, compressed.report.visuals
    text = compressed["input_ids"].shape[1] - visual.kept
    assert [width - text for width in widths] == inside.per_layer
    layers, budget = len(widths), max(1, round(ratio * visual.total + 1e-9))
    assert sum(inside.per_layer) <= layers * budget
    chosen = METHODS.get(method.split("+")[-1])()
    (schedule,) = compressed.inside.plan.schedules
    starts = [stage.layer for stage in schedule.stages]
    if method == "fastv":  # one stage: one token more would be above the budget
        assert sum(inside.per_layer) + layers - starts[0] > layers * budget
    assert sum(inside.per_layer) > 0.8 * layers * budget
    kept = inside.per_view(0, 0, visual.layout.view[visual.kept_entries], len(visual.layout.views) + 1)
    for layer, counts in kept.items():
        assert sum(counts) == inside.per_layer[layer]
    assert chosen.where == "inside"


@pytest.mark.parametrize(("method", "family", "kind"), [case for case in CASES if case[0] != "sparsevlm"])
def test_4_equals_the_whole_sequence_masked_from_where_tokens_are_left_out(
    method: str, family: str, kind: str
) -> None:
    model = tiny_model(family, attention="eager")
    raw = batch(model, [scene(kind)])
    compressed = compress_inputs(model, raw, method, retention_ratio=0.55, positions="original")
    pruned = logits(model, compressed)[0, -1]
    outcome = compressed.inside.plan.outcome.kept
    before = compress_inputs(
        model, raw, method.split("+")[0] if "+" in method else "none", **_sent(compressed)
    )
    assert torch.equal(before["input_ids"], compressed["input_ids"])

    def mask(number: int, module: Any, args: Any, kwargs: Any) -> Any:
        known = [layer for layer in outcome if layer <= number]
        if not known:
            return None
        gone = ~outcome[max(known)][0]
        own = torch.eye(len(gone), dtype=torch.bool)
        hidden = (gone[None, :] & ~own)[None, None]
        return args, {**kwargs, "attention_mask": kwargs["attention_mask"].masked_fill(hidden, -1e30)}

    handles = [
        layer.register_forward_pre_hook(partial(mask, number), with_kwargs=True)
        for number, layer in enumerate(model.model.language_model.layers)
    ]
    try:
        whole = logits(model, before)[0, -1]
    finally:
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(pruned, whole, atol=1e-5, rtol=1e-5)


def _sent(compressed: Any) -> dict[str, Any]:
    (visual,) = compressed.report.visuals
    return {"max_tokens": visual.kept, "positions": "original"}


@pytest.mark.parametrize("positions", ["contiguous", "original"])
@pytest.mark.parametrize("method", [*INSIDE, "globalcom2+pdrop"])
@pytest.mark.parametrize(("family", "decoder"), [("llava_next", "mistral"), ("llava_video", "default")])
def test_3_rows_alone_and_together_beams_and_the_block(
    family: str, decoder: str, method: str, positions: str
) -> None:
    model = tiny_model(family, decoder)
    rows = [
        scene("image"),
        Scene((), before=9, seed=2),
        Scene((("image", (40, 100)), ("image", (56, 56))), before=5, seed=3),
    ]
    settings = {"retention_ratio": 0.55, "positions": positions}
    call = {"max_new_tokens": 5, "do_sample": False}
    raw = batch(model, rows)
    for more in ({}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}):
        copies = more.get("num_return_sequences", 1)
        with vidcompress.compress(model, method, **settings) as session:
            together = model.generate(**raw, **call, **more)[:, raw["input_ids"].shape[1] :]
            means = [session.report.for_row(i).inside.per_layer for i in range(3)]
            for i, row in enumerate(rows):
                one = batch(model, [row])
                alone = model.generate(**one, **call, **more)[:, one["input_ids"].shape[1] :]
                assert together[i * copies : (i + 1) * copies].tolist() == alone.tolist()
                if row.visuals:
                    assert session.report.inside.per_layer == means[i]
    plain = compress_inputs(model, raw, method, **settings)
    with plain.pruning():
        again = model.generate(**plain, **call)[:, plain["input_ids"].shape[1] :]
    with vidcompress.compress(model, method, **settings):
        inside = model.generate(**raw, **call)[:, raw["input_ids"].shape[1] :]
    assert again.tolist() == inside.tolist()


@pytest.mark.parametrize("method", INSIDE)
def test_half_precision_several_calls_and_later_turns(method: str) -> None:
    model = copy.deepcopy(tiny_model("llava_onevision")).to(torch.bfloat16)
    raw = batch(model, [scene("image"), scene("image", seed=4, before=8)])
    raw["pixel_values"] = raw["pixel_values"].to(torch.bfloat16)
    call = {"max_new_tokens": 3, "do_sample": False, "return_dict_in_generate": True}
    with vidcompress.compress(model, method, retention_ratio=0.6) as session:
        out = model.generate(**raw, **call)
        assert torch.equal(model.generate(**raw, **call).sequences, out.sequences)
        cache = returned_cache(out)
        lengths = [cache.get_seq_length(i) for i in range(3)]
        assert lengths[0] > lengths[1] >= lengths[2]
        ids = torch.cat((out.sequences, torch.tensor([[7, 8, 9]] * 2)), dim=1)
        mask = torch.cat((raw["attention_mask"], torch.ones_like(ids[:, raw["input_ids"].shape[1] :])), dim=1)
        later = model.generate(input_ids=ids, attention_mask=mask, cache=cache, **call)
        assert later.sequences.shape[1] == ids.shape[1] + 3
        assert "on average" in str(session.report)
    with pytest.raises(CompressionStateError, match=r"call it within `with inputs.pruning\(\):`"):
        model.generate(**compress_inputs(model, raw, method, retention_ratio=0.6), max_new_tokens=1)


@pytest.mark.parametrize("positions", ["contiguous", "original"])
@pytest.mark.parametrize("method", INSIDE)
def test_a_later_turn_attends_to_what_is_left(method: str, positions: str) -> None:
    """Token by token and all at once, over the cache that the first turn left."""
    model = tiny_model("llava_onevision")
    raw = batch(model, [scene("image"), scene("image", seed=4, before=8)])
    more = torch.tensor([[7, 8, 9], [12, 13, 14]])
    width = raw["input_ids"].shape[1]

    def answer(split: list[int]) -> torch.Tensor:
        with vidcompress.compress(model, method, retention_ratio=0.6, positions=positions):
            call = {"do_sample": False, "return_dict_in_generate": True, "max_new_tokens": 1}
            out = model.generate(**raw, **call)
            ids = out.sequences
            for part in torch.split(more, split, dim=1):
                ids = torch.cat((ids, part), dim=1)
                mask = torch.cat((raw["attention_mask"], torch.ones_like(ids[:, width:])), dim=1)
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    past_key_values=returned_cache(out),
                    output_logits=True,
                    **call,
                )
            return out.logits[0]

    torch.testing.assert_close(answer([3]), answer([1, 1, 1]), atol=1e-5, rtol=1e-5)


REFUSED = [
    ({"cache_implementation": "static"}, "cache_implementation='static' cannot go with method 'fastv'"),
    ({"prefill_chunk_size": 8}, "prefill_chunk_size=8 cannot go with method 'fastv'"),
    ({"use_cache": False}, "use_cache=False cannot go with"),
    ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens=3 cannot go with method 'fastv'"),
]


@pytest.mark.parametrize(("option", "message"), REFUSED)
def test_what_cannot_go_together_is_refused(option: dict[str, Any], message: str) -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [scene("image")])
    with vidcompress.compress(model, "fastv", retention_ratio=0.6):
        with pytest.raises(UnsupportedInputError, match=message):
            model.generate(**raw, max_new_tokens=2, **option)


@pytest.mark.parametrize(
    ("method", "settings", "error", "message"),
    [
        (
            "fastv",
            {"retention_ratio": 0.2},
            BudgetError,
            "all of them are in the first layer, so its floor is 3",
        ),
        ("pdrop", {"retention_ratio": 0.2}, BudgetError, "as in 'globalcom2[+]pdrop'"),
        ("pdrop", {"retention_ratio": 0.2, "schedule": "fit"}, BudgetError, "as in 'globalcom2[+]pdrop'"),
        (
            "fastv",
            {"schedule": "early"},
            ArgumentError,
            "schedule must be one of published, fit, got 'early'",
        ),
        ("fastv", {"separators": "keep"}, ArgumentError, "separators='keep' cannot go with method 'fastv'"),
        ("fastv", {"tau": 3}, ArgumentError, "method 'fastv' has no option 'tau'"),
        (
            "fastv+random",
            {},
            ArgumentError,
            "'fastv' stands where a method before the language model belongs",
        ),
        (
            "globalcom2+random",
            {},
            ArgumentError,
            "'random' stands where a method inside .* known: dart, fastv, pdrop",
        ),
        ("a+b+c", {}, ArgumentError, "method='a[+]b[+]c': two names"),
        ("globalcom2+fasty", {}, ArgumentError, "unknown method 'fasty'; .* did you mean 'fastv'"),
        ("globalcom2+fastv", {"taw": 3}, ArgumentError, "has no option 'taw'; .* did you mean 'tau'"),
        ("globalcom2+fastv", {"policy": "reference"}, ArgumentError, "a composition|is two methods"),
        ("globalcom2+fastv", {"before_ratio": 3}, ArgumentError, "0 < R <= 1, got 3"),
    ],
)
def test_wrong_arguments_are_named(
    method: str, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = tiny_model("llava_onevision")
    with pytest.raises(error, match=message):
        compress_inputs(model, batch(model, [scene("image")]), method, **{"retention_ratio": 0.5, **settings})


def test_inputs_that_do_not_fit_are_refused() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [scene("image"), Scene((), seed=2)], pad_right=True)
    with pytest.raises(UnsupportedInputError, match="ranks by each prompt's last tokens; pad on the left"):
        compress_inputs(model, raw, "fastv", retention_ratio=0.6)
    raw = batch(model, [scene("image")])
    with pytest.raises(UnsupportedInputError, match="labels cannot go with method 'pdrop'"):
        compress_inputs(model, {**raw, "labels": raw["input_ids"]}, "pdrop", retention_ratio=0.6)
    flex = tiny_model("llava_onevision", attention="flex_attention")
    with pytest.raises(
        UnsupportedModelError, match="attn_implementation='flex_attention' cannot go with pruning"
    ):
        with vidcompress.compress(flex, "fastv", retention_ratio=0.6):
            pass
    static = StaticCache(model.config.get_text_config(), max_cache_len=128)
    with vidcompress.compress(model, "fastv", retention_ratio=0.6):
        with pytest.raises(UnsupportedInputError, match="StaticCache cannot go with method 'fastv'"):
            model.generate(**raw, past_key_values=static, max_new_tokens=2, disable_compile=True)


def test_options_of_a_composition_reach_their_part() -> None:
    chosen = get_method("globalcom2+sparsevlm", tau=5.0, recycle=False, before_ratio="0.5", schedule="fit")
    assert (chosen.name, chosen.before.tau, chosen.within.recycle) == ("globalcom2+sparsevlm", 5.0, False)
    assert chosen.within.schedule == "fit" and chosen.sent(10, 100) == 50 and chosen.sent(70, 100) == 70
    assert get_method("random+fastv").sent(25, 100) == 50


def test_threads_do_not_read_each_others_attention() -> None:
    """In the block, and through inputs of their own; also while another thread runs the model plainly."""
    model = tiny_model("llava_onevision")
    raws = [batch(model, [scene("image", seed=seed, before=3 + seed % 4)]) for seed in range(12)]
    for method in ("fastv", "sparsevlm"):
        ready = [compress_inputs(model, raw, method, retention_ratio=0.6) for raw in raws]
        alone = [logits(model, inputs) for inputs in ready]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(partial(logits, model), ready))
            with vidcompress.compress(model, method, retention_ratio=0.6), torch.no_grad():
                inside = list(pool.map(lambda raw: model(**raw).logits, raws))
        for one, other, third in zip(alone, together, inside, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one, third, atol=1e-5, rtol=1e-5)


def test_copies_of_a_pruned_cache_and_sliding_windows_are_refused() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [scene("image")])
    token = torch.tensor([[5]])
    with vidcompress.compress(model, "pdrop", retention_ratio=0.6), torch.no_grad():
        out = model(**raw, use_cache=True)
        cache = returned_cache(out)
        with pytest.raises(
            CompressionStateError, match=f"{cache_name()} was pruned inside the language model"
        ):
            model(input_ids=token, cache=copy.deepcopy(cache))
        model(input_ids=token, cache=cache)
    narrow = copy.deepcopy(tiny_model("llava_next", "mistral"))
    narrow.model.language_model.config.sliding_window = (
        16  # Mistral's attentions have it in their config alone
    )
    with vidcompress.compress(narrow, "pdrop", retention_ratio=0.9):
        with pytest.raises(UnsupportedInputError, match="sliding window of 16, which pruning inside it"):
            narrow.generate(**batch(narrow, [scene("image")]), max_new_tokens=2)

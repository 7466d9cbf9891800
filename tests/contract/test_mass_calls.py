"""Masses and what surrounds a call: off, other calls and threads, errors, refusals, training, the device, precision."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import StaticCache

import vidcompress
from device_questions import CountSyncs
from mass_cases import GREEDY, SETTINGS, hooks_on, known_masses, windowed
from reference.slow_mass import slow_copy, slow_logits, taken_in
from tiny_models import Scene, batch, tiny_model
from vidcompress import compress_inputs
from vidcompress.errors import CompressionStateError, UnsupportedInputError, UnsupportedModelError
from vidcompress.llm_pruning.cache_names import cache_name, returned_cache
from vidcompress.llm_pruning.mass import MassHooks, MassPlan

pytestmark = pytest.mark.transformers

SCENES = [
    Scene((("image", (56, 56)),), before=3, seed=1),
    Scene((), before=5, seed=2),
    Scene((("image", (112, 80)),), before=7, seed=3),
]
TEXT = {"input_ids": torch.tensor([[5, 9, 8, 7]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits  # type: ignore[no-any-return]


def weighed(model: Any, compressed: Any) -> torch.Tensor:
    with compressed.pruning():
        return logits(model, compressed)


# Off -------------------------------------------------------------------------------------------------------------

OFF: dict[str, dict[str, Any]] = {
    "mass off": {"mass": "off"},
    "strength 0": {"mass": "on", "mass_strength": 0.0},
    "ratio 1": {"mass": "on", "retention_ratio": 1},
    "method none": {"mass": "on", "method": "none", "retention_ratio": None},
}


@pytest.mark.parametrize("how", OFF)
def test_off_is_as_before_and_without_a_hook(how: str) -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, SCENES)
    settings = {"method": "divprune", "retention_ratio": 0.4, **OFF[how]}
    before = logits(model, compress_inputs(model, raw, **{**settings, "mass": "off"}))
    compressed = compress_inputs(model, raw, **settings)
    assert compressed.inside is None
    assert torch.equal(logits(model, compressed), before), "no block is needed"
    with compressed.pruning():
        assert hooks_on(model) == 0
    with vidcompress.compress(model, **settings):
        assert hooks_on(model) == 0
        assert torch.equal(logits(model, raw), before)
    on = {**settings, **SETTINGS, "mass_strength": 1.0}
    with vidcompress.compress(model, **on):
        assert hooks_on(model) == 1 + len(model.model.language_model.layers)
        assert float((logits(model, raw)[..., -1, :] - before[..., -1, :]).abs().max()) > 1e-3
    assert hooks_on(model) == 0


def test_a_text_in_the_block_is_the_stock_models() -> None:
    model = tiny_model("llava_onevision")
    call = {**TEXT, **GREEDY}
    stock, answer = logits(model, TEXT), model.generate(**call)
    with vidcompress.compress(model, **SETTINGS):
        model.generate(**batch(model, SCENES), max_new_tokens=2)
        assert torch.equal(logits(model, TEXT), stock)
        again = model.generate(**call)
    assert all(map(torch.equal, again.logits, answer.logits))
    plain = compress_inputs(model, batch(model, SCENES[1:2]), **SETTINGS)
    assert plain.inside is None and torch.equal(
        logits(model, plain), logits(model, batch(model, SCENES[1:2]))
    )


# Left behind, and other threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("how", ["forward", "generate", "plain"])
def test_after_an_error_no_hook_is_left(how: str, error: type[BaseException]) -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, SCENES)
    stock = logits(model, raw)

    def fail(module: Any, args: Any) -> None:
        raise error("in the model")

    handle = model.model.language_model.layers[1].mlp.register_forward_pre_hook(fail)
    compressed = compress_inputs(model, raw, **SETTINGS)

    def call() -> None:
        if how == "plain":
            weighed(model, compressed)
        with vidcompress.compress(model, **SETTINGS):
            logits(model, raw) if how == "forward" else model.generate(**raw, max_new_tokens=2)

    try:
        with pytest.raises(error):
            call()
    finally:
        handle.remove()
    assert hooks_on(model) == 0 and not model._forward_hooks and "generate" not in vars(model)
    assert torch.equal(logits(model, raw), stock)


def in_a_thread(run: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join(60)
    (result,) = found
    return result


def test_another_thread_is_not_weighed() -> None:
    """While this thread's masses are on: before its call, in the middle of it, and behind it."""
    model = tiny_model("llava_onevision")
    raw = batch(model, SCENES)
    stock = logits(model, raw)
    compressed = compress_inputs(model, raw, **SETTINGS)
    alone = weighed(model, compressed)
    others: list[torch.Tensor] = []

    def midway(module: Any, args: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            others.append(in_a_thread(lambda: logits(model, raw)))

    handle = model.model.language_model.layers[1].mlp.register_forward_pre_hook(midway)
    with compressed.pruning():
        others.append(in_a_thread(lambda: logits(model, raw)))
        mine = logits(model, compressed)
        others.append(in_a_thread(lambda: logits(model, raw)))
    handle.remove()
    assert len(others) == 3 and all(torch.equal(other, stock) for other in others)
    assert torch.equal(mine, alone)
    assert (
        float(
            (
                weighed(model, compressed)
                - logits(model, compress_inputs(model, raw, **{**SETTINGS, "mass": "off"}))
            )
            .abs()
            .max()
        )
        > 1e-3
    )


def test_plain_inputs_that_another_thread_runs_are_refused() -> None:
    model = tiny_model("llava_onevision")
    compressed = compress_inputs(model, batch(model, SCENES), **SETTINGS)

    def elsewhere() -> None:
        with compressed.pruning():
            given = dict(compressed)
            in_a_thread(lambda: logits(model, given))

    with pytest.raises(CompressionStateError, match=r"ran without the masses of its tokens \(mass='on'\)"):
        elsewhere()
    with pytest.raises(
        CompressionStateError,
        match="weighs tokens inside the language model: .*, or compress with mass='off'",
    ):
        logits(model, compressed)
    weighed(model, compressed)


# Refusals ----------------------------------------------------------------------------------------------------------


def stand_in(change: Callable[[Any], Any] = lambda decoder: None) -> Any:
    decoder = copy.deepcopy(tiny_model("llava_onevision").model.language_model)
    change(decoder)
    return SimpleNamespace(decoder=decoder, model=decoder, traits=SimpleNamespace(hybrid=False))


def no_layer_idx(decoder: Any) -> None:
    del decoder.layers[1].self_attn.layer_idx


def other_name(decoder: Any) -> None:
    decoder.layers[1].attention = decoder.layers[1].self_attn
    del decoder.layers[1].self_attn


REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (
        lambda decoder: setattr(decoder.config, "_attn_implementation", "flash_attention_2"),
        r"attn_implementation='flash_attention_2' does not take .*; call model.set_attn_implementation\('sdpa'\)",
    ),
    (
        lambda decoder: setattr(decoder.config, "_attn_implementation", "paged|sdpa"),
        "attn_implementation='paged|sdpa'",
    ),
    (lambda decoder: decoder.layers[1].compile(), r"this one is compiled \(torch.compile\); use mass='off'"),
    (lambda decoder: setattr(decoder.config, "attn_logit_softcapping", 50.0), "caps its attention logits"),
    (no_layer_idx, "each of its layers must have a self_attn with layer_idx"),
    (other_name, "each of its layers must have a self_attn with layer_idx"),
    (lambda decoder: setattr(decoder.layers[0], "cross_attn", torch.nn.Identity()), "and no other attention"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_decoders_that_take_no_masses_are_named(change: Callable[[Any], Any], message: str) -> None:
    MassHooks(stand_in())
    with pytest.raises(UnsupportedModelError, match=message):
        MassHooks(stand_in(change))


def test_a_hybrid_takes_masses_where_it_has_attention() -> None:
    hybrid = stand_in(other_name)
    hybrid.traits.hybrid = True
    with MassHooks(hybrid).attached():
        counts = [
            len(getattr(layer, "self_attn", layer)._forward_pre_hooks) for layer in hybrid.decoder.layers
        ]
    assert counts == [1, 0, 1]
    for layer in hybrid.decoder.layers:
        vars(layer)["_modules"].pop("self_attn", None)
    with pytest.raises(UnsupportedModelError, match="has no layer with a self_attn, and mass='on' needs one"):
        MassHooks(hybrid)


def test_a_cache_that_does_not_say_its_columns_is_named() -> None:
    adapter = stand_in()
    hooks, attention = MassHooks(adapter), adapter.decoder.layers[0].self_attn
    with hooks.attached(), hooks.armed(MassPlan(torch.ones(1, 3))):
        with pytest.raises(
            UnsupportedInputError, match=f"{cache_name()}: a SimpleNamespace does not say which"
        ):
            attention(hidden_states=torch.zeros(1, 3, 32), **{cache_name(): SimpleNamespace()})


def test_other_rows_than_those_of_the_inputs_are_named() -> None:
    model = tiny_model("llava_onevision")
    compressed = compress_inputs(model, batch(model, SCENES), **SETTINGS)
    with pytest.raises(CompressionStateError, match="got 1 rows where the inputs have 3 prompts"):
        with compressed.pruning():
            logits(model, TEXT)
    assert hooks_on(model) == 0


def test_a_block_within_a_block_is_named() -> None:
    model = tiny_model("llava_onevision")
    first, second = (compress_inputs(model, batch(model, SCENES), **SETTINGS) for _ in range(2))
    with first.pruning():
        with pytest.raises(
            CompressionStateError, match="inside another pruning.. block of this LlavaOnevision"
        ):
            with second.pruning():
                pass
        expected = logits(model, first)
    assert hooks_on(model) == 0
    with second.pruning():
        assert torch.equal(logits(model, second), expected)


def test_what_takes_no_masses_is_refused_before_anything_is_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = copy.deepcopy(tiny_model("llava_onevision"))
    raw = batch(model, SCENES)
    model.model.language_model.config._attn_implementation = "flash_attention_2"
    monkeypatch.setattr(type(model.model.vision_tower), "forward", None)
    with pytest.raises(UnsupportedModelError, match="attn_implementation='flash_attention_2'"):
        compress_inputs(model, raw, **SETTINGS)
    with pytest.raises(TypeError):
        compress_inputs(model, raw, **{**SETTINGS, "mass": "off"})


@pytest.mark.parametrize("block", [True, False])
def test_guidance_by_another_prompt_is_named(block: bool) -> None:
    """The unconditional prompt has columns of its own, at which the masses do not belong."""
    model = tiny_model("llava_onevision")
    raw = batch(model, SCENES)
    compressed = compress_inputs(model, raw, **SETTINGS)
    call = {"guidance_scale": 1.5, "max_new_tokens": 2, "do_sample": False}
    with vidcompress.compress(model, **{**SETTINGS, "mass": "off"}):
        model.generate(**raw, **call)
    with pytest.raises(CompressionStateError, match="one column where the inputs have .* guidance_scale"):
        with vidcompress.compress(model, **SETTINGS) if block else compressed.pruning():
            model.generate(**(raw if block else compressed), **call)
    assert hooks_on(model) == 0


def test_an_attention_that_is_exchanged_in_the_block_is_named() -> None:
    model = copy.deepcopy(tiny_model("llava_onevision"))
    raw = batch(model, SCENES)
    with vidcompress.compress(model, **SETTINGS):
        model.model.language_model.config._attn_implementation = "flash_attention_2"
        for call in (lambda: model.generate(**raw, max_new_tokens=1), lambda: logits(model, raw)):
            with pytest.raises(UnsupportedModelError, match="attn_implementation='flash_attention_2'"):
                call()
    assert hooks_on(model) == 0


def test_a_static_cache_that_goes_past_the_hooks_is_noticed() -> None:
    """As where transformers compiled the decoding steps before the block, for other inputs."""
    model = tiny_model("llava_onevision")
    compressed = compress_inputs(model, batch(model, SCENES), **SETTINGS)
    cache = StaticCache(model.config.get_text_config(), max_cache_len=96)
    token = {"input_ids": torch.tensor([[5], [6], [7]]), cache_name(): cache}

    def past_the_hooks() -> None:
        with compressed.pruning(), torch.no_grad():
            model(**compressed, **{cache_name(): cache})
            model(**token)
            for layer in model.model.language_model.layers:
                layer.self_attn._forward_pre_hooks.clear()
            model(**token)

    with pytest.raises(
        CompressionStateError, match="in code that transformers compiled .* disable_compile=True"
    ):
        past_the_hooks()
    with compressed.pruning(), torch.no_grad():
        model(**token)
    seen: list[Any] = []
    own = model.generate
    model.generate = lambda *args, **kwargs: (
        seen.append(kwargs.get("disable_compile")),
        own(*args, **kwargs),
    )[1]
    try:
        for mass in ("on", "off"):
            with vidcompress.compress(model, **{**SETTINGS, "mass": mass}):
                model.generate(**batch(model, SCENES), max_new_tokens=1)
    finally:
        del model.generate
    assert seen == [True, None]


# Training ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(request: pytest.FixtureRequest) -> Any:
    model = copy.deepcopy(tiny_model("llava_onevision", attention=request.param))
    return model.train()


def gradient(model: Any) -> torch.Tensor:
    """(W,) of the decoder's layers; they are cleared."""
    layers = model.layers if hasattr(model, "layers") else model.model.language_model.layers
    flat = torch.cat([weight.grad.flatten().double() for weight in layers.parameters()])
    model.zero_grad()
    return flat


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def loss_of(logits: torch.Tensor) -> torch.Tensor:
    weights = torch.randn(logits.shape[-1], generator=torch.Generator().manual_seed(0))
    return (logits[..., -4:, :].log_softmax(-1) * weights).mean()


@pytest.mark.parametrize("trained", ["sdpa", "eager"], indirect=True)
def test_gradients_are_those_of_the_slow_decoder(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = batch(trained, SCENES[2:])
    compressed = compress_inputs(trained, raw, **SETTINGS)
    with compressed.pruning(), taken_in(trained) as calls:
        loss_of(trained(**compressed, use_cache=False).logits).backward()
    got = gradient(trained)
    slow, bias = slow_copy(trained), compressed.inside.mass.mass[0].log()
    there = torch.ones(len(bias), dtype=torch.bool)
    call = {
        key: value.detach() if isinstance(value, torch.Tensor) else value for key, value in calls[0].items()
    }
    for strength in (1.0, 0.0):
        columns = lambda layer: (strength * bias, there)  # noqa: E731, B023
        loss_of(slow_logits(slow, call, 0, there, torch.tensor([], dtype=torch.int64), columns)).backward()
        off = apart(got, gradient(slow))
        assert off < 2e-6 if strength else off > 1e-3


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("trained", ["sdpa", "eager"], indirect=True)
def test_gradient_checkpointing(trained: Any, reentrant: bool) -> None:
    """Layers run again with their masses, also where another thread runs them; outside the block it is refused."""
    raw = batch(trained, SCENES)

    def loss(inputs: Any) -> torch.Tensor:
        return loss_of(trained(**inputs, use_cache=False).logits)

    def plain() -> torch.Tensor:
        compressed = compress_inputs(trained, raw, **SETTINGS)
        with compressed.pruning():
            made = loss(compressed)
            if trained.is_gradient_checkpointing:
                made.backward()
        return made

    plain().backward()  # nothing is run again, so that it may be behind the block
    true = gradient(trained)
    loss(compress_inputs(trained, raw, **{**SETTINGS, "mass": "off"})).backward()
    assert apart(gradient(trained), true) > 1e-3
    trained.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    if reentrant:
        trained.enable_input_require_grads()
    plain()
    assert apart(gradient(trained), true) < 1e-6
    with vidcompress.compress(trained, **SETTINGS):
        loss(raw).backward()
        assert apart(gradient(trained), true) < 1e-6
        made = loss(raw)
        in_a_thread(made.backward)
        assert apart(gradient(trained), true) < 1e-6
        made = loss(raw)
    with pytest.raises(CompressionStateError, match="backward was called outside the block with mass='on'"):
        made.backward()


# The device, and precision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_nothing_is_asked_per_layer_or_step(attention: str) -> None:
    """As often with one layer as with three, and with masses as without."""
    model = copy.deepcopy(tiny_model("llava_onevision", attention=attention))
    raw = batch(model, SCENES)
    seen: dict[Any, Any] = {}
    for layers in (3, 1):
        del model.model.language_model.layers[layers:]
        model.config.text_config.num_hidden_layers = layers
        for mass in ("on", "off"):
            compressed = compress_inputs(model, raw, **{**SETTINGS, "mass": mass})
            for steps in (2, 5):
                with compressed.pruning(), CountSyncs() as counter:
                    model.generate(**compressed, do_sample=False, max_new_tokens=steps)
                seen[layers, mass, steps] = counter.seen
    for steps in (2, 5):
        assert seen[3, "on", steps] == seen[1, "on", steps] == seen[3, "off", steps]
    assert sum(seen[3, "on", 5].values()) > 0, "generate asks, so that the counting counts"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_bias_is_rounded_once(attention: str, dtype: torch.dtype) -> None:
    """From float32, when the column is made; twice is another bias. Masked columns stay finite."""
    model = copy.deepcopy(tiny_model("llava_onevision", attention=attention)).to(dtype)
    raw = batch(model, SCENES)
    raw["pixel_values"] = raw["pixel_values"].to(dtype)
    compressed = compress_inputs(model, raw, **SETTINGS, mass_strength=0.7)
    mass = compressed.inside.mass.mass
    assert mass.dtype == torch.float32
    mass.mul_(1.0 + 0.37 * torch.arange(mass.shape[1]) * (mass > 1))  # not whole, as after merging
    masks: list[torch.Tensor] = []
    with compressed.pruning():
        handles = [
            layer.self_attn.register_forward_pre_hook(
                lambda module, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
            )
            for layer in model.model.language_model.layers
        ]
        found = logits(model, compressed)
        for handle in handles:
            handle.remove()
    assert torch.isfinite(found).all()
    once = (0.7 * mass.log()).to(dtype)
    twice = (0.7 * mass.log().to(dtype)).to(dtype)
    assert not torch.equal(once, twice)
    real = compressed["attention_mask"].bool()
    for mask in masks:
        assert mask.dtype == dtype and torch.isfinite(mask).all()
        assert torch.equal(mask[:, 0, -1][real], once[real])


def test_few_masks_are_held_and_all_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two kinds of layers, and masks that are copied for every layer, as accelerate does between devices."""
    with known_masses(monkeypatch):
        model, raw = windowed("qwen2", "sdpa")
        compressed = compress_inputs(model, raw, **SETTINGS)
        true = weighed(model, compressed)

        def copied(module: Any, args: Any, kwargs: Any) -> Any:
            mask = kwargs["attention_mask"]
            return args, {**kwargs, "attention_mask": None if mask is None else mask.clone()}

        for layer in model.model.language_model.layers:
            layer.register_forward_pre_hook(copied, with_kwargs=True)
        monkeypatch.setattr("vidcompress.llm_pruning.mass._MASKS", 1)
        assert torch.equal(weighed(model, compressed), true)
        with vidcompress.compress(model, **SETTINGS) as session:
            weights = session.hooks.mass
            counts: list[int] = []
            handle = model.lm_head.register_forward_pre_hook(
                lambda *_: counts.append(len(weights._local.masks))
            )
            assert torch.equal(logits(model, raw), true)
            handle.remove()
    assert counts == [1]


# What is said about the block ----------------------------------------------------------------------------------------


def test_blocks_of_inputs_do_what_their_docstring_says() -> None:
    """Nothing without masses; calls with the inputs, and turns over their cache; again and again."""
    model = tiny_model("llava_onevision")
    raw = batch(model, SCENES)
    compressed = compress_inputs(model, raw, **SETTINGS)
    first = weighed(model, compressed)
    assert torch.equal(weighed(model, compressed), first), "a second block of the same inputs"
    with compressed.pruning():
        assert torch.equal(logits(model, compressed), first)
        assert torch.equal(logits(model, compressed), first)
    moved = compress_inputs(model, raw, **SETTINGS).to(torch.float32)
    assert torch.equal(weighed(model, moved), first)
    other = compress_inputs(model, batch(model, [SCENES[2], SCENES[0], SCENES[1]]), **SETTINGS)
    alone = weighed(model, other)
    with compressed.pruning():
        inside = other.inside
        other.inside = None  # as a caller's own encoder outputs
        wrong = logits(model, other)
        other.inside = inside
    assert float((wrong - alone).abs().max()) > 1e-3, "another prompt with as many rows is answered wrongly"
    cache = returned_cache(model(**TEXT, use_cache=True))
    assert cache.get_seq_length() == 4

"""The plug-and-play block: same answers as plain, the caller's prompt in front, nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache, GenerationConfig

import vidcompress
from tiny_models import FAMILIES, Scene, batch, tiny_model
from vidcompress.errors import CompressionStateError, UnsupportedInputError
from vidcompress.llm_pruning.cache_names import cache_name
from vidcompress.session import generation_options as generation
from vidcompress.session.compress import compress_inputs

pytestmark = pytest.mark.transformers

ROWS = [Scene((("image", (112, 80)),), before=3, seed=1), Scene((("image", (40, 100)),), before=11, seed=3)]
GREEDY = {"do_sample": False}


def footprint(model):  # type: ignore[no-untyped-def]
    """Every attribute and hook that something could leave on a model."""
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks_with_kwargs",
    )
    return {
        name: (sorted(vars(module)), [list(getattr(module, hook)) for hook in hooks])
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"num_beams": 3, "num_return_sequences": 3}])
def test_the_usual_slice_is_the_answer(family: str, options: dict[str, int]) -> None:
    model = tiny_model(family)
    raw = batch(model, ROWS)
    plain = compress_inputs(model, raw, retention_ratio=0.3)
    expected = model.generate(**plain, max_new_tokens=6, **GREEDY, **options)[
        :, plain["input_ids"].shape[1] :
    ]
    with vidcompress.compress(model, retention_ratio=0.3) as session:
        out = model.generate(**raw, max_new_tokens=6, **GREEDY, **options)
        again = model.generate(**raw, max_new_tokens=6, **GREEDY, **options)
    length = raw["input_ids"].shape[1]
    copies = out.shape[0] // 2
    assert torch.equal(out[:, :length], raw["input_ids"].repeat_interleave(copies, 0))
    assert torch.equal(out[:, length:], expected) and torch.equal(out, again)
    assert session.report.kept == plain.report.kept == session.report.budget


def test_return_dict_and_config_object() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, ROWS)
    config = GenerationConfig(
        max_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_scores=True
    )
    with vidcompress.compress(model, retention_ratio=0.3):
        out = model.generate(**raw, generation_config=config)
        direct = model.generate(
            raw["input_ids"], max_new_tokens=4, **GREEDY, **{k: v for k, v in raw.items() if k != "input_ids"}
        )
    assert torch.equal(out.sequences, direct) and len(out.scores) == 4


@pytest.mark.parametrize("through", ["keyword", "config", "model"])
def test_max_length_counts_the_callers_prompt(through: str) -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS)
    limit = raw["input_ids"].shape[1] + 3
    options: dict[str, object] = dict(GREEDY)
    before = model.generation_config.max_length
    if through == "keyword":
        options["max_length"] = limit
    elif through == "config":
        options["generation_config"] = GenerationConfig(max_length=limit, do_sample=False)
    else:
        model.generation_config.max_length = limit
    try:
        with vidcompress.compress(model, retention_ratio=0.3):
            out = model.generate(**raw, **options)
    finally:
        model.generation_config.max_length = before
    assert out.shape[1] == limit
    if through == "config":
        assert options["generation_config"].max_length == limit  # type: ignore[attr-defined]


class Collector:
    """A streamer that writes down what it is given."""

    def __init__(self) -> None:
        self.values: list[list[int]] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.values.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended = True


def test_a_streamer_sees_the_callers_prompt_first() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, ROWS[:1])
    streamer = Collector()
    with vidcompress.compress(model, retention_ratio=0.3):
        out = model.generate(**raw, max_new_tokens=5, streamer=streamer, **GREEDY)
    assert streamer.values[0] == raw["input_ids"].flatten().tolist() and streamer.ended
    assert sum(streamer.values, []) == out.flatten().tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_direct_forward_is_compressed_alike(family: str) -> None:
    model = tiny_model(family)
    raw = batch(model, ROWS)
    plain = compress_inputs(model, raw | {"labels": raw["input_ids"]}, retention_ratio=0.3)
    with torch.no_grad():
        expected = model(**plain)
        with vidcompress.compress(model, retention_ratio=0.3):
            got = model(**raw, labels=raw["input_ids"])
            positional = model(raw["input_ids"], **{k: v for k, v in raw.items() if k != "input_ids"})
    assert torch.equal(got.logits, expected.logits) and torch.equal(got.loss, expected.loss)
    assert torch.equal(positional.logits, expected.logits)


def test_a_direct_forward_after_generate_is_compressed_too() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS)
    plain = compress_inputs(model, raw, retention_ratio=0.3)
    with torch.no_grad(), vidcompress.compress(model, retention_ratio=0.3):
        model.generate(**raw, max_new_tokens=2, **GREEDY)
        got = model(**raw).logits
        with pytest.raises(UnsupportedInputError, match="max_length=1 leaves no room"):
            model.generate(**raw, max_length=1)
        again = model(**raw).logits
    assert torch.equal(got, again)
    with torch.no_grad():
        assert torch.equal(got, model(**plain).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_behind(family: str) -> None:
    model = tiny_model(family)
    raw = batch(model, ROWS)
    model.generate(**raw, max_new_tokens=2, **GREEDY)  # transformers installs hooks of its own on first use
    with torch.no_grad():
        before, mark = model(**raw).logits, footprint(model)
        with vidcompress.compress(model, retention_ratio=0.3):
            model.generate(**raw, max_new_tokens=2, **GREEDY)
            assert footprint(model) != mark
        assert footprint(model) == mark
        with (
            pytest.raises(ZeroDivisionError, match="by zero"),
            vidcompress.compress(model, retention_ratio=0.3),
        ):
            1 / 0  # noqa: B018
        assert footprint(model) == mark
        broken = raw | {"image_sizes": torch.tensor([[5, 5]])}
        with (
            pytest.raises(UnsupportedInputError, match="image_sizes must have one|image_sizes=|stand for 7"),
            vidcompress.compress(model, "globalcom2", retention_ratio=0.3),
        ):
            model.generate(**broken, max_new_tokens=2)
        assert footprint(model) == mark
        assert torch.equal(model(**raw).logits, before)


def test_a_generate_of_the_callers_own_comes_back() -> None:
    model = tiny_model("llava_next")
    own = lambda *args, **kwargs: "mine"  # noqa: E731
    model.generate = own
    try:
        with vidcompress.compress(model, retention_ratio=0.3):
            assert model.generate is not own
        assert model.generate is own
    finally:
        del model.generate


def test_a_second_block_and_a_foreign_cache_are_refused() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS)
    with vidcompress.compress(model, retention_ratio=0.3):
        with pytest.raises(CompressionStateError, match="inside a compress block already"):
            with vidcompress.compress(model, retention_ratio=0.5):
                pass
        with pytest.raises(UnsupportedInputError, match="was not filled by model.generate inside"):
            model.generate(**raw, cache=object())
        filled = DynamicCache()
        filled.update(torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8), 0)
        with pytest.raises(UnsupportedInputError, match=f"{cache_name()} together with pixels"):
            model(**raw, cache=filled)
        empty = model.generate(**raw, cache=DynamicCache(), max_new_tokens=3, **GREEDY)
        assert torch.equal(empty, model.generate(**raw, max_new_tokens=3, **GREEDY))
        model.generate(**raw, max_new_tokens=1)  # still the first block
    with vidcompress.compress(model, retention_ratio=0.5):
        pass


def test_no_cache_under_original_positions_is_refused() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS)
    with vidcompress.compress(model, retention_ratio=0.3, positions="original"):
        with pytest.raises(
            UnsupportedInputError, match="use_cache=False cannot go with positions='original'"
        ):
            model.generate(**raw, use_cache=False, max_new_tokens=2)
        with torch.no_grad():  # a forward passes its mask on, so gaps are gaps
            assert torch.allclose(model(**raw, use_cache=False).logits, model(**raw).logits, atol=1e-6)
    with vidcompress.compress(model, retention_ratio=0.3):
        with_cache = model.generate(**raw, max_new_tokens=4, **GREEDY)
        without = model.generate(**raw, max_new_tokens=4, use_cache=False, **GREEDY)
    assert torch.equal(with_cache, without)


def test_text_only_passes_through() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [Scene((), before=6)])
    expected = model.generate(**raw, max_new_tokens=4, **GREEDY)
    with vidcompress.compress(model, retention_ratio=0.3) as session:
        assert torch.equal(model.generate(**raw, max_new_tokens=4, **GREEDY), expected)
    assert session.report is None


def test_chunked_prefill_works_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS)
    with vidcompress.compress(model, retention_ratio=0.3):
        expected = model.generate(**raw, max_new_tokens=4, **GREEDY)
        if generation.transformers_version() >= generation.CHUNKED_PREFILL_SINCE:
            assert torch.equal(
                model.generate(**raw, max_new_tokens=4, prefill_chunk_size=8, **GREEDY), expected
            )
        monkeypatch.setattr(generation.transformers, "__version__", "5.18.0")
        with pytest.raises(UnsupportedInputError, match="prefill_chunk_size=8 goes wrong"):
            model.generate(**raw, max_new_tokens=4, prefill_chunk_size=8, **GREEDY)


@pytest.mark.parametrize("through", ["keyword", "config"])
def test_min_length_counts_the_callers_prompt(through: str) -> None:
    """With every answer token allowed to end, min_length alone keeps generation going."""
    model = tiny_model("llava_onevision")
    raw = batch(model, ROWS[:1])
    length = raw["input_ids"].shape[1]
    options: dict[str, object] = {
        "min_length": length + 3,
        "eos_token_id": list(range(2, 90)),
        "do_sample": False,
    }
    if through == "config":
        options = {"generation_config": GenerationConfig(**options, max_new_tokens=9)}
    else:
        options["max_new_tokens"] = 9
    with vidcompress.compress(model, retention_ratio=0.3):
        out = model.generate(**raw, **options)
    assert out.shape[1] - length in (3, 4)  # ends as soon as it may


def test_a_limit_within_the_prompt_is_named() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS)
    with vidcompress.compress(model, retention_ratio=0.3):
        with pytest.raises(UnsupportedInputError, match="max_length=10 leaves no room after the prompt of"):
            model.generate(**raw, max_length=10)


def test_a_generate_bound_before_the_block_is_refused() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS)
    early = model.generate
    with vidcompress.compress(model, retention_ratio=0.3):
        with pytest.raises(CompressionStateError, match="encoded past it"):
            early(**raw, max_new_tokens=2)
        with pytest.raises(CompressionStateError, match="encoded past it"):
            type(model).generate(model, **raw, max_new_tokens=2)
        ready = compress_inputs(model, raw, retention_ratio=0.3)
        assert early(**ready, max_new_tokens=2).shape[1] == ready["input_ids"].shape[1] + 2


def test_leaving_works_whatever_happened_inside() -> None:
    model = tiny_model("llava_next")
    with vidcompress.compress(model, retention_ratio=0.3):
        del model.generate
    with vidcompress.compress(model, retention_ratio=0.3) as session:
        model.generate = "theirs"
    assert vars(model).pop("generate") == "theirs"
    assert session._model is None
    with vidcompress.compress(model, retention_ratio=0.3):
        with pytest.raises(CompressionStateError, match="cannot be copied there"):
            copy.deepcopy(model)
    copy.deepcopy(model)


def test_generate_holds_no_graph() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS[:1])
    seen = []
    model.train()
    handle = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].requires_grad), with_kwargs=True
    )
    try:
        with vidcompress.compress(model, retention_ratio=0.3):
            model.generate(**raw, max_new_tokens=2, **GREEDY)
    finally:
        handle.remove()
        model.eval()
    assert seen == [False, False]

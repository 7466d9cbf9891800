"""LLaVA-OneVision in vLLM with tokens left out: counts, answers of transformers, budgets of single requests."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

pytest.importorskip("vllm", reason="needs vLLM, which has an environment of its own: make serve-test")

from serving_answers import Answer, clip, from_engine, from_transformers, picture
from vidcompress.serving.plugin import hf_overrides

pytestmark = [pytest.mark.serving, pytest.mark.slow]
FOLDER = "models/tiny-onevision"
STOCK = "LlavaOnevisionForConditionalGeneration"
PROMPT = "<|im_start|>user {} what is shown?<|im_end|><|im_start|>assistant"
IMAGE, CLIP = picture(100, 160), clip(8)
KINDS: dict[str, dict[str, Any]] = {
    "image": {"image": IMAGE},
    "clip": {"video": CLIP},
    "both": {"image": IMAGE, "video": CLIP},
    "crops": {"image": picture(300, 290, 3)},  # a canvas that the model shrinks
}
RATIOS = (1, 0.5, 0.1)
CLOSE = 1e-4


def text_of(media: dict[str, Any]) -> str:
    return PROMPT.format("".join(f"<{kind}>" for kind in media))


@pytest.fixture(scope="module")
def llm(engine: Any) -> Any:
    return engine(FOLDER, hf_overrides=hf_overrides(STOCK, retention_ratio=0.25))


@pytest.fixture(scope="module")
def reference() -> Any:
    from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

    model = LlavaOnevisionForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(FOLDER)

    def answer(media: dict[str, Any], method: str = "globalcom2", **arguments: Any) -> Answer:
        named = {f"{kind}s": [value] for kind, value in media.items()}
        inputs = processor(text=[text_of(media)], return_tensors="pt", **named)
        return from_transformers(model, dict(inputs), method, **arguments)

    return answer


@pytest.fixture(scope="module")
def expected(reference: Any) -> dict[tuple[str, float], Answer]:
    return {(kind, r): reference(KINDS[kind], retention_ratio=r) for kind in KINDS for r in RATIOS}


def ask(llm: Any, kind: str, **values: Any) -> Answer:
    (answer,) = from_engine(llm, [(text_of(KINDS[kind]), KINDS[kind], values)])
    return answer


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_equal_those_of_transformers(llm: Any, expected: Any, kind: str, ratio: float) -> None:
    assert ask(llm, kind, retention_ratio=ratio).differs(expected[kind, ratio]) < CLOSE


def test_all_in_one_batch_with_ratios_mixed(llm: Any, expected: Any) -> None:
    prompts = [(text_of(KINDS[kind]), KINDS[kind], {"retention_ratio": r}) for kind, r in expected]
    answers = from_engine(llm, prompts)
    assert all(one.differs(other) < CLOSE for one, other in zip(answers, expected.values(), strict=True))


def test_other_tokens_at_another_ratio_and_with_another_method(
    llm: Any, expected: Any, reference: Any
) -> None:
    """Negative control: what is compared above tells ratios and selections apart."""
    half = ask(llm, "image", retention_ratio=0.5)
    assert half.differs(expected["image", 0.1]) == float("inf")
    other = reference(KINDS["image"], "uniform", retention_ratio=0.5)
    assert other.length == half.length and half.differs(other) > 10 * CLOSE


def test_several_pictures_each_keep_their_crops(llm: Any) -> None:
    """vLLM cuts each of several pictures into crops, unlike transformers; each keeps what it keeps alone."""
    one, two = picture(100, 160), picture(200, 120, 4)
    text = PROMPT.format("<image><image>")
    lengths = [from_engine(llm, [(PROMPT.format("<image>"), {"image": x}, {})])[0].length for x in (one, two)]
    (bare,) = from_engine(llm, [(PROMPT.format(""), {}, {})])
    (both,) = from_engine(llm, [(text, {"image": [one, two]}, {})])
    assert both.length == sum(lengths) - bare.length


def test_counts_equal_placeholders_over_sizes(llm: Any) -> None:
    """The model raises where it chose another number than the prompt has placeholders, and the engine dies."""
    sides = (1, 2, 14, 37, 112, 113, 300, 700)
    sizes = [(h, w) for h in sides for w in sides] + [(20, 2000), (2000, 20), (3, 900), (944, 1153)]
    assert len(sizes) == 68
    prompts = [
        (PROMPT.format("<image>"), {"image": picture(*size)}, {"retention_ratio": 0.05 + 0.9 * (i % 7) / 7})
        for i, size in enumerate(sizes)
    ]
    assert len(from_engine(llm, prompts)) == 68


def test_counts_equal_placeholders_over_frames(llm: Any) -> None:
    (bare,) = from_engine(llm, [(PROMPT.format(""), {}, {})])
    prompts = [
        (PROMPT.format("<video>"), {"video": clip(frames, 30, 40)}, {"retention_ratio": 0.25})
        for frames in range(1, 65)
    ]
    counts = [answer.length - bare.length for answer in from_engine(llm, prompts)]
    assert counts == [(16 * frames + 1) // 4 + ((16 * frames + 1) % 4 >= 2) for frames in range(1, 65)]


def test_a_request_has_a_budget_of_its_own(llm: Any) -> None:
    whole = ask(llm, "image", retention_ratio=1)
    (bare,) = from_engine(llm, [(PROMPT.format(""), {}, {})])
    tokens = whole.length - bare.length
    assert ask(llm, "image").length - bare.length == round(tokens / 4)
    assert ask(llm, "image", max_tokens=30).length - bare.length == 30
    assert ask(llm, "image", max_tokens=10**6).length == whole.length
    assert 28 <= ask(llm, "both", max_tokens=30).length - bare.length <= 30
    assert ask(llm, "image", retention_ratio="0.5").length == ask(llm, "image", retention_ratio=0.5).length


@pytest.mark.parametrize(
    "values, message",
    [
        ({"retention_ratio": 1.5}, "retention_ratio"),
        ({"retention_ratio": "x"}, "retention_ratio"),
        ({"retention_ratio": 0.5, "max_tokens": 5}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"vidcompress": "ratio 1"}, "vidcompress"),
    ],
)
def test_a_wrong_budget_costs_its_request_only(llm: Any, expected: Any, values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(llm, "image", **values)
    assert ask(llm, "image", retention_ratio=0.5).differs(expected["image", 0.5]) < CLOSE


def test_too_few_tokens_for_all_items_of_a_request(llm: Any) -> None:
    media = {"image": [picture(100, 160)] * 3}
    with pytest.raises(ValueError, match="max_tokens=2"):
        from_engine(llm, [(PROMPT.format("<image>" * 3), media, {"max_tokens": 2})])


def test_prefix_cache(llm: Any, expected: Any) -> None:
    first = ask(llm, "both", retention_ratio=0.5)
    again = ask(llm, "both", retention_ratio=0.5)
    assert again.cached > 0 and again.differs(first) < CLOSE and again.differs(expected["both", 0.5]) < CLOSE
    assert ask(llm, "both", retention_ratio=0.1).differs(expected["both", 0.1]) < CLOSE


def test_chunked_prefill(engine: Any, expected: Any) -> None:
    overrides = hf_overrides(STOCK, retention_ratio=0.25)
    llm = engine(FOLDER, hf_overrides=overrides, max_num_batched_tokens=32, enable_chunked_prefill=True)
    for (kind, ratio), answer in expected.items():
        if answer.length < 400 and kind != "crops":
            assert ask(llm, kind, retention_ratio=ratio).differs(answer) < CLOSE


@pytest.mark.parametrize("method", ["vidcom2", "pool", "census"])
def test_other_methods(engine: Any, reference: Any, method: str, caplog: Any) -> None:
    """Merged features (`pool`, whose count the budget alone does not tell), and a method that has lost its mass."""
    with caplog.at_level(logging.WARNING, "vidcompress"):
        llm = engine(FOLDER, hf_overrides=hf_overrides(STOCK, method=method, retention_ratio=0.25))
    assert ("without mass" in caplog.text) == (method == "census")
    for kind in ("clip",) if method == "vidcom2" else ("image", "clip", "both"):
        expected = reference(KINDS[kind], method, retention_ratio=0.25, positions="contiguous", mass="off")
        assert ask(llm, kind).differs(expected) < CLOSE
    if method == "vidcom2":
        with pytest.raises(ValueError, match="vidcom2"):
            ask(llm, "image")


def test_stock_model_is_stock(engine: Any, expected: Any) -> None:
    llm = engine(
        FOLDER,
        hf_overrides={"architectures": ["VidcompressLlavaOnevisionForConditionalGeneration"]}
        | {"vidcompress": {"method": "none"}},
    )
    assert ask(llm, "both").differs(expected["both", 1]) < CLOSE


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "retention_ratio"),
        ({"method": "fastv", "retention_ratio": 0.25}, "inside the language model"),
        ({"method": "fastervlm", "retention_ratio": 0.25}, "attention_received"),
        ({"method": "cdpruner", "retention_ratio": 0.25}, "question"),
        ({"retention_ratio": 0.25, "mass": "on"}, "mass"),
        ({"retention_ratio": 0.25, "policy": "reference"}, "policy"),
        ({"retention_ratio": 0.25, "encoder_saving": "frames"}, "encoder_saving"),
        ({"retention_ratio": 0.25, "positions": "original"}, "positions"),
        ({"retention_ratio": 2}, "retention_ratio"),
        ({"retention_ratio": 0.25, "tua": 3}, "tua"),
    ],
)
def test_settings_that_no_engine_serves(settings: Any, message: str) -> None:
    from vidcompress.errors import ArgumentError
    from vidcompress.serving.settings import Served, read_settings

    with pytest.raises(ArgumentError, match=message):
        read_settings(settings, Served("llava_onevision"))


def test_the_engine_says_why_it_does_not_start(engine: Any) -> None:
    with pytest.raises(ValueError, match="policy='reference' cannot go with vLLM"):
        engine(FOLDER, hf_overrides=hf_overrides(STOCK, retention_ratio=0.25, policy="reference"))
    with pytest.raises(ValueError, match="hf_overrides"):
        engine(
            FOLDER,
            hf_overrides=hf_overrides(STOCK, retention_ratio=0.25),
            mm_processor_kwargs={"retention_ratio": 0.5},
        )

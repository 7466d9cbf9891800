"""Qwen3.5 in vLLM: its kernels for the CPU take bfloat16 only, so that it is compared with the stock engine."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("vllm", reason="needs vLLM, which has an environment of its own: make serve-test")

import qwen_folder
from serving_answers import Answer, from_engine
from serving_qwen import ENGINE, KINDS, for_engine, text_of
from vidcompress.serving.plugin import hf_overrides

pytestmark = [pytest.mark.serving, pytest.mark.slow]
ARGUMENTS = {**ENGINE, "dtype": "bfloat16"}
del ARGUMENTS["block_size"]  # which a hybrid settles itself


def ask(llm: Any, values: dict[str, Any]) -> list[Answer]:
    return [from_engine(llm, [(text_of(items), for_engine(items), values)])[0] for items in KINDS.values()]


def test_at_one_it_is_the_stock_model_and_below_it_is_shorter(engine: Any, tmp_path: Any) -> None:
    folder = str(qwen_folder.save_folder(tmp_path, "qwen3_5", served=True))
    stock = ask(engine(folder, **ARGUMENTS), {})
    llm = engine(
        folder,
        hf_overrides=hf_overrides("Qwen3_5ForConditionalGeneration", retention_ratio=0.25),
        **ARGUMENTS,
    )
    whole, half, quarter = (
        ask(llm, values) for values in ({"retention_ratio": 1}, {"retention_ratio": 0.5}, {})
    )
    assert all(one.differs(other) < 1e-3 for one, other in zip(whole, stock, strict=True))
    assert all(
        one.length < other.length < more.length for one, other, more in zip(quarter, half, whole, strict=True)
    )
    assert any(one.tokens != other.tokens for one, other in zip(half, whole, strict=True))

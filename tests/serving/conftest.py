"""Engines for the tests of serving, one at a time in this process: two would share vLLM's distributed state."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

for _name, _value in (
    ("VLLM_ENABLE_V1_MULTIPROCESSING", "0"),
    ("VLLM_CPU_KVCACHE_SPACE", "1"),
    ("VLLM_NO_USAGE_STATS", "1"),
    ("VLLM_LOGGING_LEVEL", "ERROR"),
):
    os.environ.setdefault(_name, _value)


@pytest.fixture(scope="module")
def engine() -> Iterator[Callable[..., Any]]:
    """Makes an engine in this process and ends the one before it; all end with the module."""
    from vllm import LLM

    alive: list[Any] = []

    def end() -> None:
        from vllm.distributed import cleanup_dist_env_and_memory

        while alive:
            alive.pop().llm_engine.engine_core.shutdown()
        gc.collect()
        cleanup_dist_env_and_memory()

    def make(model: str, **arguments: Any) -> Any:
        end()
        small = dict(max_model_len=4096, max_num_seqs=8, max_num_batched_tokens=4096, skip_mm_profiling=True)
        llm = LLM(model=model, **{"dtype": "float32", "enforce_eager": True, **small, **arguments})
        alive.append(llm)
        return llm

    yield make
    end()

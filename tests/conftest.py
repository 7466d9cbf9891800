"""What every test shares: one torch thread, no network, and random state that no test leaves behind."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.pop(
    "COLUMNS", None
)  # which pytest-xdist sets to 80: what is captured is a pipe, whose lines are not broken

import hypothesis
import numpy as np
import pytest
import torch

from browser import chromium  # noqa: F401  (a fixture)

torch.set_num_threads(1)

# The same examples at every run, so that one commit is always red or always green; set HYPOTHESIS_PROFILE=explore
# to draw others.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("explore", derandomize=False)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


class _TorchRandom:
    """torch's generator as hypothesis wants it, so that an example that failed fails again."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


_TORCH_RANDOM = _TorchRandom()  # hypothesis holds it weakly
hypothesis.register_random(_TORCH_RANDOM)

collect_ignore = ["outside"]  # a package of its own, installed and run by end_to_end/test_outside.py


@pytest.fixture(autouse=True)
def _restored_random_state() -> Iterator[None]:
    """Seed every test alike and give the generators back as they were."""
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))

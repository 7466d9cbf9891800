"""The embedded model, loaded once; and what it is asked about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vidcompress

EXAMPLES = Path(__file__).parents[2] / "examples"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def qa() -> vidcompress.VisualQA:
    """tiny-onevision at retention 0.25."""
    return vidcompress.VisualQA.from_pretrained(device="cpu")


@pytest.fixture(scope="session")
def image() -> Path:
    """The example image."""
    return EXAMPLES / "scene.png"


@pytest.fixture(scope="session")
def clip() -> Path:
    """The example clip."""
    return EXAMPLES / "clip.mp4"

"""Traffic: seeded requests about drawn pictures, no two of which are alike, so that no server answers from a cache."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from vidcompress.tools.evaluation.shapes.vocabulary import words

CELLS = 8
"""Random colours on each side of a picture, between which it is smooth."""


def requests_of(
    key: Sequence[int], count: int, *, size: tuple[int, int], text_tokens: int, new_tokens: int
) -> list[dict[str, Any]]:
    """Make the bodies of requests to `/v1/chat/completions`, without the model.

    Args:
        key: seed; the same key gives the same requests, and other keys other pictures and words.
        count: number of requests.
        size: (width, height) of the picture of each, in pixels.
        text_tokens: words of each question.
        new_tokens: length of each answer; `ignore_eos`, which vLLM reads, lets none end before.
    """
    rng, vocabulary = np.random.default_rng(list(key)), words()
    bodies = []
    for _ in range(count):
        said = " ".join(rng.choice(vocabulary, text_tokens))
        content = [
            {"type": "image_url", "image_url": {"url": _picture(rng, size)}},
            {"type": "text", "text": said},
        ]
        bodies.append(
            {
                "messages": [{"role": "user", "content": content}],
                "max_tokens": new_tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
    return bodies


def _picture(rng: np.random.Generator, size: tuple[int, int]) -> str:
    """Draw a picture as a data URL."""
    colours = rng.integers(0, 256, (CELLS, CELLS, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

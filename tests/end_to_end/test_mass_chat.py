"""Masses in conversations and streams: as in a run from the beginning; with the masses off it is another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vidcompress import VisualQA, compress
from vidcompress.media import load_image

pytestmark = pytest.mark.transformers

QUESTIONS = ("where is the white square?", "how many shapes are there?", "what color is the circle?")
STEPS = 4


class Recorder:
    """Logits (V,) behind every call of a model's head, of the last column."""

    def __init__(self, qa: VisualQA) -> None:
        self._head, self.logits = qa.model.lm_head, list[torch.Tensor]()

    def __enter__(self) -> list[torch.Tensor]:
        self._handle = self._head.register_forward_hook(
            lambda module, args, output: self.logits.append(output[0, -1])
        )
        return self.logits

    def __exit__(self, *error: object) -> None:
        self._handle.remove()


def from_the_beginning(qa: VisualQA, image: Path, turns: list[tuple[str, str]], question: str) -> list[Any]:
    """Logits of one uncached call on the whole conversation, through the block."""
    head: list[dict[str, Any]] = [{"type": "image"}]
    messages: list[dict[str, Any]] = []
    for asked, said in [*turns, (question, "")]:
        messages.append({"role": "user", "content": [*head, {"type": "text", "text": asked}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": said}]})
        head = []
    prompt = qa.processor.apply_chat_template(messages[:-1])
    inputs = qa.processor(text=prompt, images=[[load_image(image)]])
    with compress(qa.model, config=qa.config), Recorder(qa) as logits:
        qa.model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    return logits


def near(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def test_every_turn_is_a_run_from_the_beginning(qa: VisualQA, image: Path) -> None:
    qa = qa.using(method="divprune", retention_ratio=0.1, mass="on")
    off = qa.using(mass="off")
    chat, turns = qa.chat(image=image), list[tuple[str, str]]()
    for question in QUESTIONS:
        with Recorder(qa) as logits:
            answer = chat.ask(question, max_new_tokens=STEPS, min_new_tokens=STEPS)
        whole = from_the_beginning(qa, image, turns, question)
        assert near(logits[: len(whole)], whole[: len(logits)]) < 2e-5
        without = from_the_beginning(off, image, turns, question)
        assert float((logits[0] - without[0]).abs().max()) > 1e-3
        turns.append((question, answer.text))
    chat._cache.crop = None  # a cache that cannot be cut is given up, and the features are sent again
    chat._cache = None
    with Recorder(qa) as logits:
        chat.ask(QUESTIONS[0], max_new_tokens=1)
    assert near(logits[:1], from_the_beginning(qa, image, turns, QUESTIONS[0])[:1]) < 2e-5


def test_streams_and_batches_are_weighed_alike(qa: VisualQA, image: Path) -> None:
    qa = qa.using(method="divprune", retention_ratio=0.1, mass="on")
    call = {"image": image, "max_new_tokens": STEPS}
    with Recorder(qa) as asked:
        text = qa.ask(QUESTIONS[0], **call).text
    with Recorder(qa) as streamed:
        pieces = "".join(qa.stream(QUESTIONS[0], **call))
    assert pieces.strip() == text and near(streamed, asked) == 0
    with Recorder(qa) as without:
        qa.using(mass="off").ask(QUESTIONS[0], **call)
    assert float((without[0] - asked[0]).abs().max()) > 1e-3

"""The question as evidence: which text belongs to a visual, and that text-aware methods follow it."""

from __future__ import annotations

import pytest
import torch

from tiny_models import FAMILIES, IMAGE, VIDEO, Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.prompt import parse_prompt
from vidcompress.core.tokens import Evidence
from vidcompress.session.compress import compress_inputs
from vidcompress.session.prompt import questions

QUESTION = Evidence("question")


def test_the_text_after_a_visual_is_its_question() -> None:
    rows = [
        [5, 6, IMAGE, IMAGE, 7, VIDEO, VIDEO, VIDEO, 8, 9],
        [0, 0, 0, 3, 4, IMAGE, IMAGE, IMAGE, IMAGE, VIDEO],
        [0, 0, 0, 0, 0, 0, 0, 0, 11, 12],
    ]
    ids = torch.tensor(rows)
    mask = torch.tensor([[1] * 10, [0] * 3 + [1] * 7, [0] * 8 + [1] * 2])
    found = questions(
        parse_prompt(
            ids, mask, {"image": IMAGE, "video": VIDEO}, {"image": [(2,), (2,), (2,)], "video": [(3,), (1,)]}
        )
    )
    assert {key: text.tolist() for key, text in found.items()} == {
        ("image", 0): [7, 8, 9],
        ("video", 0): [8, 9],
        # Nothing follows these, so it is what stands before them.
        ("image", 1): [3, 4],
        ("image", 2): [3, 4],
        ("video", 1): [3, 4],
    }


def test_one_token_is_a_question() -> None:
    """A full stop behind the picture is what is asked; only where nothing follows does the text before it count."""
    ids = torch.tensor([[5, 6, IMAGE, IMAGE, 7], [0, 0, 8, IMAGE, 9], [5, 6, 7, IMAGE, IMAGE]])
    mask = torch.tensor([[1] * 5, [0, 0, 1, 1, 1], [1] * 5])
    found = questions(
        parse_prompt(ids, mask, {"image": IMAGE, "video": VIDEO}, {"image": [(2,), (1,), (2,)], "video": []})
    )
    assert {key: text.tolist() for key, text in found.items()} == {
        ("image", 0): [7],
        ("image", 1): [9],
        ("image", 2): [5, 6, 7],
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_the_adapter_gives_the_language_models_embeddings(family: str) -> None:
    model = tiny_model(family)
    adapter = adapter_for(model)
    (visual,), _ = adapter.visuals(batch(model, [Scene((("image", (112, 80)),))]))
    (tokens,) = adapter.encode([visual], [QUESTION])
    assert QUESTION not in tokens.evidence, "a question that nobody gave"
    from dataclasses import replace

    ids = torch.tensor([7, 9, 7])
    (tokens,) = adapter.encode([replace(visual, question=ids)], [QUESTION, Evidence("attention_received")])
    assert torch.equal(tokens.evidence[QUESTION], model.get_input_embeddings()(ids))
    assert tokens.evidence[Evidence("attention_received")].shape == (len(tokens),)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_question_keeps_other_tokens(family: str) -> None:
    """The same pixels with other text; the row's neighbours do not matter (invariant 3 does the rest)."""
    model = tiny_model(family)
    inputs = batch(model, [Scene((("image", (112, 112)),), after=6)])
    other = {**inputs, "input_ids": inputs["input_ids"].clone()}
    other["input_ids"][0, -6:] = torch.tensor([80, 2, 81, 3, 82, 4])
    kept = [
        compress_inputs(model, x, "cdpruner", retention_ratio=0.2).report.visuals[0].kept_positions
        for x in (inputs, other, inputs)
    ]
    assert torch.equal(kept[0], kept[2])
    assert not torch.equal(kept[0], kept[1])

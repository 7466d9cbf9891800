"""Arguments that count columns of the caller's prompt mean the same tokens once the prompt is shortened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import modeling_utils

import vidcompress
from tiny_models import IMAGE, Scene, batch, tiny_model
from vidcompress.errors import UnsupportedInputError
from vidcompress.session.compress import compress_inputs

pytestmark = pytest.mark.transformers

ROWS = [
    Scene((("image", (112, 80)),), before=3, after=9, seed=1),
    Scene((("image", (40, 100)), ("image", (56, 56))), before=8, between=4, after=7, seed=3),
]
PER_ROW = hasattr(modeling_utils, "slice_logits_to_keep")
per_row = pytest.mark.skipif(not PER_ROW, reason="this transformers takes one list of columns for all rows")


def forward(model: Any, raw: dict[str, Any], method: str, **given: Any) -> torch.Tensor:
    with (
        torch.no_grad(),
        vidcompress.compress(model, method, retention_ratio=0.9 if "fastv" in method else 0.3),
    ):
        return model(**raw, **given).logits


def texts(raw: dict[str, Any], row: int) -> list[int]:
    """Columns of a row's text."""
    real = raw["attention_mask"][row].bool() & (raw["input_ids"][row] != IMAGE)
    return real.nonzero().flatten().tolist()


def text_logits(model: Any, raw: dict[str, Any], method: str, row: int) -> dict[int, torch.Tensor]:
    """For each text column of a row its logits, from all those of the shortened prompt."""
    short = compress_inputs(model, raw, method, retention_ratio=0.3)
    real = short["attention_mask"][row].bool() & (short["input_ids"][row] != IMAGE)
    whole = forward(model, raw, method)[row][real]
    return dict(zip(texts(raw, row), whole, strict=True))


@pytest.mark.parametrize("pad_right", [False, True])
@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
def test_each_text_column_has_the_logits_of_its_token(family: str, pad_right: bool) -> None:
    """Alone, row by row; negative columns and masks too; and untranslated they would be those of other tokens."""
    model = tiny_model(family)
    for scene in ROWS:
        raw = batch(model, [replace(scene, after=80)], pad_right=pad_right)
        right = text_logits(model, raw, "globalcom2", 0)
        columns = list(right)
        expected = torch.stack([right[c] for c in columns])[None]
        width = raw["input_ids"].shape[1]
        mask = torch.zeros(width, dtype=torch.bool)
        mask[columns] = True
        given = [torch.tensor(columns), torch.tensor(columns) - width, mask]
        for value in given:
            got = forward(model, raw, "globalcom2", logits_to_keep=value)
            assert torch.allclose(got, expected, atol=1e-4)
        turned = forward(model, raw, "globalcom2", logits_to_keep=torch.tensor(columns[::-1]))
        assert torch.allclose(turned, expected.flip(1), atol=1e-4)
        whole = forward(model, raw, "globalcom2")
        behind = [c for c in columns[-80:] if c < whole.shape[1]]
        untranslated = torch.stack([right[c] for c in behind])[None]
        assert behind and not torch.allclose(whole[:, behind], untranslated, atol=1e-2)
        if PER_ROW:
            assert torch.allclose(
                forward(model, raw, "globalcom2", logits_to_keep=mask[None]), expected[0], atol=1e-4
            )


@pytest.mark.parametrize("method", ["globalcom2", "fastv", "uniform+fastv"])
def test_the_last_columns_of_a_batch(method: str) -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, ROWS)
    width, whole = raw["input_ids"].shape[1], forward(model, raw, method)
    for value in (4, torch.arange(width - 4, width), torch.arange(-4, 0)):
        assert torch.allclose(forward(model, raw, method, logits_to_keep=value), whole[:, -4:], atol=1e-4)
    for everything in (0, width, width + 5):
        assert torch.equal(forward(model, raw, method, logits_to_keep=everything), whole)
    assert whole.shape[1] < width


@per_row
def test_rows_may_name_columns_of_their_own() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS)
    right = [text_logits(model, raw, "globalcom2", row) for row in range(2)]
    chosen = torch.tensor([texts(raw, 0)[:6], texts(raw, 1)[6:12]])
    got = forward(model, raw, "globalcom2", logits_to_keep=chosen)
    for row in range(2):
        expected = torch.stack([right[row][int(c)] for c in chosen[row]])
        assert torch.allclose(got[row], expected, atol=1e-4)
    mask = torch.zeros_like(raw["input_ids"], dtype=torch.bool).scatter(1, chosen, True)
    flat = forward(model, raw, "globalcom2", logits_to_keep=mask)
    assert torch.allclose(flat, got.flatten(0, 1), atol=1e-4)
    same = int(set(texts(raw, 0)).intersection(texts(raw, 1)).pop())
    one = forward(model, raw, "globalcom2", logits_to_keep=torch.tensor([same]))
    assert torch.allclose(one[:, 0], torch.stack([right[row][same] for row in range(2)]), atol=1e-4)


@pytest.mark.parametrize("method", ["none", "globalcom2", "fastv"])
def test_at_full_retention_any_column_may_be_named(method: str) -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS[:1])
    columns = torch.arange(0, raw["input_ids"].shape[1], 3)
    with torch.no_grad():
        stock = model(**raw, logits_to_keep=columns).logits
        with vidcompress.compress(model, method, retention_ratio=1):
            assert torch.equal(model(**raw, logits_to_keep=columns).logits, stock)
        short = compress_inputs(model, raw | {"logits_to_keep": columns}, method, retention_ratio=1)
        with short.pruning():
            assert torch.equal(model(**short).logits, stock)


def test_what_cannot_be_translated_is_refused() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS[:1])
    width = raw["input_ids"].shape[1]
    visual = int((raw["input_ids"][0] == IMAGE).nonzero()[0])
    for value, said in (
        (
            torch.tensor([visual]),
            f"logits_to_keep reaches column {visual} of row 0: once the prompt is shortened",
        ),
        (width - visual, f"logits_to_keep reaches column {visual} of row 0"),
        (torch.tensor([width]), f"must name columns of input_ids, from -{width} to {width - 1}"),
        (torch.tensor([-width - 1]), "must name columns of input_ids"),
        (torch.tensor([0.5]), "logits_to_keep=.*must be a number of last columns, a tensor of columns"),
        (torch.tensor(3), "must be a number of last columns"),
        (-1, "logits_to_keep=-1: must be a number of last columns"),
        (
            torch.ones(1, 5, dtype=torch.bool),
            r"a bool mask must have the shape of input_ids \(1, .*got \(1, 5\)",
        ),
        (torch.zeros(3, 1, dtype=torch.int64), "for 1 rows or for all at once"),
    ):
        with pytest.raises(UnsupportedInputError, match=said):
            forward(model, raw, "globalcom2", logits_to_keep=value)
    with pytest.raises(UnsupportedInputError, match=r"behind the last visual token \(method 'fastv'\)"):
        forward(model, raw, "fastv", logits_to_keep=torch.tensor([0]))
    padded = batch(model, ROWS)
    row = int(padded["attention_mask"][:, 0].argmin())
    mask = torch.zeros_like(padded["input_ids"], dtype=torch.bool)
    mask[row, 0] = True
    with pytest.raises(UnsupportedInputError, match=f"reaches column 0 of row {row}.*that is no padding"):
        forward(model, padded, "globalcom2", logits_to_keep=mask)


@pytest.mark.parametrize(
    "name", ["cache_position", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"]
)
def test_arguments_that_place_tokens_are_refused(name: str) -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS[:1])
    with pytest.raises(UnsupportedInputError, match=f"{name}=.* places tokens of the uncompressed prompt"):
        forward(model, raw, "globalcom2", **{name: torch.arange(raw["input_ids"].shape[1])})
    whole = forward(model, raw, "globalcom2")
    assert torch.equal(forward(model, raw, "globalcom2", **{name: None}), whole)


def test_generate_refuses_columns_and_rewritten_prompts() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS[:1])
    with vidcompress.compress(model, retention_ratio=0.3):
        expected = model.generate(**raw, max_new_tokens=3, do_sample=False)
        with pytest.raises(UnsupportedInputError, match="logits_to_keep=.*applies to every later token too"):
            model.generate(**raw, logits_to_keep=torch.tensor([1]), max_new_tokens=3)
        with pytest.raises(UnsupportedInputError, match="token_healing=True rewrites the end of the prompt"):
            model.generate(**raw, token_healing=True, max_new_tokens=3)
        last = model.generate(**raw, logits_to_keep=1, max_new_tokens=3, do_sample=False)
    assert torch.equal(last, expected)


def test_what_counts_new_tokens_counts_them_in_the_block() -> None:
    """Transformers adds the prompt it sees to these by itself, so they need no translation."""
    model = tiny_model("llava_onevision")
    raw = batch(model, ROWS[:1])
    length = raw["input_ids"].shape[1]
    ends = {"eos_token_id": list(range(2, 90)), "do_sample": False, "max_new_tokens": 9}
    with vidcompress.compress(model, retention_ratio=0.3):
        free = model.generate(**raw, max_new_tokens=4, do_sample=False)
        first = int(free[0, length])
        other = model.generate(**raw, max_new_tokens=4, do_sample=False, begin_suppress_tokens=[first])
        late = model.generate(**raw, **ends, min_new_tokens=5)
        soon = model.generate(**raw, **ends)
        lookup = model.generate(**raw, max_new_tokens=4, do_sample=False, prompt_lookup_num_tokens=3)
        short = compress_inputs(model, raw, retention_ratio=0.3)
    assert int(other[0, length]) != first
    assert late.shape[1] - length >= 5 > soon.shape[1] - length
    assert torch.equal(lookup, free)
    decay = {"exponential_decay_length_penalty": (3, 50.0), **ends, "eos_token_id": [1]}
    with vidcompress.compress(model, retention_ratio=0.3):
        block = model.generate(**raw, **decay)[:, length:]
    assert torch.equal(block, model.generate(**short, **decay)[:, short["input_ids"].shape[1] :])
    assert block.shape[1] < 9

"""Masses behind stages inside the decoder: equal to a run by hand; the sums of each visual stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import vidcompress
from mass_cases import GREEDY
from reference.slow_decoder import Rule, Token, run
from reference.slow_mass import taken_in
from tiny_models import Scene, batch, tiny_model
from vidcompress.llm_pruning import hooks
from vidcompress.llm_pruning.cache_names import cache_name, returned_cache
from vidcompress.ops.mass import hand_over
from vidcompress.session.compress import compress_inputs

pytestmark = pytest.mark.transformers

ROWS = [
    Scene((("image", (56, 56)),), before=3, after=6, seed=1),
    Scene((), before=5, seed=2),
    Scene((("image", (40, 100)), ("image", (112, 112))), before=7, after=5, seed=3),
]
METHODS = [
    "fastv",
    "pdrop",
    "sparsevlm",
    "sparsevlm2",
    "divprune+fastv",
    "random+pdrop",
    "divprune+sparsevlm",
]


def tokens_of(model: Any, compressed: Any, row: int) -> list[Token]:
    """Tokens of one row of the compressed prompt, with its masses at first."""
    inside = compressed.inside
    compressed.inside = None
    with taken_in(model) as calls, torch.no_grad():
        model(**compressed)
    compressed.inside = inside
    real = compressed["attention_mask"][row].bool()
    start = int((~real).sum())
    given = compressed["position_ids"][row] if "position_ids" in compressed else None
    owner, visual = inside.plan.owner[row].tolist(), inside.plan.visual[row].tolist()
    return [
        Token(
            calls[0]["inputs_embeds"][row, c],
            int(given[c]) if given is not None else c - start,
            "visual" if visual[c] else "text",
            c,
            mass=float(inside.mass.mass[row, c]),
            owner=owner[c],
        )
        for c in range(start, len(real))
    ]


def by_hand(model: Any, compressed: Any, row: int, answer: list[int], strength: float = 1.0) -> torch.Tensor:
    """Logits behind a prompt and an answer."""
    plan, tokens = compressed.inside.plan, tokens_of(model, compressed, row)
    width = len(plan.real[row])
    for number, token in enumerate(answer):
        state = model.get_input_embeddings()(torch.tensor(token)).detach()
        tokens.append(Token(state, tokens[-1].position + 1, "answer", width + number))
    stages = [(s.layer, s.kept, s.merged) for s in plan.schedules[row].stages]
    rule = Rule(plan.method.name, stages, plan.contiguous, strength=strength)
    with torch.no_grad():
        return model.lm_head(run(model.model.language_model, tokens, rule))


def check(model: Any, compressed: Any, row: int, answer: list[int], got: torch.Tensor) -> None:
    torch.testing.assert_close(got, by_hand(model, compressed, row, answer), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "positions", "attention"),
    [(m, ("contiguous", "original")[i % 2], ("sdpa", "eager")[i // 2 % 2]) for i, m in enumerate(METHODS)],
)
def test_generation_equals_a_run_by_hand(method: str, positions: str, attention: str) -> None:
    """Prefill and a cached step; a run without masses, or with half of them, differs."""
    model = tiny_model("llava_onevision", attention=attention)
    settings = {"retention_ratio": 0.55, "positions": positions}
    compressed = compress_inputs(model, batch(model, ROWS), method, mass="on", **settings)
    with compressed.pruning():
        out = model.generate(**compressed, **{**GREEDY, "max_new_tokens": 3})
    answers = out.sequences[:, compressed["input_ids"].shape[1] :].tolist()
    for row, answer in enumerate(answers):
        check(model, compressed, row, answer[:2], out.logits[2][row])
    check(model, compressed, 0, [], out.logits[0][0])
    for strength in (0.0, 0.5):
        other = by_hand(model, compressed, 0, answers[0][:2], strength)
        assert float((out.logits[2][0] - other).abs().max()) > 1e-3


@pytest.mark.parametrize("method", ["fastv", "divprune+pdrop"])
def test_a_second_turn_over_a_pruned_cache(method: str) -> None:
    """By the block's generate after other inputs, and by a direct call."""
    model, turn = tiny_model("llava_onevision"), torch.tensor([[7, 8, 9]])
    settings = {"method": method, "retention_ratio": 0.55, "mass": "on"}
    raw, other = batch(model, ROWS[:1]), batch(model, ROWS[2:])
    compressed = compress_inputs(model, raw, **settings)
    with vidcompress.compress(model, **settings), torch.no_grad():
        call = {**GREEDY, "max_new_tokens": 1}
        first = model.generate(**raw, **call)
        model.generate(**other, **call)
        ids = torch.cat((first.sequences, turn), dim=1)
        mask = torch.ones_like(ids)
        second = model.generate(input_ids=ids, attention_mask=mask, cache=returned_cache(first), **call)
        said = ids[0, raw["input_ids"].shape[1] :].tolist()
        check(model, compressed, 0, said, second.logits[0][0])
        more = second.sequences[:, -1:]
        # Positions of a direct call are the caller's: of the shortened prompt, as its method keeps them.
        place = torch.tensor([[len(compressed["input_ids"][0]) + len(said)]])
        direct = model(input_ids=more, position_ids=place, **{cache_name(): returned_cache(second)}).logits
    check(model, compressed, 0, [*said, int(more)], direct[0, -1])
    without = by_hand(model, compressed, 0, said, 0.0)
    assert float((second.logits[0][0] - without).abs().max()) > 1e-3


def tokens_in_view(compressed: Any, row: int, number: int) -> int:
    """Tokens of a visual that are no separators, whether they are sent or not."""
    visual = [one for one in compressed.report.visuals if one.row == row][number]
    return int((~visual.layout.separator).sum())


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_masses_of_a_visual_sum_to_its_tokens_in_every_layer(
    method: str, beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows of unequal length, so that shorter ones are padded anew behind each stage."""
    model = tiny_model("llava_onevision")
    compressed = compress_inputs(model, batch(model, ROWS), method, retention_ratio=0.5, mass="on")
    true, seen = hooks.next_sequence, []

    def watched(prefill: Any, *rest: Any) -> Any:
        out = true(prefill, *rest)
        seen.append(prefill.now)
        return out

    monkeypatch.setattr(hooks, "next_sequence", watched)
    with compressed.pruning():
        model.generate(**compressed, max_new_tokens=1, num_beams=beams, do_sample=False)
    plan, first = compressed.inside.plan, compressed.inside.mass.mass
    assert len(seen) == len(plan.layers) > 0
    for sequence in seen:
        assert bool(sequence.visual[sequence.owner >= 0].all())
        assert bool((sequence.mass[sequence.owner < 0] == 1).all()), "text, padding and separators"
        assert bool((sequence.mass >= 1).all()), "a token without mass would not be seen"
        for row in range(len(ROWS)):
            for number in range(len(ROWS[row].visuals)):
                there = sequence.owner[row * beams] == number
                total = float(first[row, plan.owner[row] == number].sum())
                assert total == tokens_in_view(compressed, row, number)
                assert float(sequence.mass[row * beams, there].sum()) == (total if bool(there.any()) else 0)
    assert float(seen[-1].mass.max()) > 1


def test_heirs_are_the_nearest_of_the_same_visual() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 9, 4, generator=generator)
    mass = torch.tensor([[1.0, 2, 3, 4, 5, 6, 1, 1, 1], [1, 1, 7, 2, 1, 3, 5, 1, 1]])
    owner = torch.tensor([[-1, 0, 0, 0, 1, 1, 1, -1, -1], [-1, -1, 0, 0, 0, 1, 1, 2, -1]])
    stays = torch.tensor([[0, 1, 0, 1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0, 1, 0, 0]]).bool()
    expected = mass.clone()
    for row in range(2):
        for entry in range(9):
            if owner[row, entry] < 0 or stays[row, entry]:
                continue
            near, best = None, -2.0
            for heir in range(9):
                if stays[row, heir] and owner[row, heir] == owner[row, entry]:
                    cosine = float(torch.cosine_similarity(states[row, entry], states[row, heir], dim=0))
                    if cosine > best:
                        near, best = heir, cosine
            expected[row, entry] = 0
            if near is not None:
                expected[row, near] += mass[row, entry]
    assert torch.equal(hand_over(states, mass, owner, stays=stays, most=3), expected)
    nowhere = hand_over(states, mass, owner, stays=torch.zeros_like(stays), most=1)
    assert torch.equal(nowhere, mass.masked_fill(owner >= 0, 0.0))

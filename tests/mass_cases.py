"""Masses that a test knows, where they belong, and the judge of logits that were made with them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen2Config

from qwen_models import FAMILIES as QWENS
from qwen_models import qwen_inputs, qwen_model
from reference.slow_mass import slow_copy, slow_logits, taken_in
from tiny_models import _DECODER, VIDEO_FAMILIES, Scene, batch, tiny_model

STEPS = 6
GREEDY: dict[str, Any] = {
    "do_sample": False,
    "max_new_tokens": STEPS,
    "suppress_tokens": [90, 91, 92, 93],  # placeholders
    "output_logits": True,
    "return_dict_in_generate": True,
}
SETTINGS: dict[str, Any] = {"method": "divprune", "retention_ratio": 0.4, "mass": "on"}


def of_ranks(count: int) -> Tensor:
    """Masses 1 to 7 of the `count` tokens that a visual sends, in their order; no two neighbours have the same."""
    return (1 + (3 * torch.arange(count) + count) % 7).float()


@contextmanager
def known_masses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The masses of every visual are `of_ranks`, whatever it shows."""
    with monkeypatch.context() as patch:
        patch.setattr(
            "vidcompress.session.masses.masses_of",
            lambda tokens, selection, *others: of_ranks(len(selection)),
        )
        yield


@lru_cache(maxsize=4)
def _attending(family: str, attention: str) -> Any:
    """A copy, since models are shared between tests."""
    model = copy.deepcopy(qwen_model(family))
    model.set_attn_implementation(attention)
    return model


def inputs_of(family: str, attention: str = "sdpa", pad_right: bool = False) -> tuple[Any, dict[str, Any]]:
    """A model, and three unequal prompts: one visual; text only; several visuals, of both kinds where there are two."""
    if family in QWENS:
        rows: list[list[Any]] = [
            [5, ("image", (1, 8, 12)), 6, 7, 8],
            [3, 2, 5],
            [4, 4, ("video", (3, 8, 4)), ("image", (1, 4, 14)), 9, 3, 6],
        ]
        model = _attending(family, attention)
        return model, qwen_inputs(model, rows)
    model = tiny_model(family, attention=attention)
    other = ("video", 3) if family in VIDEO_FAMILIES else ("image", (40, 100))
    scenes = [
        Scene((("image", (56, 56)),), before=3, seed=1),
        Scene((), before=5, seed=2),
        Scene((other, ("image", (112, 80))), before=7, seed=3),
    ]
    return model, batch(model, scenes, pad_right)


def windowed(kind: str, attention: str) -> tuple[Any, dict[str, Any]]:
    """All layers look back 12 columns (mistral), or the last two of three do (qwen2)."""
    family = "llava_next" if kind == "mistral" else "llava_onevision"
    base, raw = inputs_of(family)
    if kind == "mistral":
        model = copy.deepcopy(tiny_model(family, "mistral"))
        model.config.text_config.sliding_window = 12
    else:
        config = copy.deepcopy(base.config)
        config.text_config = Qwen2Config(
            **_DECODER, use_sliding_window=True, sliding_window=12, max_window_layers=1
        )
        model = type(base)(config).eval()
        model.load_state_dict(base.state_dict())
        model.generation_config = copy.deepcopy(base.generation_config)
    model.set_attn_implementation(attention)
    return model, raw


def expected_columns(model: Any, compressed: Any) -> Tensor:
    """Masses (row, C): those of each visual at its placeholders, in order, 1 elsewhere."""
    ids, kinds = compressed["input_ids"], ("image_token_id", "video_token_id")
    names = torch.tensor([n for n in (getattr(model.config, kind, None) for kind in kinds) if n is not None])
    out = torch.ones(ids.shape)
    for row in range(len(ids)):
        masses = [of_ranks(visual.kept) for visual in compressed.report.visuals if visual.row == row]
        if masses:
            out[row, torch.isin(ids[row], names)] = torch.cat(masses)
    return out


@lru_cache(maxsize=2)
def slow_of(model: Any) -> Any:
    return slow_copy(model, torch.float32 if "moe" in model.config.model_type else torch.float64)


class Judge:
    """Slow logits of the rows of one call, with its masses, without any, and with the masses one column off.

    Args:
        model: with what it does at present.
        compressed: inputs with `known_masses`.
        strength: factor of the logarithm.
    """

    def __init__(self, model: Any, compressed: Any, strength: float = 1.0) -> None:
        self._slow, self.real = slow_of(model), compressed["attention_mask"].bool()
        self._bias = strength * expected_columns(model, compressed).log()
        call = compressed.inside
        compressed.inside = None
        with taken_in(model) as calls, torch.no_grad():
            model(**compressed)
        compressed.inside = call
        self._call = calls[0]
        self.weighed = [bool(bias.any()) for bias in self._bias]
        assert sum(self.weighed) > 0

    @torch.no_grad()
    def logits(self, row: int, answer: Tensor, how: str = "true") -> Tensor:
        """Logits (n, V) of a prompt and an answer (A,) behind it."""
        bias = torch.cat((self._bias[row, self.real[row]], torch.zeros(len(answer))))
        bias = {"true": bias, "without": torch.zeros_like(bias), "off": bias.roll(1)}[how]
        there = torch.ones(len(bias), dtype=torch.bool)
        return slow_logits(self._slow, self._call, row, self.real[row], answer, lambda layer: (bias, there))

    def check(self, row: int, answer: Tensor, got: Tensor, controls: bool = True) -> None:
        """Compare logits (k, V) of the last k columns; each control must differ."""

        def apart(how: str) -> float:
            return float((self.logits(row, answer, how)[-len(got) :] - got).abs().max())

        assert apart("true") < 1e-5
        if self.weighed[row] and controls:
            assert apart("without") > 1e-3
            assert apart("off") > 1e-3

    def check_steps(
        self,
        out: Any,
        width: int,
        copies: int = 1,
        before: Sequence[Tensor] = (),
        prefill: Tensor | None = None,
    ) -> None:
        """Compare the logits of every step of generate, whose prompts have `width` columns.

        `before` are ids (A,) between the compressed prompt and the first of these steps, row by row; `prefill` logits
        (row, C, V) of a forward, compared as well.
        """
        for number, got in enumerate(torch.stack(out.logits, dim=1)):
            answer, row = out.sequences[number, width:][: len(got) - 1], number // copies
            if before:
                answer = torch.cat((before[number], answer))
            if prefill is not None:
                got = torch.cat((prefill[row, self.real[row]], got[1:]))
            self.check(row, answer, got, controls=number % copies == 0)

    def check_scores(self, out: Any, width: int, copies: int) -> None:
        """Compare the scores of what beams returned: mean log-probabilities of their tokens."""
        for number, score in enumerate(out.sequences_scores.tolist()):
            row, answer = number // copies, out.sequences[number, width:]
            for how in ("true", "without", "off"):
                logits = self.logits(row, answer, how)[-len(answer) - 1 : -1]
                mine = float(logits.log_softmax(-1).gather(1, answer[:, None]).mean())
                if how == "true":
                    assert abs(mine - score) < 1e-5
                elif self.weighed[row] and number % copies == 0:
                    assert abs(mine - score) > 1e-3


def hooks_on(model: Any) -> int:
    """Number of hooks on the decoder, its layers and their attentions."""
    decoder = model.model.language_model
    parts = [decoder, *decoder.layers, *(layer.self_attn for layer in decoder.layers)]
    return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in parts)

"""Masses instead of copies: a token with mass m is m tokens at one position that see each other, and only then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    Gemma3TextConfig,
    Gemma3TextModel,
    LlamaConfig,
    LlamaModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

from vidcompress.llm_pruning.mass import MassHooks, MassPlan

pytestmark = pytest.mark.transformers

SMALL: dict[str, Any] = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=50,
)
DECODERS: dict[str, Any] = {
    "llama": lambda: LlamaModel(LlamaConfig(**SMALL)),
    "qwen2": lambda: Qwen2Model(Qwen2Config(**SMALL)),
    "qwen3": lambda: Qwen3Model(Qwen3Config(**SMALL, head_dim=8)),
    "gemma3": lambda: Gemma3TextModel(Gemma3TextConfig(**SMALL, head_dim=8, query_pre_attn_scalar=8)),
}
MASS = torch.tensor([1.0, 1, 1, 1, 3, 1, 7, 2, 5, 4, 6, 2, 1, 1, 1, 1, 1, 1])
VISUAL = slice(4, 12)


def decoder_of(kind: str, attention: str) -> Any:
    torch.manual_seed(0)
    decoder = DECODERS[kind]().eval()
    decoder.set_attn_implementation(attention)
    scale = 3.0 if kind == "gemma3" else 8.0  # so that hidden states differ enough for the controls
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(scale if weight.ndim > 1 else 1.0)
    return decoder


def states(decoder: Any, embeds: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
    """(n, D) behind the decoder, under the mask `seen` (n, n) bool."""
    mask: Any = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]
    if decoder.config.model_type.startswith("gemma3"):
        mask = {"full_attention": mask, "sliding_attention": mask}
    with torch.no_grad():
        out = decoder(
            inputs_embeds=embeds[None], position_ids=positions[None], attention_mask=mask, use_cache=False
        )
    return out.last_hidden_state[0]  # type: ignore[no-any-return]


def seen_by(owner: Tensor, both_ways: bool) -> Tensor:
    """(n, n) bool: a column sees copies of the tokens up to its own, and within the picture all where it may."""
    picture = (owner >= VISUAL.start) & (owner < VISUAL.stop)
    seen = owner[None] <= owner[:, None]
    return seen | (picture[None] & picture[:, None]) if both_ways else seen


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_mass_is_that_many_copies(kind: str, attention: str) -> None:
    decoder, n, both = decoder_of(kind, attention), len(MASS), kind == "gemma3"
    embeds = torch.randn(n, 32, generator=torch.Generator().manual_seed(1))
    owner = torch.arange(n).repeat_interleave(MASS.long())
    last = MASS.long().cumsum(0) - 1
    adapter = SimpleNamespace(decoder=decoder, model=decoder, traits=SimpleNamespace(hybrid=False))
    hooks = MassHooks(adapter)

    def copies(positions: Tensor, seen: Tensor) -> Tensor:
        return states(decoder, embeds[owner], positions, seen)[last]

    def masses(strength: float, positions: Tensor) -> Tensor:
        with hooks.attached(), hooks.armed(MassPlan(MASS[None], strength)):
            return states(decoder, embeds, positions, seen_by(torch.arange(n), both))

    true = copies(owner, seen_by(owner, both))
    torch.testing.assert_close(masses(1.0, torch.arange(n)), true, atol=1e-5, rtol=1e-5)
    for strength in (0.0, 0.5):
        assert float((masses(strength, torch.arange(n)) - true).abs().max()) > 1e-2
    in_a_row = copies(torch.arange(len(owner)), seen_by(owner, both))
    assert float((masses(1.0, last) - in_a_row).abs().max()) > 1e-2
    if not both:  # copies that do not see later ones are other tokens behind the first layer
        ordinary = copies(owner, torch.ones(len(owner), len(owner)).tril().bool())
        assert float((masses(1.0, torch.arange(n)) - ordinary).abs().max()) > 1e-2

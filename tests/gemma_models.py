"""Small random models of Gemma 3, and inputs for them without any processor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    SiglipVisionConfig,
)

IMAGE, START, END, PAD = 90, 91, 92, 0
TOKENS = 16
"""Of a view: 4 x 4 tokens of 2 x 2 patches each."""
SIDE = 56
WINDOW = 256
_SIZE = dict(hidden_size=32, intermediate_size=64, num_attention_heads=4)


@lru_cache(maxsize=4)
def gemma3(window: int = WINDOW, attention: str = "sdpa") -> Any:
    """A random model with two layers of a sliding window around a full one; cached, so tests may not change it."""
    torch.manual_seed(0)
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(
            **_SIZE, num_hidden_layers=3, image_size=SIDE, patch_size=7, vision_use_head=False
        ),
        text_config=Gemma3TextConfig(
            **_SIZE,
            num_hidden_layers=3,
            num_key_value_heads=2,
            head_dim=8,
            vocab_size=100,
            sliding_window=window,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            query_pre_attn_scalar=8,
            pad_token_id=PAD,
            bos_token_id=None,
            eos_token_id=None,
        ),
        mm_tokens_per_image=TOKENS,
        image_token_id=IMAGE,
        boi_token_id=START,
        eoi_token_id=END,
    )
    model = Gemma3ForConditionalGeneration(config).eval()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        for (
            name,
            weight,
        ) in model.named_parameters():  # larger than they come, so that a mistake shows in the logits
            if name.endswith("mm_input_projection_weight"):
                weight.normal_()
            elif "embed_tokens" in name:
                weight.mul_(10.0)
            elif weight.ndim > 1:
                weight.mul_(4.0)
            elif "norm" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    model.generation_config.eos_token_id = None
    model.generation_config.suppress_tokens = [IMAGE]  # a generated placeholder would ask for features
    return model


def gemma3_inputs(
    rows: Sequence[Sequence[Any]], seed: int = 0, sizes: Sequence[tuple[int, int]] | None = None
) -> dict[str, Any]:
    """Inputs as the processor returns them, left-padded. A row is made of ids and of numbers of crops in a tuple: (0,)
    is a picture alone, (2,) one with two crops behind it. `num_crops` is there where a picture has any."""
    generator = torch.Generator().manual_seed(seed)
    ids, crops = [], []
    for row in rows:
        written: list[int] = []
        for part in row:
            if isinstance(part, int):
                written.append(part)
                continue
            crops.append(part[0])
            for number in range(1 + part[0]):
                written += [10 + number, START, *[IMAGE] * TOKENS, END, 11]
        ids.append(written)
    width = max(map(len, ids))
    padded = torch.tensor([[PAD] * (width - len(row)) + row for row in ids])
    out: dict[str, Any] = {
        "input_ids": padded,
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
        "token_type_ids": (padded == IMAGE).long(),
    }
    if crops:
        out["pixel_values"] = torch.randn(sum(crops) + len(crops), 3, SIDE, SIDE, generator=generator)
    if any(crops):
        out["num_crops"] = torch.tensor(crops)
    if sizes is not None:
        out["image_sizes"] = torch.tensor(sizes)
    return out

"""Small random models of Mistral 3, and inputs for them without any processor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from transformers import (
    Ministral3Config,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
)

IMAGE, BREAK, END, PAD = 90, 91, 92, 0
PATCH, MERGE = 7, 2
SIDE = PATCH * MERGE
"""Of a token, in pixels."""
_SIZE = dict(hidden_size=32, intermediate_size=64, num_attention_heads=4)


@lru_cache(maxsize=8)
def mistral3(
    attention: str = "sdpa", layer: int = -1, window: int | None = None, decoder: str = "mistral"
) -> Any:
    """A random model; cached, so tests may not change it for good."""
    torch.manual_seed(0)
    text = dict(
        **_SIZE,
        num_hidden_layers=3,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=100,
        sliding_window=window,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=None,
    )
    config = Mistral3Config(
        vision_config=PixtralVisionConfig(**_SIZE, num_hidden_layers=3, image_size=140, patch_size=PATCH),
        text_config=MistralConfig(**text) if decoder == "mistral" else Ministral3Config(**text),
        image_token_index=IMAGE,
        vision_feature_layer=layer,
        spatial_merge_size=MERGE,
        tie_word_embeddings=False,
    )
    model = Mistral3ForConditionalGeneration(config).eval()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        for (
            name,
            weight,
        ) in model.named_parameters():  # larger than they come, so that a mistake shows in the logits
            if weight.ndim > 1:
                weight.mul_(5.0 if "language_model" in name or "projector" in name else 3.0)
            elif "norm" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    model.generation_config.eos_token_id = None
    model.generation_config.suppress_tokens = [IMAGE]  # a generated placeholder would ask for features
    return model


def picture(size: tuple[int, int]) -> list[int]:
    """Ids of a picture of (rows, cols) tokens in a prompt."""
    rows, cols = size
    return [token for row in range(rows) for token in (*[IMAGE] * cols, END if row == rows - 1 else BREAK)]


def mistral3_inputs(rows: Sequence[Sequence[Any]], seed: int = 0) -> dict[str, Any]:
    """Inputs as the processor returns them, left-padded; a row is made of ids and of (rows, cols) of tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = [[t for part in row for t in ([part] if isinstance(part, int) else picture(part))] for row in rows]
    sizes = [(part[0] * SIDE, part[1] * SIDE) for row in rows for part in row if not isinstance(part, int)]
    width = max(map(len, ids))
    out: dict[str, Any] = {
        "input_ids": torch.tensor([[PAD] * (width - len(row)) + row for row in ids]),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
    }
    if sizes:
        filled = torch.zeros(len(sizes), 3, max(h for h, _ in sizes), max(w for _, w in sizes))
        for one, (height, wide) in zip(filled, sizes, strict=True):
            one[:, :height, :wide] = torch.randn(3, height, wide, generator=generator)
        out |= {"pixel_values": filled, "image_sizes": torch.tensor(sizes)}
    return out

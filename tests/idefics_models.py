"""Small random models of Idefics3 and SmolVLM, and inputs as their processors make them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

FAMILIES = ("idefics3", "smolvlm")
IMAGE, MARK, GLOBAL, LINE, PAD = 90, 92, 93, 94, 0
SIDE, PATCH, SCALE = 24, 4, 2
TOKENS = (SIDE // PATCH // SCALE) ** 2
"""Of a view."""

WIDE, TALL, ONE, CLIP = ("image", (2, 3)), ("image", (2, 1)), ("image", (0, 0)), ("video", 3)
PICTURES = [[5, WIDE, 7, TALL], [5, 6, ONE, 8, 8], [3, 2, 5]]
MIXED = [[5, CLIP, 6, TALL], [4, ONE, 9, ("video", 2), 7], [3, 2, 5], [9, WIDE]]
"""Prompt rows for `idefics_inputs`."""


@lru_cache(maxsize=4)
def idefics_model(family: str) -> Any:
    """A random model in float32 and eval mode; cached, so tests may not change it for good."""
    torch.manual_seed(0)
    size = dict(hidden_size=32, intermediate_size=64, num_attention_heads=4)
    text = LlamaConfig(
        **size,
        num_hidden_layers=3,
        num_key_value_heads=2,
        vocab_size=100,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=2,
    )
    vision = dict(**size, num_hidden_layers=3, image_size=SIDE, patch_size=PATCH)
    made: Any
    if family == "smolvlm":
        config: Any = SmolVLMConfig(
            vision_config=vision, text_config=text, image_token_id=IMAGE, scale_factor=SCALE
        )
        made = SmolVLMForConditionalGeneration(config)
    else:
        config = Idefics3Config(
            vision_config=vision, text_config=text, image_token_id=IMAGE, scale_factor=SCALE
        )
        made = Idefics3ForConditionalGeneration(config)
    with torch.no_grad():
        for (
            name,
            weight,
        ) in made.named_parameters():  # larger than they come, so that a mistake shows in the logits
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
            if name.endswith("post_layernorm.weight"):
                weight.add_(0.3 * torch.randn_like(weight))
    made.generation_config.eos_token_id = None
    made.generation_config.suppress_tokens = [IMAGE]  # generated placeholders would ask for features
    return made.eval()


def written(kind: str, what: Any) -> tuple[list[int], int]:
    """Ids of a picture of (rows, cols) crops, or of a clip of so many frames, and its number of views."""
    whole = [MARK, GLOBAL, *[IMAGE] * TOKENS, MARK]
    if kind == "video":
        return [token for frame in range(what) for token in (LINE, 10, 20 + frame, *whole)], what
    rows, cols = what
    ids: list[int] = []
    for row in range(rows):
        for col in range(cols):
            ids += [MARK, 60 + 6 * row + col, *[IMAGE] * TOKENS]
        ids.append(LINE)
    return [*ids, *[LINE] * bool(rows), *whole], rows * cols + 1


def idefics_inputs(rows: Sequence[Sequence[Any]], seed: int = 0, sizes: bool = True) -> dict[str, Any]:
    """Inputs as a processor would make them, left-padded; `sizes` adds those that the stock one leaves out.

    Args:
        rows: of ids, and of ("image", (rows, cols) of crops) or ("video", frames).
        seed: of the pixels.
        sizes: whether `image_sizes` is among them.
    """
    generator = torch.Generator().manual_seed(seed)
    ids: list[list[int]] = []
    pixels: list[Tensor] = []
    stated: list[tuple[int, int, int]] = []
    for row in rows:
        text: list[int] = []
        views = 0
        for part in row:
            if isinstance(part, int):
                text.append(part)
                continue
            own, count = written(*part)
            text, views = text + own, views + count
            frames = part[1] if part[0] == "video" else 0
            size = (SIDE, SIDE) if frames else (SIDE * max(1, part[1][0]), SIDE * max(1, part[1][1]))
            stated.append((*size, frames))
        ids.append(text)
        pixels.append(torch.randn(views, 3, SIDE, SIDE, generator=generator))
    width, most = max(map(len, ids)), max(map(len, pixels))
    out: dict[str, Any] = {
        "input_ids": torch.tensor([[PAD] * (width - len(row)) + row for row in ids]),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
    }
    if most:
        stacked = torch.zeros(len(rows), most, 3, SIDE, SIDE)
        mask = torch.zeros(len(rows), most, SIDE, SIDE, dtype=torch.int64)
        for number, own in enumerate(pixels):
            stacked[number, : len(own)] = own
            mask[number, : len(own)] = 1
        out |= {"pixel_values": stacked, "pixel_attention_mask": mask}
        if sizes:
            out["image_sizes"] = torch.tensor(stated)
    return out

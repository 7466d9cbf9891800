"""Small random models of GLM-4.1V and GLM-4.6V, and inputs as their processors make them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
)

FAMILIES = ("glm4v", "glm46v")
IMAGE, VIDEO, START, END, CLIP, CLIP_END, PAD = 90, 91, 92, 93, 94, 95, 0
CLASSES = {
    "glm4v": (Glm4vConfig, Glm4vForConditionalGeneration),
    "glm46v": (Glm46VConfig, Glm46VForConditionalGeneration),
}
SCENES: dict[str, list[list[Any]]] = {
    "picture": [[5, 6, (1, 8, 12), 7, 8]],
    "pictures": [[5, (1, 8, 12), 6, (1, 4, 8), 7], [5, (1, 8, 4), 9, 9], [5, 4]],
    "clip": [[5, (4, 6, 6), 7, 8]],
    "clips": [[5, (3, 8, 4), 7, (2, 4, 8)], [6, (4, 4, 4), 7], [3, 4]],
}
"""Prompt rows for `glm_inputs`."""


@lru_cache(maxsize=4)
def glm_model(family: str) -> Any:
    """A random model in float32 and eval mode; cached, so tests may not change it for good."""
    torch.manual_seed(0)
    size = dict(hidden_size=32, intermediate_size=64)
    text = dict(
        **size,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=100,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=2,
        rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
    )
    vision = dict(**size, depth=2, num_heads=2, image_size=56, patch_size=14, out_hidden_size=32)
    config_class, model_class = CLASSES[family]
    ids = dict(image_token_id=IMAGE, video_token_id=VIDEO, image_start_token_id=START, image_end_token_id=END)
    ids |= dict(video_start_token_id=CLIP, video_end_token_id=CLIP_END)
    made: Any = model_class(config_class(vision_config=vision, text_config=text, **ids))
    with torch.no_grad():
        for weight in made.parameters():  # larger than they come, so that a mistake shows in the logits
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    made.generation_config.eos_token_id = None
    made.generation_config.suppress_tokens = [IMAGE, VIDEO]  # generated placeholders would ask for features
    return made.eval()


def written(grid: tuple[int, int, int]) -> list[int]:
    """Ids of a picture, which has one frame, or of a clip with the time of each frame behind it."""
    frame = [START, *[IMAGE] * (grid[1] * grid[2] // 4), END]
    if grid[0] == 1:
        return frame
    return [CLIP, *(token for number in range(grid[0]) for token in (*frame, 10, 20 + number)), CLIP_END]


def glm_inputs(rows: Sequence[Sequence[Any]], seed: int = 0) -> dict[str, Any]:
    """Inputs as a processor would make them, left-padded.

    Args:
        rows: of ids, and of grids (frames, height, width) in patches; those of one frame are pictures.
        seed: of the pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    ids, types, grids = [], [], []
    for row in rows:
        text: list[int] = []
        for part in row:
            grids += [] if isinstance(part, int) else [part]
            text += [part] if isinstance(part, int) else written(part)
        ids.append(text)
        types.append([(token == IMAGE) * (2 if CLIP in text else 1) for token in text])
    width = max(map(len, ids))
    pads = [[PAD] * (width - len(row)) for row in ids]
    out: dict[str, Any] = {
        "input_ids": torch.tensor([p + r for p, r in zip(pads, ids, strict=True)]),
        "attention_mask": torch.tensor([[0] * len(p) + [1] * len(r) for p, r in zip(pads, ids, strict=True)]),
        "mm_token_type_ids": torch.tensor([p + r for p, r in zip(pads, types, strict=True)]),
    }
    clips = grids[0][0] > 1
    pixels = torch.randn(int(torch.tensor(grids).prod(-1).sum()), 3 * 2 * 14 * 14, generator=generator)
    out["pixel_values_videos" if clips else "pixel_values"] = pixels
    out["video_grid_thw" if clips else "image_grid_thw"] = torch.tensor(grids)
    return out

"""Small random models of the Qwen-VL classes, and inputs as their processors make them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
DEEP = ("qwen3_vl", "qwen3_vl_moe")
HYBRIDS = ("qwen3_5", "qwen3_5_moe")
"""Families in which three of four decoder layers are no attention, so that dropped tokens cannot be masked."""
TIMED = (*DEEP, *HYBRIDS)
"""Families that write a time before every temporal patch of a clip."""
IMAGE, VIDEO, START, END, PAD = 90, 91, 92, 93, 0
MERGE, PATCH, FRAMES = 2, 4, 2
VALUES = 3 * FRAMES * PATCH * PATCH

PICTURE, WIDE, CLIP, LONG = (
    ("image", (1, 8, 12)),
    ("image", (1, 4, 14)),
    ("video", (3, 8, 4)),
    ("video", (4, 6, 6)),
)
SCENES: dict[str, list[list[Any]]] = {
    "image": [[5, 6, PICTURE, 7, 8]],
    "clip": [[5, LONG, 7, 8, 9]],
    "mixed": [[5, PICTURE, 6, CLIP, WIDE, 7, 8], [4, 4, CLIP, 9, LONG, 3, 6], [3, 2, 5]],
}
"""Prompt rows for `qwen_inputs`: one visual; several per row, of unequal grids, and a row of text."""

_TEXT: dict[str, Any] = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=100,
    pad_token_id=PAD,
    bos_token_id=1,
    eos_token_id=2,
    rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
)
_VISION = dict(depth=4, num_heads=2, patch_size=PATCH, temporal_patch_size=FRAMES, spatial_merge_size=MERGE)
_IDS = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=START, vision_end_token_id=END)


@lru_cache(maxsize=8)
def qwen_model(family: str, dtype: torch.dtype = torch.float32) -> Any:
    """A random model in eval mode; cached, so tests may not change it for good.

    Windows of Qwen2.5-VL are 2 x 2 tokens, and attention is full in its second and its last block.
    """
    torch.manual_seed(0)
    text, vision = dict(_TEXT), dict(_VISION)
    if family == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
        config: Any = Qwen2VLConfig(text_config=text, vision_config=vision, **_IDS)
        model: Any = Qwen2VLForConditionalGeneration(config)
    elif family == "qwen2_5_vl":
        vision |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32}
        vision |= {"fullatt_block_indexes": [1, 3], "window_size": 2 * MERGE * PATCH, "tokens_per_second": 4}
        config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_IDS)
        model = Qwen2_5_VLForConditionalGeneration(config)
    elif family in HYBRIDS:
        text |= {"num_hidden_layers": 4, "head_dim": 16, "linear_conv_kernel_dim": 4}
        text |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
        text |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
        text["rope_parameters"] = {**_TEXT["rope_parameters"], "partial_rotary_factor": 0.5}
        vision |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32}
        vision |= {"num_position_embeddings": 64}
        if family == "qwen3_5":
            config = Qwen3_5Config(text_config=text, vision_config=vision, **_IDS)
            model = Qwen3_5ForConditionalGeneration(config)
        else:
            text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
            text |= {"shared_expert_intermediate_size": 32}
            config = Qwen3_5MoeConfig(text_config=text, vision_config=vision, **_IDS)
            model = Qwen3_5MoeForConditionalGeneration(config)
    else:
        text["head_dim"] = 8
        vision |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32}
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 2]}
        if family == "qwen3_vl":
            config = Qwen3VLConfig(text_config=text, vision_config=vision, **_IDS)
            model = Qwen3VLForConditionalGeneration(config)
        else:
            text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
            config = Qwen3VLMoeConfig(text_config=text, vision_config=vision, **_IDS)
            model = Qwen3VLMoeForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():  # larger than they come, so that a mistake shows in the logits
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    model.generation_config.eos_token_id = None
    return model.eval().to(dtype)


def qwen_inputs(model: Any, rows: Sequence[Sequence[Any]], seed: int = 0) -> dict[str, Any]:
    """Inputs as a processor would make them, left-padded.

    Args:
        model: from `qwen_model`.
        rows: of ids, and of ("image" or "video", (frames, height, width) in patches).
        seed: of the pixels.
    """
    family = model.config.model_type
    generator = torch.Generator().manual_seed(seed)
    pixels: dict[str, list[Tensor]] = {"image": [], "video": []}
    grids: dict[str, list[Any]] = {"image": [], "video": []}
    ids, types = [], []
    for row in rows:
        written: list[int] = []
        for part in row:
            if isinstance(part, int):
                written.append(part)
                continue
            kind, grid = part
            pixels[kind].append(torch.randn(grid[0] * grid[1] * grid[2], VALUES, generator=generator))
            grids[kind].append(grid)
            written += placeholders(family, kind, grid)
        ids.append(written)
        types.append([(token == IMAGE) + 2 * (token == VIDEO) for token in written])
    width = max(map(len, ids))
    pads = [[PAD] * (width - len(row)) for row in ids]
    out: dict[str, Any] = {
        "input_ids": torch.tensor([p + r for p, r in zip(pads, ids, strict=True)]),
        "attention_mask": torch.tensor([[0] * len(p) + [1] * len(r) for p, r in zip(pads, ids, strict=True)]),
        "mm_token_type_ids": torch.tensor([p + r for p, r in zip(pads, types, strict=True)]),
    }
    for kind, key, grid_key in (
        ("image", "pixel_values", "image_grid_thw"),
        ("video", "pixel_values_videos", "video_grid_thw"),
    ):
        if pixels[kind]:
            out |= {key: torch.cat(pixels[kind]).to(model.dtype), grid_key: torch.tensor(grids[kind])}
    if pixels["video"] and family == "qwen2_5_vl":
        out["second_per_grid_ts"] = torch.tensor([0.5 + 0.25 * i for i in range(len(grids["video"]))])
    return out


def placeholders(family: str, kind: str, grid: tuple[int, int, int]) -> list[int]:
    """Ids of one visual in a prompt: one run, or of a clip of `TIMED` one per temporal patch behind its time."""
    length = grid[1] * grid[2] // MERGE**2
    if kind == "image":
        return [START, *[IMAGE] * length, END]
    if family not in TIMED:
        return [START, *[VIDEO] * (grid[0] * length), END]
    return [token for frame in range(grid[0]) for token in (20 + frame, 19, START, *[VIDEO] * length, END)]


def one_row(model: Any, rows: Sequence[Sequence[Any]], number: int, seed: int = 0) -> dict[str, Any]:
    """One row of `qwen_inputs` by itself, with the pixels that it has there and without padding."""
    whole = qwen_inputs(model, rows, seed)
    real = whole["attention_mask"][number].bool()
    out = {
        key: whole[key][number : number + 1, real]
        for key in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    for kind, key, grid_key in (
        ("image", "pixel_values", "image_grid_thw"),
        ("video", "pixel_values_videos", "video_grid_thw"),
    ):
        counts = [sum(not isinstance(part, int) and part[0] == kind for part in row) for row in rows]
        start, stop = sum(counts[:number]), sum(counts[: number + 1])
        if start == stop:
            continue
        parts = whole[key].split(whole[grid_key].prod(-1).tolist())
        out |= {key: torch.cat(parts[start:stop]), grid_key: whole[grid_key][start:stop]}
        if kind == "video" and "second_per_grid_ts" in whole:
            out["second_per_grid_ts"] = whole["second_per_grid_ts"][start:stop]
    return out

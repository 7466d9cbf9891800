"""Small random models of Gemma 3 and Gemma 4, and inputs for them without any processor."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    Gemma4VisionConfig,
    SiglipVisionConfig,
)

IMAGE, START, END, VIDEO, PAD = 90, 91, 92, 93, 0
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


PATCH, MERGE, MOST = 4, 3, 12
"""Of Gemma 4: side of a patch, patches along one side of a token, tokens that a view is filled to."""


@lru_cache(maxsize=8)
def gemma4(kind: str = "large", window: int = WINDOW, attention: str = "sdpa") -> Any:
    """A random model; "large" ones attend both ways within pictures, "small" ones have inputs per layer and share keys
    and values in their last layer. Cached, so tests may not change it for good."""
    torch.manual_seed(0)
    own: dict[str, Any] = {
        "large": {"use_bidirectional_attention": "vision", "hidden_size_per_layer_input": 0},
        "small": {
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": 100,
        },
    }[kind]
    config = Gemma4Config(
        vision_config=Gemma4VisionConfig(
            **_SIZE,
            num_hidden_layers=3,
            num_key_value_heads=4,
            head_dim=8,
            patch_size=PATCH,
            pooling_kernel_size=MERGE,
            position_embedding_size=64,
            standardize=kind == "large",
        ),
        text_config=Gemma4TextConfig(
            **_SIZE,
            num_hidden_layers=4,
            num_key_value_heads=2,
            head_dim=8,
            global_head_dim=16,
            vocab_size=100,
            sliding_window=window,
            layer_types=["sliding_attention", "full_attention"] * 2,
            pad_token_id=PAD,
            bos_token_id=None,
            eos_token_id=None,
            **own,
        ),
        audio_config=None,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        boi_token_id=START,
        eoi_token_id=END,
        audio_token_id=94,
    )
    model = Gemma4ForConditionalGeneration(config).eval()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("std_bias"):
                weight.normal_()
            elif name.endswith("std_scale"):
                weight.fill_(0.5)
            elif name.endswith("position_embedding_table"):
                weight.normal_()
            elif not isinstance(weight, torch.nn.Parameter):
                continue
            elif "embed_tokens" in name:
                weight.mul_(10.0)
            elif weight.ndim > 1:
                weight.mul_(3.0)
            elif "norm" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    model.generation_config.eos_token_id = None
    model.generation_config.suppress_tokens = [
        IMAGE,
        VIDEO,
        94,
    ]  # a generated placeholder would ask for features
    return model


def gemma4_inputs(rows: Sequence[Sequence[Any]], seed: int = 0) -> dict[str, Any]:
    """Inputs as the processor returns them, left-padded. A row is made of ids, of (rows, cols) of a picture's tokens,
    and of (frames, rows, cols) of a clip's."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[list[int]] = []
    views: dict[str, list[tuple[int, int]]] = {"image": [], "video": []}
    frames: list[int] = []
    for row in rows:
        written: list[int] = []
        for part in row:
            if isinstance(part, int):
                written.append(part)
                continue
            count, height, width = (1, *part) if len(part) == 2 else part
            kind, token = ("image", IMAGE) if len(part) == 2 else ("video", VIDEO)
            views[kind] += [(height, width)] * count
            frames += [count] * (kind == "video")
            for number in range(count):
                time = [10 + number, 9] if kind == "video" else []
                written += [*time, START, *[token] * (height * width), END, *([8] * (number < count - 1))]
        ids.append(written)
    width = max(map(len, ids))
    padded = torch.tensor([[PAD] * (width - len(row)) + row for row in ids])
    out: dict[str, Any] = {
        "input_ids": padded,
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
        "mm_token_type_ids": (padded == IMAGE) + 2 * (padded == VIDEO),
    }
    most = MOST * MERGE**2
    for kind, keys in (
        ("image", ("pixel_values", "image_position_ids")),
        ("video", ("pixel_values_videos", "video_position_ids")),
    ):
        if not views[kind]:
            continue
        pixels, places = torch.zeros(len(views[kind]), most, 3 * PATCH**2), []
        for one, (height, width) in zip(pixels, views[kind], strict=True):
            grid = (height * MERGE, width * MERGE)
            count = grid[0] * grid[1]
            one[:count] = torch.rand(count, 3 * PATCH**2, generator=generator)
            real = [(x, y) for y in range(grid[0]) for x in range(grid[1])]
            places.append(real + [(-1, -1)] * (most - count))
        out |= {keys[0]: pixels, keys[1]: torch.tensor(places)}
    if frames and COUNTS_FRAMES:
        out["num_frames_per_video"] = torch.tensor(frames)
    elif frames:  # older versions of transformers take clips of one length
        shape = (len(frames), frames[0])
        out |= {key: out[key].unflatten(0, shape) for key in ("pixel_values_videos", "video_position_ids")}
    return out


COUNTS_FRAMES = "num_frames_per_video" in inspect.signature(Gemma4ForConditionalGeneration.forward).parameters

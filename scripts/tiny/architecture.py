"""Architectures of the embedded models: stock transformers classes with small numbers."""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
)

VIEW: Final = 112
"""Side of a view (thumbnail, crop or frame), pixels."""
PATCH: Final = 14
"""Side of a patch, pixels."""
GRID: Final = VIEW // PATCH
"""Patches per side of a view."""

PINPOINTS: Final[dict[str, list[list[int]]]] = {
    "tiny-onevision": [[VIEW * rows, VIEW * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)],
    "tiny-next": [[224, 224], [112, 224], [224, 112], [112, 336], [336, 112]],
}
"""Model name to the (height, width) canvases of its any-resolution preprocessing."""

NATIVE: Final = "tiny-qwen"
"""The model of native resolution: no canvases, an image is resized to whole tokens."""
MERGE: Final = 2
"""Patches per side of a token of the model of native resolution."""
TEMPORAL: Final = 2
"""Frames of a temporal patch of that model."""

MODELS: Final = (*PINPOINTS, NATIVE)


def _text(vocabulary: int, tokens: dict[str, int]) -> dict[str, Any]:
    """Return the arguments all decoders share."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": 192,
        "intermediate_size": 448,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "bos_token_id": tokens["bos"],
        "eos_token_id": tokens["eos"],
        "pad_token_id": tokens["pad"],
    }


def build(name: str, vocabulary: int, tokens: dict[str, int]) -> PreTrainedModel:
    """Build a model with fresh weights (seed torch first).

    Args:
        name: "tiny-onevision", "tiny-next" or "tiny-qwen".
        vocabulary: number of token ids.
        tokens: ids of "bos", "eos", "pad", "image", "video", and "vision_start" and "vision_end" where there are any.

    Returns:
        The model in float32.

    Raises:
        ValueError: if `name` is none of them.
    """
    text = _text(vocabulary, tokens)
    if name == NATIVE:
        return _build_native(text, tokens)
    vision: dict[str, Any] = {
        "hidden_size": 160,
        "num_attention_heads": 5,
        "image_size": VIEW,
        "patch_size": PATCH,
        "hidden_act": "gelu_pytorch_tanh",
    }
    common = {
        "image_token_id": tokens["image"],
        "image_grid_pinpoints": PINPOINTS.get(name),
        "tie_word_embeddings": True,
    }
    if name == "tiny-onevision":
        vision_config = SiglipVisionConfig(
            **vision, intermediate_size=640, num_hidden_layers=4, vision_use_head=False
        )
        return LlavaOnevisionForConditionalGeneration(
            LlavaOnevisionConfig(
                vision_config=vision_config,
                text_config=Qwen2Config(**text),
                video_token_id=tokens["video"],
                vision_feature_layer=-1,
                vision_feature_select_strategy="full",
                vision_aspect_ratio="anyres_max_9",
                **common,
            )
        ).to(torch.float32)
    if name == "tiny-next":
        vision_config = CLIPVisionConfig(**vision, intermediate_size=480, num_hidden_layers=5)
        return LlavaNextForConditionalGeneration(
            LlavaNextConfig(
                vision_config=vision_config,
                text_config=LlamaConfig(**text, attention_bias=True),
                vision_feature_layer=-2,
                vision_feature_select_strategy="default",
                image_seq_length=GRID * GRID,
                **common,
            )
        ).to(torch.float32)
    raise ValueError(f"name={name!r} is not one of {', '.join(MODELS)}; choose one of them")


def _build_native(text: dict[str, Any], tokens: dict[str, int]) -> PreTrainedModel:
    """Build the Qwen3-VL: two levels of deepstack, and a narrower encoder, for its mergers are large."""
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [6, 5, 5],
        "mrope_interleaved": True,
    }
    config = Qwen3VLConfig(
        text_config={**text, "intermediate_size": 408, "head_dim": 32, "rope_parameters": rope},
        vision_config={
            "depth": 4,
            "hidden_size": 112,
            "intermediate_size": 448,
            "num_heads": 4,
            "patch_size": PATCH,
            "temporal_patch_size": TEMPORAL,
            "spatial_merge_size": MERGE,
            "out_hidden_size": text["hidden_size"],
            "num_position_embeddings": GRID * GRID,
            "deepstack_visual_indexes": [1, 2],
        },
        image_token_id=tokens["image"],
        video_token_id=tokens["video"],
        vision_start_token_id=tokens["vision_start"],
        vision_end_token_id=tokens["vision_end"],
        tie_word_embeddings=True,
    )
    return Qwen3VLForConditionalGeneration(config).to(torch.float32)

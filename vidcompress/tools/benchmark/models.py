"""Models of a benchmark: random weights of a named shape, drawn on the device, or a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from vidcompress.adapters.family.geometry import downsample_ratio
from vidcompress.core.devices import input_device
from vidcompress.errors import UnsupportedModelError
from vidcompress.tools.benchmark.plan import TINY_SIDE, BenchPlan

_TINY_PATCH, _TINY_HEAD, _TINY_WORDS = 14, 16, 128
_TINY = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}


def make_model(plan: BenchPlan) -> Any:
    """Make or load the model of a plan.

    Returns:
        A transformers model in eval mode. For a geometry its weights are random, drawn on the device, and its answers
        have no end token.

    Raises:
        Errors of `VisualQA.from_pretrained`; ArgumentError for an unknown device or attention implementation.
    """
    if plan.model is not None:
        from vidcompress.qa import VisualQA

        return VisualQA.from_pretrained(
            plan.model, device=plan.device, dtype=plan.dtype, attn_implementation=plan.attn_implementation
        ).model
    from vidcompress.loading.known_shapes import config_of

    assert plan.geometry is not None  # noqa: S101  (the plan has checked it)
    config = config_of(plan.geometry, decoder_layers=plan.decoder_layers, encoder_layers=plan.encoder_layers)
    return random_model(
        tiny(config) if plan.scale == "tiny" else config,
        device=plan.device,
        dtype=plan.dtype,
        attn_implementation=plan.attn_implementation,
        seed=plan.seed,
    )


def random_model(
    config: Any,
    *,
    device: str | None = None,
    dtype: str | None = None,
    attn_implementation: str | None = None,
    seed: int = 0,
) -> Any:
    """Make a model of a config with random weights.

    Args:
        config: of a supported family.
        device: of the weights; `cuda` where available.
        dtype: `float32` on the CPU, else `bfloat16`.
        attn_implementation: as in transformers.
        seed: of the weights.
    """
    from transformers import AutoModelForImageTextToText

    from vidcompress.loading.attention import check_attention

    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = getattr(torch, dtype or ("float32" if where.type == "cpu" else "bfloat16"))
    attention = {}
    if attn_implementation is not None:
        check_attention(attn_implementation)
        attention = {"attn_implementation": attn_implementation}
    torch.manual_seed(seed)
    with where:
        model = AutoModelForImageTextToText.from_config(config, dtype=kind, **attention)
    model.generation_config.eos_token_id = None  # answers have the requested length
    model.generation_config.pad_token_id = 0
    return model.to(where).eval()


def tiny(config: Any) -> Any:
    """Reduce a config's widths, vocabulary and resolution to a toy's; layers, crops and tokens per view are adapted.

    Args:
        config: of a named geometry; changed and returned. A view becomes 4 x 4 patches, and a canvas keeps its crops;
            an encoder of patches keeps their size, and with it the number of tokens.
    """
    vision, text = config.vision_config, config.get_text_config()
    for part in (vision, text):
        for name, value in _TINY.items():
            setattr(part, name, value)
    text.num_key_value_heads, text.head_dim, text.vocab_size = 2, _TINY_HEAD, _TINY_WORDS
    text.bos_token_id = text.eos_token_id = None
    if hasattr(vision, "image_size"):
        _tiny_views(config, vision)
    else:
        vision.num_heads, vision.out_hidden_size = _TINY["num_attention_heads"], _TINY["hidden_size"]
        text.rope_parameters |= {"mrope_section": [2, 3, 3], "partial_rotary_factor": 1.0}  # half a head
        if "linear_attention" in (getattr(text, "layer_types", None) or ()):
            text.linear_num_key_heads, text.linear_num_value_heads = 2, 4
            text.linear_key_head_dim = text.linear_value_head_dim = _TINY_HEAD
    config.image_token_id = config.image_token_index = _TINY_WORDS - 2
    if getattr(config, "video_token_id", None) is not None:
        config.video_token_id = config.video_token_index = _TINY_WORDS - 1
    return config


def _tiny_views(config: Any, vision: Any) -> None:
    """Reduce the views of an encoder of one size to 4 x 4 patches, and to half as many tokens a side for Gemma."""
    old = vision.image_size
    merge = 1 if hasattr(config, "mm_tokens_per_image") else round(1 / downsample_ratio(config))
    sizes = (TINY_SIDE, _TINY_PATCH // merge)
    paired = isinstance(old, (list, tuple))  # InternViT's config has both sides of a square
    vision.image_size, vision.patch_size = ([size, size] if paired else size for size in sizes)
    if hasattr(config, "mm_tokens_per_image"):
        config.mm_tokens_per_image = (TINY_SIDE // _TINY_PATCH // 2) ** 2
    if getattr(config, "image_grid_pinpoints", None):
        config.image_grid_pinpoints = [
            [side // old * TINY_SIDE for side in pair] for pair in config.image_grid_pinpoints
        ]


def weights_bytes(model: Any) -> int:
    """Count the bytes of a model's parameters and buffers, tied ones once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.device.type != "meta"
    }
    return sum(storages.values())


def model_metadata(model: Any) -> dict[str, Any]:
    """Return the metadata of a model for a result, as JSON types."""
    return {
        "name": Path(str(getattr(model.config, "_name_or_path", "") or model.config.model_type)).name,
        "class": type(model).__name__,
        "geometry": _shape(model),
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_bytes": weights_bytes(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
        "device": str(input_device(model)),
    }


def _shape(model: Any) -> dict[str, Any] | None:
    """Return the shape of a model as JSON types; None where its config lacks a number, as in other packages."""
    from vidcompress.adapters.model_shape import geometry_of

    try:
        shape: dict[str, Any] = json.loads(json.dumps(geometry_of(model.config).to_dict()))
    except UnsupportedModelError:
        return None
    return shape


def depth(described: dict[str, Any]) -> str:
    """Return layer counts in words, such as `2 encoder and 4 decoder layers`, from `model_metadata`."""
    geometry = described["geometry"]
    if geometry is None:
        return "unknown layers"
    return f"{geometry['encoder']['layers']} encoder and {geometry['decoder']['layers']} decoder layers"

"""Small configs of any class of transformers: its default config with fewer and narrower layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

WIDTH, HEAD, LAYERS, VOCABULARY = 64, 16, 2, 400
PATCHES = 8
"""Patches along a side of a picture, for encoders of one size."""
IMAGE, VIDEO = 390, 391
"""Ids of the placeholders of pictures and clips."""

_COUNTS = {
    "num_hidden_layers": LAYERS,
    "num_layers": LAYERS,
    "depth": LAYERS,
    "n_layers": LAYERS,
    "encoder_layers": LAYERS,
    "num_nextn_predict_layers": 0,
    "num_attention_heads": WIDTH // HEAD,
    "num_heads": WIDTH // HEAD,
    "attention_heads": WIDTH // HEAD,
    "num_key_value_heads": 2,
    "head_dim": HEAD,
    "attention_head_dim": HEAD,
    "qk_rope_head_dim": HEAD,
    "qk_nope_head_dim": HEAD,
    "qk_head_dim": 2 * HEAD,
    "v_head_dim": HEAD,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "hidden_size": WIDTH,
    "embed_dim": WIDTH,
    "out_hidden_size": WIDTH,
    "out_dim": WIDTH,
    "adapter_in_dim": WIDTH,
    "adapter_out_dim": WIDTH,
    "projection_hidden_size": WIDTH,
    "projection_dim": WIDTH,
    "text_hidden_size": WIDTH,
    "connector_hidden_size": WIDTH,
    "qformer_hidden_size": WIDTH,
    "encoder_hidden_size": WIDTH,
    "encoder_attention_heads": WIDTH // HEAD,
    "encoder_ffn_dim": 96,
    "merge_kernel_size": 2,
    "d_model": WIDTH,
    "intermediate_size": 96,
    "mlp_dim": 96,
    "ffn_dim": 96,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_local_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
}
"""Fields and what they become, where they are numbers."""


def parts(config: Any) -> Iterator[Any]:
    """A config and the configs in it."""
    from transformers import PreTrainedConfig

    yield config
    for value in list(vars(config).values()):
        if isinstance(value, PreTrainedConfig):
            yield from parts(value)


def shrink(config: Any, changes: Mapping[str, Any]) -> Any:
    """Make a config small, in place.

    Args:
        config: with default values.
        changes: by "field", or "part.field" such as "vision_config.image_size", what a class needs beside the rules.
    """
    for part in parts(config):
        for name, value in _COUNTS.items():
            old = vars(part).get(name)
            if isinstance(old, int) and not isinstance(old, bool) and old > 0:
                setattr(part, name, value)
        patch, side = vars(part).get("patch_size"), vars(part).get("image_size")
        if isinstance(patch, int) and isinstance(side, int):
            part.image_size = PATCHES * patch
        if isinstance(types := vars(part).get("layer_types"), (list, tuple)):
            # One layer of each kind, a hybrid's attention among them.
            kinds = list(dict.fromkeys(types))
            part.num_hidden_layers = max(LAYERS, len(kinds))
            part.layer_types = (kinds * LAYERS)[: part.num_hidden_layers]
        pinpoints = vars(part).get("image_grid_pinpoints")
        vision = vars(part).get("vision_config")
        if pinpoints and isinstance(getattr(vision, "patch_size", None), int):
            part.image_grid_pinpoints = [[2 * PATCHES * vision.patch_size, PATCHES * vision.patch_size]]
        if "deepstack_visual_indexes" in vars(part):
            part.deepstack_visual_indexes = [0, 1]
        _shorten_sections(part)
        for name in ("initializer_range", "init_std"):
            if isinstance(vars(part).get(name), float):
                setattr(part, name, 0.1)
        for name, value in vars(part).items():
            # Special ids beyond the vocabulary would be no rows of the embedding.
            if name.endswith(("token_id", "token_index")) and isinstance(value, int) and value >= VOCABULARY:
                setattr(part, name, VOCABULARY - 1)
            if name == "pad_token_id" and value is None:
                setattr(part, name, 0)
    for name in ("image_token_id", "image_token_index"):
        if hasattr(config, name):
            setattr(config, name, IMAGE)
    for name in ("video_token_id", "video_token_index"):
        if hasattr(config, name):
            setattr(config, name, VIDEO)
    for path, value in changes.items():
        *names, last = path.split(".")
        part = config
        for name in names:
            part = getattr(part, name)
        setattr(part, last, value)
    return config


def _shorten_sections(part: Any) -> None:
    """Make the sections of rotary positions with axes fit the heads."""
    for rope in (vars(part).get("rope_parameters"), vars(part).get("rope_scaling")):
        if isinstance(rope, dict) and "mrope_section" in rope:
            half = int(HEAD * float(rope.get("partial_rotary_factor") or 1)) // 2
            rope["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]


def _rope(sections: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": sections, **more}


_MROPE = {"text_config.rope_parameters": _rope([4, 2, 2])}
_LATENT = {"text_config.num_key_value_heads": WIDTH // HEAD}
"""Latent attention has keys for every head."""
_OMNI = {"vision_start_token_id": 380, "vision_end_token_id": 381}

CHANGES: dict[str, dict[str, Any]] = {
    "aria": {"projector_patch_to_query_dict": {PATCHES**2: 16}},
    "dots3_note": _LATENT,
    "ernie4_5_vl_moe": {
        "text_config.mlp_layer_types": ["dense", "sparse"],
        "text_config.moe_intermediate_size": [32, 32],
        "text_config.moe_k": 2,
        "text_config.rope_parameters": _rope([3, 3, 2]),
    },
    "gemma3": {"mm_tokens_per_image": 16},
    "glm5_next": _LATENT,
    "glm46v": _MROPE,
    "glm4v": _MROPE,
    "glm4v_moe": {"text_config.rope_parameters": _rope([2, 1, 1], partial_rotary_factor=0.5)},
    "glm_ocr": _MROPE,
    "hy_v4_vl": _LATENT,
    "kimi_k25": _LATENT,
    "mistral_large4": _LATENT,
    "muse_glimmer": {"out_hidden_size": 4 * WIDTH},
    "muse_spark": {"out_hidden_size": 4 * WIDTH},
    "paddleocr_vl": _MROPE,
    "qwen2_5_omni_thinker": {**_MROPE, **_OMNI},
    "qwen2_5_vl": _MROPE,
    "qwen2_vl": _MROPE,
    "qwen3_omni_moe_thinker": _OMNI,
    "vipllava": {"vision_feature_layers": [-2, -1]},
}
"""What single types need beside the rules."""
